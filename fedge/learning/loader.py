"""The only place that reads records for learning. Order of effect 1: consent before touch.

A Loader is given the records that were admitted at the start of the round, and a gate: the question "may these be
read, now?". It asks the gate at the moment it reads, every time, so that a withdrawal in another process a
millisecond ago keeps the record out of this batch and all later ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedge.learning.task import Records, as_tensors

Gate = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
OnRead = Callable[[NDArray[np.int64]], None]


class Loader:
    """Reads admitted records, and remembers which were read.

    `on_read` is told the indices of every batch that was really read (tests trace it).
    """

    def __init__(
        self, records: Records, eligible: NDArray[np.int64], gate: Gate, on_read: OnRead | None = None
    ) -> None:
        self._features, self._targets = as_tensors(records)
        self.eligible, self._gate, self._on_read = eligible, gate, on_read
        self._touched = np.zeros(len(records), dtype=np.bool_)

    @property
    def record_shape(self) -> tuple[int, ...]:
        """The shape of one record's features; says nothing of any record."""
        return tuple(self._features.shape[1:])

    @property
    def touched(self) -> NDArray[np.int64]:
        """The indices of all records read so far, ascending."""
        return np.flatnonzero(self._touched).astype(np.int64)

    def read(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return features and targets of those of `indices` whose permission holds at this moment."""
        permitted = indices[self._gate(indices)] if len(indices) else indices
        # Consent before touch: below this line records are read, above it only their numbers.
        self._touched[permitted] = True
        if self._on_read is not None:
            self._on_read(permitted)
        chosen = torch.from_numpy(permitted)
        return self._features[chosen], self._targets[chosen]
