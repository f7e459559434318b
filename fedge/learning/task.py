"""A task is a frozen record of functions: data, model, loss, metrics. No base class to inherit from.

The loss returns one value per record, shape [batch]. That is a privacy rule, not a habit: a loss of one number
may have mixed the records (class-weighted means, contrastive terms), and then clipping per record bounds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedge.encoding import canonical, digest
from fedge.errors import DataError, UnsoundError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs [batch, ...], targets [batch]) -> losses [batch]"""
Metric = Callable[[Tensor, Tensor], float]
"""(outputs [batch, ...], targets [batch]) -> one number"""


@dataclass(frozen=True)
class Records:
    """Records of one holder: features [n, ...] float32, targets [n] int64, and who each record is about.

    `subjects` may repeat: one person can own several records. `sites` names where each record comes from, if the data
    have natural clients.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    subjects: tuple[str, ...]
    sites: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        counts = {len(self.features), len(self.targets), len(self.subjects)}
        if self.sites is not None:
            counts.add(len(self.sites))
        if len(counts) != 1:
            raise DataError(f"features, targets, subjects and sites differ in length: {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which records have only finite features: one NaN would turn a whole model into NaN."""
        flat = self.features.reshape(len(self), -1)
        return np.asarray(np.isfinite(flat).all(axis=1))

    def take(self, indices: NDArray[np.int64]) -> Records:
        """Return the records at `indices`, in that order."""
        sites = None if self.sites is None else tuple(self.sites[i] for i in indices)
        return Records(self.features[indices], self.targets[indices], tuple(self.subjects[i] for i in indices), sites)

    def schema_digest(self) -> str:
        """Return the digest of the shape and types of one record; says nothing of any record."""
        shape = list(self.features.shape[1:])
        return digest(canonical({"features": str(self.features.dtype), "shape": shape, "targets": "int64"}))


@dataclass(frozen=True)
class Data:
    """What a task learns from: records to be spread over clients, and a public test set that the server holds."""

    train: Records
    test: Records


@dataclass(frozen=True)
class Task:
    """What is learned. `metrics` are scores on outputs; the first is the headline."""

    name: str
    load: Callable[[], Data]
    model: Callable[[], nn.Module]
    loss: Loss
    metrics: Mapping[str, Metric]

    def __post_init__(self) -> None:
        if not self.metrics:
            raise DataError(f"task {self.name!r} names no metric; give at least one, e.g. {{'accuracy': accuracy}}")

    @property
    def headline(self) -> str:
        """The name of the first metric."""
        return next(iter(self.metrics))

    def digest(self) -> str:
        """Return the digest of what a node approves: name, architecture, loss and metric names."""
        names = {name: list(p.shape) for name, p in self.model().named_parameters()}
        loss = getattr(self.loss, "__qualname__", type(self.loss).__name__)
        return digest(canonical({"name": self.name, "parameters": names, "loss": loss, "metrics": list(self.metrics)}))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of logits [batch, classes], one value per record."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of records whose largest logit is at the target."""
    return float((outputs.argmax(dim=-1) == targets).double().mean())


def per_record(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the losses [batch]; raise UnsoundError if `loss` gave anything else."""
    losses = loss(outputs, targets)
    if losses.shape != targets.shape[:1]:
        raise UnsoundError(
            f"the loss returned shape {tuple(losses.shape)} for {len(targets)} records; it must return one value per "
            "record (reduction='none'): a loss that mixes records makes clipping per record meaningless"
        )
    return losses


def as_tensors(records: Records) -> tuple[Tensor, Tensor]:
    """Return features and targets as torch tensors that share memory where they can."""
    return torch.from_numpy(np.ascontiguousarray(records.features)), torch.from_numpy(records.targets)
