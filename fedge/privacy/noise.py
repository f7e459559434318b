"""Randomness for privacy: one key stream, two keys; a Gaussian that lives on a grid.

Opacus draws its noise from torch's generator, which `torch.manual_seed` repeats, and adds it in floating point, where
the low bits betray the value (Mironov 2012, https://doi.org/10.1145/2382196.2382264). Here noise is a *discrete*
Gaussian on a grid (Canonne, Kamath, Steinke 2020, https://arxiv.org/abs/2004.00010), drawn from an AES-256-CTR
stream. In production the key comes from the operating system (`secure`, the one sanctioned place that asks it) and is
renewed in a forked child; in a simulation it is derived from a seed (`seeded`), which repeats and protects nobody.

The sums that are noised are rounded to the same grid first. Rounding d coordinates can move a sum by up to
grid * sqrt(d) / 2 and its neighbour by as much the other way, so callers clip to `clip_norm - rounding_slack(grid, d)`.
"""

from __future__ import annotations

import math
import os
import weakref

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

_TWO_53 = 2.0**53


class Dice:
    """A stream of uniform bits and what is drawn from it. `name` says whose key it runs on."""

    def __init__(self, key: bytes, name: str, *, secure: bool) -> None:
        self.name, self.secure = name, secure
        self._rekey(key)

    def draw(self, count: int) -> bytes:
        """Return `count` bytes."""
        return self._stream.update(bytes(count))

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Return `count` numbers in (0, 1), multiples of 2**-53 shifted by half a step."""
        return _unit(np.frombuffer(self.draw(8 * count), dtype="<u8"))

    def bernoulli(self, count: int, probability: float) -> NDArray[np.bool_]:
        """Return `count` independent coins: a Poisson sample of that rate."""
        return self.uniform(count) < probability

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Return 0 … n - 1 in random order (sorting 64-bit keys; a tie has probability below n² / 2**53)."""
        return np.argsort(self.uniform(n), kind="stable").astype(np.int64)

    def discrete_gaussian(self, shape: tuple[int, ...], std: float, grid: float) -> NDArray[np.float64]:
        """Return discrete Gaussian noise of parameter `std` on multiples of `grid`, exactly representable in float64.

        Algorithm 3 of Canonne et al. vectorised: a discrete Laplace proposal, accepted with the exact probability up
        to 2**-53.
        """
        count = math.prod(shape)
        sigma = std / grid
        scale = math.floor(sigma) + 1
        kept: list[NDArray[np.float64]] = []
        missing = count
        while missing > 0:
            batch = self._accepted(int(missing * 1.32 + 2 * math.sqrt(missing)) + 16, sigma, scale)
            kept.append(batch[:missing])
            missing -= len(kept[-1])
        return np.concatenate(kept).reshape(shape) * grid if kept else np.zeros(shape)

    def _accepted(self, count: int, sigma: float, scale: int) -> NDArray[np.float64]:
        """Return the accepted ones of `count` discrete Laplace proposals of integer `scale`."""
        bits = np.frombuffer(self.draw(16 * count), dtype="<u8").reshape(2, count)
        magnitude = np.floor(np.log(_unit(bits[0])) * -scale)  # geometric: P(m) proportional to exp(-m / scale)
        negative = (bits[1] & np.uint64(1)).astype(np.bool_)  # one of the 11 bits that a uniform number does not use
        proposal = np.where(negative, -magnitude, magnitude)
        excess = np.square(magnitude - sigma * sigma / scale) / (2 * sigma * sigma)
        accept = (_unit(bits[1]) < np.exp(-excess)) & ~(negative & (magnitude == 0))  # one zero, not two
        accepted: NDArray[np.float64] = proposal[accept]
        return accepted

    def _rekey(self, key: bytes) -> None:
        self._stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()


def _unit(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the upper 53 of each 64 bits as a number in (0, 1)."""
    unit: NDArray[np.float64] = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / _TWO_53
    return unit


_SECURE: weakref.WeakSet[Dice] = weakref.WeakSet()


def secure() -> Dice:
    """Return dice keyed by the operating system; a forked child gets a new key, so that streams never repeat."""
    dice = Dice(os.urandom(32), "os-aes-ctr", secure=True)
    _SECURE.add(dice)
    return dice


def seeded(seed: int, *labels: str | int) -> Dice:
    """Return dice whose stream depends on `seed` and `labels` alone; equal arguments repeat it. Protects nobody."""
    info = "\x1f".join(str(label) for label in labels).encode()
    key = HKDF(hashes.SHA256(), 32, salt=b"fedge/seeded/1", info=info).derive(seed.to_bytes(8, "big"))
    return Dice(key, "seeded-aes-ctr", secure=False)


def grid_for(std: float) -> float:
    """Return a power of two near std * 2**-22: far finer than the noise, far coarser than float64."""
    return 2.0 ** (math.floor(math.log2(std)) - 22)


def rounding_slack(grid: float, dimension: int) -> float:
    """Return by how much rounding `dimension` coordinates to `grid` can enlarge the distance of two sums."""
    return grid * math.sqrt(dimension)


def _rekey_after_fork() -> None:
    for dice in _SECURE:
        dice._rekey(os.urandom(32))


os.register_at_fork(after_in_child=_rekey_after_fork)
