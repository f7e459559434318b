"""A party's secrets in one session, and what two parties derive from each other's public keys.

All of a client's secrets come from one random `session secret` of 32 bytes, kept on its disk until the session is
over: whatever crashes, the same session gives the same bytes, and erasing one file erases them all.

    session secret ─HKDF─▶ mask key (X25519)   agrees on pairwise masks
                           share key (X25519)  encrypts shares for one peer
                           signing key         signs what the client says in this session (see `rounds.secure`)
                           self mask           the seed of the mask that only this client knows
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedge.errors import RoundError
from fedge.signing import PrivateKey

SALT = b"fedge/secagg/1"
KEY_BYTES = 32


def derive(secret: bytes, *labels: str | int) -> bytes:
    """Return 32 bytes that depend on `secret` and on the exact sequence of `labels` (HKDF-SHA256, RFC 5869)."""
    parts = [str(label).encode() for label in labels]
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=SALT, info=info).derive(secret)


@dataclass(frozen=True)
class Secrets:
    """The secrets of one client in session `session`, all from `secret`."""

    session: str
    secret: bytes = field(repr=False)

    @cached_property
    def mask_key(self) -> bytes:
        """The raw private key that pairwise masks come from; shared among the peers, for the case of a dropout."""
        return derive(self.secret, self.session, "mask key")

    @cached_property
    def share_key(self) -> bytes:
        """The raw private key under which peers exchange shares; never shared with anyone."""
        return derive(self.secret, self.session, "share key")

    @cached_property
    def self_mask(self) -> bytes:
        """The seed of the client's own mask; shared among the peers, for the case that it drops out after sending."""
        return derive(self.secret, self.session, "self mask")

    @cached_property
    def signing_key(self) -> PrivateKey:
        """Signs what the client says in this session; its enrolled key vouches for it once."""
        return PrivateKey(derive(self.secret, self.session, "signing key"))

    def step_self_mask(self, step: int, attempt: int) -> bytes:
        """Return the seed of the client's own mask in one attempt at one step of a session of several."""
        return derive(self.self_mask, "step", step, attempt)


def public_half(private: bytes) -> bytes:
    """Return the public key of a raw X25519 private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, *labels: str | int) -> bytes:
    """Return the 32 bytes that only the holders of these two keys can know (RFC 7748), bound to `labels`.

    Raises RoundError for a public key that leads every partner to the same secret.
    """
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise RoundError("a peer's public key is not one that a secret can be agreed with") from error
    return derive(shared, *labels)


def encrypt(key: bytes, plain: bytes, context: str) -> bytes:
    """Return `plain` encrypted (AES-256-GCM) under a key that is used for this one message only, bound to `context`."""
    return AESGCM(key).encrypt(bytes(12), plain, context.encode())


def decrypt(key: bytes, sealed: bytes, context: str) -> bytes:
    """Return what `encrypt` was given. Raises RoundError if it was tampered with, or meant for another context."""
    try:
        return AESGCM(key).decrypt(bytes(12), sealed, context.encode())
    except (InvalidTag, ValueError) as error:
        raise RoundError(f"a share was tampered with on its way ({context})") from error
