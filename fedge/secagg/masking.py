"""Masks: a client adds what its peers subtract, so that in the sum they vanish and only the sum is left.

    masked = encoded + self mask + Σ(peers after it) pair mask - Σ(peers before it) pair mask      (modulo 2**bits)

Each mask is an AES-256-CTR key stream (2.8 to 4.5 GB/s) under a key of its own. Bonawitz et al. 2017,
https://eprint.iacr.org/2017/281, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedge.secagg.keys import agree, derive
from fedge.secagg.ring import Ring, Word

BLOCK = 2**15
"""Words that are masked at a time: zeros, key stream and vector of a block stay in the processor's cache."""
_ZEROS = bytes(8 * BLOCK)


def _apply(words: Word, key: bytes, ring: Ring, *, add: bool) -> None:
    """Add the key stream of `key` to `words` in place, or take it away; the caller reduces."""
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    size, zeros = ring.dtype.itemsize, memoryview(_ZEROS)
    octets = bytearray(size * BLOCK + 15)  # the cipher asks for room for a block more
    mask = np.frombuffer(octets, ring.dtype, BLOCK)
    for start in range(0, len(words), BLOCK):
        part = words[start : start + BLOCK]
        encryptor.update_into(zeros[: size * len(part)], octets)
        if add:
            part += mask[: len(part)]
        else:
            part -= mask[: len(part)]


def pair_secret(private: bytes, public: bytes, session: str, one: str, other: str) -> bytes:
    """Return the secret from which `one` and `other` derive their masks in `session`; the same for both."""
    return agree(private, public, session, "pair", *sorted((one, other)))


def pair_key(secret: bytes, step: int, attempt: int) -> bytes:
    """Return the key of a pair's mask in one attempt at one step."""
    return derive(secret, "pair mask", step, attempt)


def self_key(seed: bytes) -> bytes:
    """Return the key of a client's own mask."""
    return derive(seed, "self mask stream")


def add_pair_masks(words: Word, me: str, keys: Mapping[str, bytes], ring: Ring) -> Word:
    """Add, in place, what `me` adds for each peer, and take away what it subtracts; `keys` by peer."""
    for peer, key in keys.items():
        _apply(words, key, ring, add=me < peer)
    return ring.reduced(words)


def add_self_mask(words: Word, seed: bytes, ring: Ring) -> Word:
    """Add, in place, the mask of `seed`."""
    _apply(words, self_key(seed), ring, add=True)
    return ring.reduced(words)


def subtract_self_masks(words: Word, seeds: Iterable[bytes], ring: Ring) -> Word:
    """Take away, in place, the masks of all `seeds`."""
    for seed in seeds:
        _apply(words, self_key(seed), ring, add=False)
    return ring.reduced(words)


def total(vectors: Iterable[Word], length: int, ring: Ring) -> Word:
    """Return the sum of all `vectors` in the ring."""
    summed: Word = np.zeros(length, ring.dtype)
    for vector in vectors:
        summed += vector
    return ring.reduced(summed)
