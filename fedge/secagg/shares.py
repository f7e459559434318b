"""What each peer is given for the case that a client drops out: one share of each of its two secrets.

With both secrets the server could take a client's masked vector apart. So a peer gives it a share of the mask key of
those who dropped out, or of the self mask of those who sent their vector, and never both of one client; and the
threshold is so high that two groups of peers cannot be talked into giving different kinds (`threshold`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedge.errors import RoundError
from fedge.secagg import shamir
from fedge.secagg.keys import Secrets, agree, decrypt, derive, encrypt
from fedge.secagg.shamir import SHARE_BYTES


@dataclass(frozen=True)
class PeerShares:
    """One holder's shares of one client's secrets."""

    mask_key: bytes = field(repr=False)
    self_mask: bytes = field(repr=False)


def threshold(clients: int, colluding: int) -> int:
    """Return how many of `clients` must give their share before a secret is known.

    More than half of them and of the colluding ones together: each honest client gives one kind of share of a peer, a
    colluding one both, so no server can collect enough of both kinds (Bonawitz et al. 2017, section 6.2).
    """
    return (clients + colluding) // 2 + 1


def places(names: Sequence[str]) -> dict[str, int]:
    """Return each holder's place in the polynomial: 1, 2 … in the order of names."""
    return {name: place for place, name in enumerate(sorted(names), start=1)}


def share_out(secrets: Secrets, holders: Sequence[str], needed: int) -> dict[str, PeerShares]:
    """Return the shares of both secrets for each of `holders`; `needed` of them give a secret back."""
    where = places(holders)
    key = _split(secrets, "mask key", secrets.mask_key, where, needed)
    own = _split(secrets, "self mask", secrets.self_mask, where, needed)
    return {name: PeerShares(key[x], own[x]) for name, x in where.items()}


def _split(secrets: Secrets, label: str, secret: bytes, where: Mapping[str, int], needed: int) -> dict[int, bytes]:
    """Return the shares of one secret by place; the polynomial is the session's own, so it is the same every time."""
    key = derive(secrets.secret, secrets.session, "polynomial", label)
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return shamir.split(secret, needed, list(where.values()), lambda count: encryptor.update(bytes(count)))


def seal(secrets: Secrets, me: str, peer: str, peer_key: bytes, shares: PeerShares) -> bytes:
    """Return `shares` so that only `peer`, whose share key is `peer_key`, can read them and sees whose they are."""
    return encrypt(_key(secrets, peer_key, me, peer), shares.mask_key + shares.self_mask, f"from {me} to {peer}")


def unseal(secrets: Secrets, me: str, peer: str, peer_key: bytes, sealed: bytes) -> PeerShares:
    """Return what `peer` has sealed for `me`. Raises RoundError if it was tampered with."""
    plain = decrypt(_key(secrets, peer_key, peer, me), sealed, f"from {peer} to {me}")
    if len(plain) != 2 * SHARE_BYTES:
        raise RoundError(f"{peer} has sent something else than two shares")
    return PeerShares(plain[:SHARE_BYTES], plain[SHARE_BYTES:])


def _key(secrets: Secrets, peer_key: bytes, sender: str, receiver: str) -> bytes:
    return agree(secrets.share_key, peer_key, secrets.session, "shares", sender, receiver)


def regained(given: Mapping[str, bytes], holders: Sequence[str], needed: int) -> bytes:
    """Return the secret of the shares that holders have `given`. Raises RoundError if they are too few or not its."""
    where = places(holders)
    return shamir.combine({where[name]: share for name, share in given.items()}, needed)
