"""The server's arithmetic: from a sum of masked vectors, and what the peers gave up, to the sum itself.

Of every client whose vector is in the sum the self mask is taken away; of every client that dropped out before it had
sent one, the pair masks that the others had added for it. Secrets are checked against what their owner advertised, so a
false share ends in an error, never in a wrong sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedge.encoding import digest
from fedge.errors import RoundError
from fedge.secagg.keys import public_half
from fedge.secagg.masking import add_pair_masks, pair_key, pair_secret, subtract_self_masks
from fedge.secagg.ring import Ring, Word
from fedge.secagg.shares import regained


@dataclass(frozen=True)
class PublicKeys:
    """What a client shows of its secrets: two X25519 keys, and the digest of its self mask's seed."""

    mask_key: bytes
    share_key: bytes
    self_mask: str


@dataclass(frozen=True)
class Given:
    """The shares that were given, by client and holder; `needed` of them give a secret.

    `circles` name the holders of each client's shares, itself among them; None: all hold everybody's.
    """

    self_masks: Mapping[str, Mapping[str, bytes]]
    mask_keys: Mapping[str, Mapping[str, bytes]]
    needed: int
    circles: Mapping[str, Sequence[str]] | None = None

    def circle(self, name: str, everybody: Sequence[str]) -> Sequence[str]:
        """Return who holds shares of the secrets of `name`, sorted."""
        return everybody if self.circles is None else self.circles[name]

    def regained(self, shares: Mapping[str, Mapping[str, bytes]], name: str, everybody: Sequence[str]) -> bytes:
        """Return a secret of `name`; a share of somebody who holds none does not count. Raises RoundError."""
        holders = self.circle(name, everybody)
        given = {holder: share for holder, share in shares.get(name, {}).items() if holder in holders}
        return regained(given, holders, self.needed)


def unmasked(
    words: Word,
    ring: Ring,
    session: str,
    keys: Mapping[str, PublicKeys],
    survivors: Sequence[str],
    dropped: Sequence[str],
    given: Given,
) -> Word:
    """Return the sum of the survivors' vectors, in place of `words`, the sum of their masked ones.

    `keys` are those of all who hold shares; `dropped` are those whom the survivors have masked with and who sent
    nothing. Raises RoundError if too few shares of anybody's secret were given, or false ones.
    """
    everybody = sorted(keys)
    seeds = []
    for name in survivors:
        seed = given.regained(given.self_masks, name, everybody)
        if digest(seed) != keys[name].self_mask:
            raise RoundError(f"the shares of the self mask of {name} do not give what it has committed to")
        seeds.append(seed)
    subtract_self_masks(words, seeds, ring)
    for name in dropped:
        private = given.regained(given.mask_keys, name, everybody)
        if public_half(private) != keys[name].mask_key:
            raise RoundError(f"the shares of the mask key of {name} do not give the key that it has advertised")
        # What the dropped client would have added for each neighbour is what their masks still lack.
        own = set(given.circle(name, everybody))
        neighbours = [s for s in survivors if s in own or name in given.circle(s, everybody)]
        secrets = {s: pair_secret(private, keys[s].mask_key, session, name, s) for s in neighbours}
        add_pair_masks(words, name, {s: pair_key(secret, 1, 1) for s, secret in secrets.items()}, ring)
    return words
