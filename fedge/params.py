"""Model parameters as named numpy arrays: arithmetic, digests, safetensors bytes.

Shapes and dtypes are those of the model's state; order is the sorted order of names, so that digests and
sums never depend on who built the mapping. `digest(to_bytes(p))` is the SHA-256 of the `.safetensors` file:
what the log says of a model can be checked with `sha256sum`.

Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from fedge import encoding, files
from fedge.errors import ParseError, RoundError, StorageError

Params = Mapping[str, NDArray[np.floating]]


def to_bytes(params: Params) -> bytes:
    """Return the safetensors bytes of `params`; equal parameters give equal bytes."""
    return safetensors.numpy.save({name: np.ascontiguousarray(params[name]) for name in sorted(params)})


def from_bytes(data: bytes) -> dict[str, NDArray[np.floating]]:
    """Return the parameters of safetensors bytes. Raises ParseError."""
    try:
        loaded = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ParseError(f"not a safetensors file: {error}") from error
    return {name: loaded[name] for name in sorted(loaded)}


def digest(params: Params) -> str:
    """Return `sha256:<hex>` of the safetensors bytes of `params`."""
    return encoding.digest(to_bytes(params))


def add(left: Params, right: Params) -> dict[str, NDArray[np.floating]]:
    """Return left + right, name by name."""
    return {name: (left[name] + right[name]).astype(left[name].dtype) for name in sorted(left)}


def subtract(left: Params, right: Params) -> dict[str, NDArray[np.floating]]:
    """Return left - right, name by name."""
    return {name: (left[name] - right[name]).astype(left[name].dtype) for name in sorted(left)}


def flat(params: Params) -> NDArray[np.float64]:
    """Return all entries as one vector, in the order of names."""
    return np.concatenate([np.zeros(0), *(params[name].ravel() for name in sorted(params))], dtype=np.float64)


def shaped(vector: NDArray[np.float64], like: Params) -> dict[str, NDArray[np.floating]]:
    """Return `vector` with the names, shapes and dtypes of `like`; the inverse of `flat`."""
    found, place = {}, 0
    for name in sorted(like):
        part = vector[place : place + like[name].size]
        found[name] = part.reshape(like[name].shape).astype(like[name].dtype)
        place += like[name].size
    return found


def norm(params: Params) -> float:
    """Return the Euclidean norm over all entries."""
    return float(np.sqrt(sum(float(np.sum(np.square(v, dtype=np.float64))) for v in params.values())))


def check_like(params: Params, model: Params) -> None:
    """Raise RoundError unless `params` has exactly the names, shapes and dtypes of `model` and is finite."""
    if sorted(params) != sorted(model):
        odd = sorted(set(params) ^ set(model))
        raise RoundError(f"tensors differ from the model's: {', '.join(odd[:5])}")
    for name, expected in model.items():
        found = params[name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise RoundError(f"tensor {name} is {found.dtype}{found.shape}, not {expected.dtype}{expected.shape}")
        if not np.isfinite(found).all():
            raise RoundError(f"tensor {name} has values that are not finite")


def save(params: Params, path: Path) -> None:
    """Write `params` to `path` so that a crash leaves the old file or the new one, never a part."""
    files.write_atomically(path, to_bytes(params))


def load(path: Path) -> dict[str, NDArray[np.floating]]:
    """Read what `save` wrote."""
    try:
        return from_bytes(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
