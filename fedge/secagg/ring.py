"""The integers that are summed: fixed-point numbers modulo 2**bits, wide enough that no sum can wrap.

Masks are uniform modulo 2**bits, so a masked vector is uniform too and says nothing. What is summed must come out
exactly: each client's coordinates stay within `bound`, and a ring that `clients` such vectors could overflow is
refused when it is made. Coordinates travel in `bits / 8` bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.errors import ParseError, RoundError, UnsoundError

Word = NDArray[np.unsignedinteger[Any]]
MOST_BITS = 64


@dataclass(frozen=True)
class Ring:
    """Integers modulo 2**bits for sums of up to `clients` vectors whose coordinates lie in [-bound, bound].

    Raises UnsoundError if such a sum could wrap.
    """

    bits: int
    clients: int
    bound: int

    def __post_init__(self) -> None:
        if self.bits not in range(8, MOST_BITS + 1, 8) or self.clients < 1 or self.bound < 1:
            raise UnsoundError(f"a ring has 8, 16 … {MOST_BITS} bits, at least one client and a bound of at least 1")
        if 2 * self.clients * self.bound >= 2**self.bits:
            raise UnsoundError(
                f"a sum of {self.clients} vectors within ±{self.bound} can wrap modulo 2**{self.bits}; use more bits, "
                "a coarser grid, a smaller clip norm or fewer clients"
            )

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The machine word that arithmetic is done in."""
        return np.dtype(np.uint32) if self.bits <= 32 else np.dtype(np.uint64)

    @property
    def width(self) -> int:
        """Bytes per coordinate on the wire."""
        return self.bits // 8

    def encode(self, integers: NDArray[np.int64]) -> Word:
        """Return `integers` as elements of the ring. Raises UnsoundError if one exceeds the bound."""
        if integers.size and max(int(integers.max()), -int(integers.min())) > self.bound:
            raise UnsoundError(f"a coordinate exceeds ±{self.bound}, beyond which a sum could wrap")
        return self.reduced(integers.astype(np.uint64).astype(self.dtype))

    def decode(self, total: Word) -> NDArray[np.int64]:
        """Return a sum as integers around 0. Raises RoundError for what no sum of encoded vectors can be."""
        shift = np.uint64(MOST_BITS - self.bits)
        integers = (total.astype(np.uint64) << shift).view(np.int64) >> np.int64(shift)
        if integers.size and max(int(integers.max()), -int(integers.min())) > self.clients * self.bound:
            raise RoundError("the unmasked sum is larger than all vectors together can be: a mask is wrong")
        return integers

    def reduced(self, words: Word) -> Word:
        """Return `words` modulo 2**bits, in place."""
        if self.bits < 8 * self.dtype.itemsize:
            words &= self.dtype.type(2**self.bits - 1)
        return words

    def to_bytes(self, words: Word) -> NDArray[np.uint8]:
        """Return reduced `words` as they travel: little endian, `width` bytes each."""
        octets = np.ascontiguousarray(words).view(np.uint8).reshape(-1, self.dtype.itemsize)
        return np.ascontiguousarray(octets[:, : self.width]).reshape(-1)

    def from_bytes(self, octets: NDArray[np.uint8]) -> Word:
        """Return the elements in `octets`; the inverse. Raises ParseError."""
        if octets.dtype != np.uint8 or octets.ndim != 1 or len(octets) % self.width:
            raise ParseError(f"not a masked vector: expected whole elements of {self.width} bytes")
        wide = np.zeros((len(octets) // self.width, self.dtype.itemsize), np.uint8)
        wide[:, : self.width] = octets.reshape(-1, self.width)
        words: Word = wide.reshape(-1).view(self.dtype)
        return words


def ring_for(clients: int, bound: int) -> Ring:
    """Return the smallest ring in which `clients` vectors within ±`bound` can be summed. Raises UnsoundError."""
    for bits in range(8, MOST_BITS, 8):
        if 2 * clients * bound < 2**bits:
            return Ring(bits, clients, bound)
    return Ring(MOST_BITS, clients, bound)


def to_grid(values: NDArray[np.floating], exponent: int) -> NDArray[np.int64]:
    """Return `values` in units of 2**exponent, rounded to the nearest. Raises UnsoundError for what is no number."""
    scaled = np.rint(np.ldexp(values.astype(np.float64), -exponent))
    if not np.isfinite(scaled).all() or (scaled.size and float(np.abs(scaled).max()) >= 2.0**62):
        raise UnsoundError("a value is not finite, or far too large for its grid")
    return scaled.astype(np.int64)


def from_grid(integers: NDArray[np.int64], exponent: int) -> NDArray[np.float64]:
    """Return `integers` times 2**exponent."""
    return np.ldexp(integers.astype(np.float64), exponent)
