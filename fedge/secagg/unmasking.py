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
    """The shares that were given, by client and holder; `needed` of them give a secret."""

    self_masks: Mapping[str, Mapping[str, bytes]]
    mask_keys: Mapping[str, Mapping[str, bytes]]
    needed: int


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
    holders = sorted(keys)
    seeds = []
    for name in survivors:
        seed = regained(given.self_masks.get(name, {}), holders, given.needed)
        if digest(seed) != keys[name].self_mask:
            raise RoundError(f"the shares of the self mask of {name} do not give what it has committed to")
        seeds.append(seed)
    subtract_self_masks(words, seeds, ring)
    for name in dropped:
        private = regained(given.mask_keys.get(name, {}), holders, given.needed)
        if public_half(private) != keys[name].mask_key:
            raise RoundError(f"the shares of the mask key of {name} do not give the key that it has advertised")
        # What the dropped client would have added for each survivor is what their masks still lack.
        secrets = {s: pair_secret(private, keys[s].mask_key, session, name, s) for s in survivors}
        add_pair_masks(words, name, {s: pair_key(secret, 1, 1) for s, secret in secrets.items()}, ring)
    return words
