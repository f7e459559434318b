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


def score(task: Task, params: Params, records: Records) -> dict[str, float]:
    """Return every metric of the task, and the mean loss, on `records`; these must be public."""
    features, targets = as_tensors(records)
    outputs = _outputs(task, params, features)
    losses = per_record(task.loss, outputs, targets)
    return {name: metric(outputs, targets) for name, metric in task.metrics.items()} | {"loss": float(losses.mean())}


def correct(task: Task, params: Params, loader: Loader) -> tuple[int, int]:
    """Return (records answered correctly, records read) of a classifier on the permitted records of `loader`.

    One record changes this pair by at most sqrt(2) in L2 norm. Raises UnsoundError if outputs are not [batch, classes].
    """
    features, targets = loader.read(loader.eligible)
    outputs = _outputs(task, params, features)
    if outputs.ndim != 2 or targets.ndim != 1:
        raise UnsoundError("federated evaluation counts correct classes; this task's outputs are not [batch, classes]")
    return int((outputs.argmax(dim=1) == targets).sum()), len(targets)


def _outputs(task: Task, params: Params, features: Tensor) -> Tensor:
    module = load_params(task.model(), params).eval()
    with one_thread(), torch.no_grad():
        parts = [module(features[i : i + CHUNK]) for i in range(0, max(1, len(features)), CHUNK)]
    return torch.cat(parts)


def parameter_count(params: Params) -> int:
    """Return the number of trainable parameters."""
    return int(sum(np.prod(v.shape) for v in params.values()))
