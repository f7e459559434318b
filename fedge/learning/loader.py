"""The only place that reads records for learning. Order of effect 1: consent before touch.

A Loader is given the records that were admitted at the start of the round, and a gate: the question "may these be
read, now?". It asks the gate at the moment it reads, every time, so that a withdrawal in another process a
millisecond ago keeps the record out of this batch and all later ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

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
        self._subjects = records.subjects
        self.eligible, self._gate, self._on_read = eligible, gate, on_read
        self._touched = np.zeros(len(records), dtype=np.bool_)
        self._dropped = np.zeros(len(records), dtype=np.bool_)

    @property
    def record_shape(self) -> tuple[int, ...]:
        """The shape of one record's features; says nothing of any record."""
        return tuple(self._features.shape[1:])

    @property
    def touched(self) -> NDArray[np.int64]:
        """The indices of all records read so far, ascending."""
        return np.flatnonzero(self._touched).astype(np.int64)

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """The number of the subject that each record is about; records of one subject have the same."""
        return np.unique(np.asarray(self._subjects), return_inverse=True)[1].astype(np.int64)

    @property
    def dropped(self) -> int:
        """How many records were read and added nothing (private)."""
        return int(np.count_nonzero(self._dropped))

    def drop(self, indices: NDArray[np.int64]) -> None:
        """Remember that the records at `indices` have added nothing: their gradients are not finite."""
        self._dropped[indices] = True

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        """Return which of `indices` are permitted at this moment, and the features and targets of those."""
        permitted = indices[self._gate(indices)] if len(indices) else indices
        # Consent before touch: below this line records are read, above it only their numbers.
        self._touched[permitted] = True
        if self._on_read is not None:
            self._on_read(permitted)
        chosen = torch.from_numpy(permitted)
        return permitted, self._features[chosen], self._targets[chosen]
