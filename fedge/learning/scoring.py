"""How good a model is: scores on public data, and a count of correct answers that can be noised."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedge.errors import UnsoundError
from fedge.learning.loader import Loader
from fedge.learning.models import load_params, one_thread
from fedge.learning.task import Records, Task, as_tensors, per_record
from fedge.params import Params

CHUNK = 1024
COUNT_GRID = 2.0**-20
"""Shares of a person's records are multiples of this, and so is the noise that hides them."""


def score(task: Task, params: Params, records: Records) -> dict[str, float]:
    """Return every metric of the task, and the mean loss, on `records`; these must be public."""
    features, targets = as_tensors(records)
    outputs = _outputs(task, params, features)
    losses = per_record(task.loss, outputs, targets)
    return {name: metric(outputs, targets) for name, metric in task.metrics.items()} | {"loss": float(losses.mean())}


def correct(task: Task, params: Params, loader: Loader, *, by_owner: bool = False) -> tuple[float, float]:
    """Return (records answered correctly, records read) of a classifier on the permitted records of `loader`.

    With `by_owner` it is people that are counted, each answered correctly by the share of their records that is, in
    multiples of COUNT_GRID. One record, or one person, changes this pair by at most sqrt(2) in L2 norm. Raises
    UnsoundError if outputs are not [batch, classes].
    """
    permitted, features, targets = loader.read(loader.eligible)
    outputs = _outputs(task, params, features)
    if outputs.ndim != 2 or targets.ndim != 1:
        raise UnsoundError("federated evaluation counts correct classes; this task's outputs are not [batch, classes]")
    right = (outputs.argmax(dim=1) == targets).numpy()
    if not by_owner:
        return float(np.count_nonzero(right)), float(len(right))
    _, owners = np.unique(loader.owners[permitted], return_inverse=True)
    shares = np.bincount(owners, weights=right) / np.bincount(owners)
    return float((np.rint(shares / COUNT_GRID) * COUNT_GRID).sum()), float(len(shares))


def _outputs(task: Task, params: Params, features: Tensor) -> Tensor:
    module = load_params(task.model(), params).eval()
    with one_thread(), torch.no_grad():
        parts = [module(features[i : i + CHUNK]) for i in range(0, max(1, len(features)), CHUNK)]
    return torch.cat(parts)


def parameter_count(params: Params) -> int:
    """Return the number of trainable parameters."""
    return int(sum(np.prod(v.shape) for v in params.values()))
