"""Shamir's secret sharing of 32-byte secrets: any `threshold` shares give the secret, fewer give nothing.

Arithmetic modulo the prime 2**256 + 297, the least above all secrets. Shamir 1979,
https://doi.org/10.1145/359168.359176. Coefficients come from a stream that is handed in, so that sharing the same
secret again after a crash gives the same shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from fedge.errors import RoundError

PRIME = 2**256 + 297
SECRET_BYTES, SHARE_BYTES = 32, 33


def split(secret: bytes, threshold: int, holders: Sequence[int], stream: Callable[[int], bytes]) -> dict[int, bytes]:
    """Return a share of `secret` for each of `holders` (distinct numbers from 1 on).

    `stream(n)` gives n random bytes. Raises RoundError for a threshold that is not between 1 and the number of holders.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(set(holders)) == len(holders) or min(holders) < 1:
        raise RoundError(f"cannot share a secret among {len(holders)} holders with threshold {threshold}")
    # 64 bytes modulo a prime of 257 bits: the bias is below 2**-255
    rest = [int.from_bytes(stream(64), "big") % PRIME for _ in range(threshold - 1)]
    coefficients = [int.from_bytes(secret, "big"), *rest]
    return {x: _value(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in holders}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret of `shares` by holder; the first `threshold` of them are used.

    Raises RoundError if they are too few, or not shares of one secret of 32 bytes.
    """
    if len(shares) < threshold:
        raise RoundError(f"{len(shares)} shares of a secret have come, {threshold} are needed")
    chosen = tuple(sorted(shares)[:threshold])
    weights = _weights(chosen)
    total = sum(w * int.from_bytes(shares[x], "big") for x, w in zip(chosen, weights, strict=True)) % PRIME
    if total >= 2 ** (8 * SECRET_BYTES):
        raise RoundError("the shares are not those of one secret")
    return total.to_bytes(SECRET_BYTES, "big")


def _value(coefficients: Sequence[int], x: int) -> int:
    total = 0
    for coefficient in reversed(coefficients):
        total = (total * x + coefficient) % PRIME
    return total


@lru_cache(maxsize=1024)  # the same holders answer for every secret of a round
def _weights(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights at 0."""
    weights = []
    for x in holders:
        above = below = 1
        for other in holders:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
