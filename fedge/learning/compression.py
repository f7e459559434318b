"""Smaller updates: fewer coordinates, fewer bits each; always after the noise, so that it can cost no privacy.

    change to the model (noised) → keep a share of the coordinates → round to few bits → travels

What is computed from a noised result alone is as private as the result (post-processing; Dwork and Roth 2014,
Proposition 2.1). Before the noise it would not be so: which coordinates are largest says something of the records.

Kept at random, coordinates are those of a public seed and are scaled up; rounding is up or down by chance. Both are
right on average (QSGD: Alistarh et al. 2017, https://arxiv.org/abs/1610.02132; Konecny et al. 2016,
https://arxiv.org/abs/1610.05492), so nothing need be remembered. Keeping the largest is not, and what it drops is lost.
There is no error feedback: what a client would carry over into later updates stems from records whose people may have
withdrawn since, and no withdrawal would reach it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fedge.encoding import decimal
from fedge.errors import RoundError
from fedge.params import Params, check_like, flat, shaped
from fedge.privacy.noise import Dice

VALUES, SCALES, PLACES = "compressed.values", "compressed.scales", "compressed.places"
FULL_BITS = 32
BITS = (2, 4, 8, FULL_BITS)


@dataclass(frozen=True)
class Compression:
    """A `share` of the coordinates is kept, at random or the `largest`; each travels in `bits` bits.

    With 32 bits a coordinate travels as it is; with fewer as a multiple of its tensor's largest, divided by
    2**(bits - 1) - 1.
    """

    share: float = 1.0
    keep: Literal["random", "largest"] = "random"
    bits: int = FULL_BITS

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError("share lies in (0, 1]: the part of the coordinates that travels")
        if self.keep not in {"random", "largest"}:
            raise ValueError("keep is random or largest")
        if self.bits not in BITS or isinstance(self.bits, bool):
            raise ValueError(f"bits is one of {', '.join(map(str, BITS))}")

    @property
    def nothing(self) -> bool:
        """Whether updates travel as they are."""
        return self.share == 1 and self.bits == FULL_BITS

    @property
    def format(self) -> str:
        """What the log calls the form of an update."""
        kept = "" if self.share == 1 else f"+{self.keep}:{decimal(self.share)}"
        return f"safetensors{kept}" + ("" if self.bits == FULL_BITS else f"+int{self.bits}")


def to_record(how: Compression) -> dict[str, Any]:
    """Return `how` as plain data, as an order carries it."""
    return {"share": decimal(how.share), "keep": how.keep, "bits": how.bits}


def from_record(record: Mapping[str, Any]) -> Compression:
    """Return the inverse; raises KeyError, TypeError or ValueError for what is none."""
    return Compression(float(record["share"]), record["keep"], record["bits"])


def compressed(change: Params, how: Compression, seed: str, dice: Dice) -> Params:
    """Return `change` as it travels; `seed` is public, what is rounded up or down by chance comes from `dice`."""
    vector = flat(change)
    tensors: dict[str, NDArray[Any]] = {}
    if how.share < 1:
        if how.keep == "random":
            places = _random_places(len(vector), how.share, seed)
            vector = vector[places] * (len(vector) / len(places))
        else:
            places = _largest_places(vector, how.share)
            tensors[PLACES], vector = places.astype(np.uint32), vector[places]
    else:
        places = np.arange(len(vector))
    if how.bits == FULL_BITS:
        tensors[VALUES] = vector.astype(np.float32)
    else:
        owner = _owner_of(change)[places]
        scales = _scales(vector, owner, len(change))
        tensors[SCALES], tensors[VALUES] = scales, _packed(_levels(vector, scales[owner], how.bits, dice), how.bits)
    return cast(Params, tensors)


def expanded(tensors: Params, how: Compression, seed: str, like: Params) -> Params:
    """Return the change that `tensors` stand for, in the shapes of `like`; raise RoundError for what is none.

    They come from whoever answered: every length, place, level and scale is checked before it is used.
    """
    size = sum(array.size for array in like.values())
    count = size if how.share == 1 else _kept(size, how.share)
    _check_names(tensors, how)
    places: NDArray[np.int64] = np.arange(size)
    if how.share < 1:
        places = (
            _random_places(size, how.share, seed) if how.keep == "random" else _checked_places(tensors, size, count)
        )
    values = _checked_values(tensors, how.bits, count, _owner_of(like)[places], len(like))
    vector = np.zeros(size)
    vector[places] = values
    with np.errstate(over="ignore"):  # what a float32 cannot hold becomes infinite, and is refused
        change = shaped(vector, like)
    check_like(change, like)
    return change


# ---- which coordinates ------------------------------------------------------------------------------------------


def _kept(size: int, share: float) -> int:
    return max(1, math.ceil(share * size)) if size else 0


def _random_places(size: int, share: float, seed: str) -> NDArray[np.int64]:
    """Return the same places to whoever knows the public seed, in ascending order."""
    key = hashlib.sha256(b"fedge/mask/1\x00" + seed.encode()).digest()
    return np.sort(Dice(key, "public-mask", secure=False).permutation(size)[: _kept(size, share)])


def _largest_places(vector: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    order = np.argsort(-np.abs(vector), kind="stable")
    return np.sort(order[: _kept(len(vector), share)]).astype(np.int64)


def _checked_places(tensors: Params, size: int, count: int) -> NDArray[np.int64]:
    places = np.asarray(tensors[PLACES])
    if places.dtype != np.uint32 or places.shape != (count,):
        raise RoundError(f"{PLACES} is {places.dtype}{places.shape}, not uint32({count},)")
    wide = places.astype(np.int64)
    if count and (wide[-1] >= size or not (np.diff(wide) > 0).all()):
        raise RoundError(f"{PLACES} are not ascending places of {size} coordinates")
    return wide


# ---- how many bits ----------------------------------------------------------------------------------------------


def _owner_of(params: Params) -> NDArray[np.int64]:
    """Return, for each coordinate of `flat(params)`, the number of the tensor that it belongs to."""
    sizes = [params[name].size for name in sorted(params)]
    return np.repeat(np.arange(len(sizes)), sizes)


def _scales(vector: NDArray[np.float64], owner: NDArray[np.int64], tensors: int) -> NDArray[np.float32]:
    """Return the largest magnitude in each tensor, rounded up to float32."""
    largest = np.zeros(tensors)
    np.maximum.at(largest, owner, np.abs(vector))
    scales = largest.astype(np.float32)
    return np.where(scales < largest, np.nextafter(scales, np.float32(np.inf)), scales).astype(np.float32)


def _top(bits: int) -> int:
    return int(2 ** (bits - 1) - 1)


def _levels(vector: NDArray[np.float64], scale: NDArray[np.float32], bits: int, dice: Dice) -> NDArray[np.uint8]:
    """Return each coordinate as a level from 0 to 2 * top, rounded up with the probability that makes it unbiased."""
    top = _top(bits)
    ratio = np.divide(vector, scale, out=np.zeros_like(vector), where=scale > 0)
    return (np.floor(ratio * top + dice.uniform(len(vector))) + top).astype(np.uint8)


def _packed(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return levels of `bits` bits, several to a byte, the first in the low bits."""
    per_byte = 8 // bits
    padded = np.concatenate([levels, np.zeros(-len(levels) % per_byte, np.uint8)]).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    octets: NDArray[np.uint8] = np.bitwise_or.reduce(padded << shifts, axis=1).astype(np.uint8)
    return octets


def _unpacked(octets: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Return `count` levels; raise RoundError for another number, a level that nobody sends, or bits left over."""
    per_byte = 8 // bits
    if octets.dtype != np.uint8 or octets.shape != (-(-count // per_byte),):
        raise RoundError(f"{VALUES} is {octets.dtype}{octets.shape}, which does not hold {count} values of {bits} bits")
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    levels = ((octets[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)
    if (levels[count:] != 0).any() or (levels[:count] > 2 * _top(bits)).any():
        raise RoundError(f"{VALUES} holds levels that no rounding gives")
    found: NDArray[np.uint8] = levels[:count]
    return found


def _checked_values(
    tensors: Params, bits: int, count: int, owner: NDArray[np.int64], parts: int
) -> NDArray[np.float64]:
    values = np.asarray(tensors[VALUES])
    if bits == FULL_BITS:
        if values.dtype != np.float32 or values.shape != (count,):
            raise RoundError(f"{VALUES} is {values.dtype}{values.shape}, not float32({count},)")
        return values.astype(np.float64)
    scales = np.asarray(tensors[SCALES])
    if scales.dtype != np.float32 or scales.shape != (parts,):
        raise RoundError(f"{SCALES} is {scales.dtype}{scales.shape}, not float32({parts},)")
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise RoundError(f"{SCALES} holds a scale that is negative or not finite")
    top = _top(bits)
    levels = _unpacked(cast(NDArray[np.uint8], values), bits, count).astype(np.float64) - top
    return np.asarray(levels / top * scales[owner].astype(np.float64))


def _check_names(tensors: Params, how: Compression) -> None:
    expected = {VALUES}
    if how.bits != FULL_BITS:
        expected.add(SCALES)
    if how.share < 1 and how.keep == "largest":
        expected.add(PLACES)
    if set(tensors) != expected:
        raise RoundError(f"a compressed update has {', '.join(sorted(expected))}, not {', '.join(sorted(tensors)[:5])}")
