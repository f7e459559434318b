"""The server's state between rounds, on disk: prepared before the log is sealed, released after, kept for later.

`pending.safetensors` is a model nobody may see yet; `states/round-000012.safetensors` is the state after round 12, one
file a round, from which a run can be redone (see `fedge.unlearning`); the public `model.safetensors` is the released
one. Order of effect 3 (log before release) is the order of these calls:

    prepare(state) → append leaves → seal checkpoint with witnesses → publish → release()

If we crash before the leaves are appended, the pending state is forgotten and the round is tried again. If we
crash after, the log says which model it was, and `release` finds it in `pending.safetensors`: it writes the public
model first and the state last, so that whoever finds the state finds the model too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedge import params as parameters
from fedge.errors import ParseError
from fedge.files import write_atomically
from fedge.learning.aggregation import Memory
from fedge.params import Params

_ROUND, _MODEL, _MEMORY = "round", "model/", "memory/"


@dataclass(frozen=True)
class State:
    """The global model after `round` rounds (0 is the initial model) and what the aggregation remembers."""

    round: int
    params: Params
    memory: Memory = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Digest of the model: the SHA-256 of its safetensors file."""
        return parameters.digest(self.params)


class StateStore:
    """The files of a run's state; every write is atomic and durable. `keep` newest states stay, None keeps all."""

    def __init__(self, private: Path, public: Path, keep: int | None = None) -> None:
        self._states, self._pending = private / "states", private / "pending.safetensors"
        self._model, self._keep = public / "model.safetensors", keep

    def released(self) -> State | None:
        """Return the released state, or None before the first release."""
        kept = self.kept()
        return self.after(kept[-1]) if kept else None

    def kept(self) -> list[int]:
        """Return the rounds whose states are kept, ascending."""
        return sorted(int(p.stem.removeprefix("round-")) for p in self._states.glob("round-*.safetensors"))

    def after(self, round_: int) -> State | None:
        """Return the state after `round_` rounds, or None if it is not kept."""
        return _load(self._file(round_))

    def pending(self) -> State | None:
        """Return the prepared state, if there is one."""
        return _load(self._pending)

    def prepare(self, state: State) -> None:
        """Make `state` durable where nobody reads it."""
        write_atomically(self._pending, _flatten(state))

    def release(self, state: State) -> None:
        """Make `state` the released one and publish its model."""
        parameters.save(state.params, self._model)
        write_atomically(self._file(state.round), _flatten(state))
        self._pending.unlink(missing_ok=True)
        for round_ in self.kept()[: -self._keep] if self._keep else ():
            self._file(round_).unlink(missing_ok=True)

    def _file(self, round_: int) -> Path:
        return self._states / f"round-{round_:06d}.safetensors"


def _flatten(state: State) -> bytes:
    tensors = {_MODEL + name: value for name, value in state.params.items()}
    for slot, arrays in state.memory.items():
        tensors |= {f"{_MEMORY}{slot}/{name}": value for name, value in arrays.items()}
    return parameters.to_bytes(tensors | {_ROUND: np.asarray([state.round], dtype=np.float64)})


def _load(path: Path) -> State | None:
    if not path.exists():
        return None
    tensors = parameters.load(path)
    if _ROUND not in tensors:
        raise ParseError(f"{path} is not a state file")
    model = {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}
    return State(int(tensors[_ROUND][0]), model, _memory(tensors))


def _memory(tensors: Mapping[str, np.ndarray]) -> Memory:
    slots: dict[str, dict[str, np.ndarray]] = {}
    for key, value in tensors.items():
        if key.startswith(_MEMORY):
            slot, name = key.removeprefix(_MEMORY).split("/", 1)
            slots.setdefault(slot, {})[name] = value
    return slots
