"""Federated evaluation: how good the model is on records that no client has trained on.

Each client answers with its count of correct answers and its count of records, both with discrete Gaussian noise that
its own ledger accounts for; the server learns neither number exactly, and an accuracy with a known error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fedge.audit.leaves import Evaluation
from fedge.encoding import decimal
from fedge.params import Params
from fedge.rounds.job import COUNT_SENSITIVITY
from fedge.rounds.tally import Tally

LIKE: Params = {"correct": np.zeros(1), "total": np.zeros(1)}
"""The shapes of an answer."""
LEAST_RATIO = 4.0
"""A client is shown by itself only if its noisy count of records is this many times the noise."""


def evaluation(
    run: str, at: str, round_: int, model: str, tallies: Sequence[Tally], noise_multiplier: float
) -> Evaluation | None:
    """Return the log entry of what the clients answered, or None if too little is left beside the noise.

    `accuracy` is over all clients, `accuracy_error` one standard deviation of what the noise adds to it, and
    `accuracy.<client>` the same for clients with enough records. `noise_std` is that of each count.
    """
    std = noise_multiplier * COUNT_SENSITIVITY
    counts = {t.part.client: _counts(t.tensors) for t in tallies if t.tensors is not None}
    hits, total = (sum(c[i] for c in counts.values()) for i in (0, 1))
    if not counts or total < LEAST_RATIO * std * math.sqrt(len(counts)):
        return None
    share = _share(hits, total)
    values = {"accuracy": share, "accuracy_error": std * math.sqrt(len(counts) * (1 + share**2)) / total}
    for client, (client_hits, client_total) in sorted(counts.items()):
        if client_total >= LEAST_RATIO * std:
            values[f"accuracy.{client}"] = _share(client_hits, client_total)
    return Evaluation(run, at, round_, "federated", model, _printed(values), decimal(std), len(counts))


def _counts(tensors: Params) -> tuple[float, float]:
    return float(tensors["correct"][0]), float(tensors["total"][0])


def _share(hits: float, total: float) -> float:
    return min(1.0, max(0.0, hits / total))


def _printed(values: Mapping[str, float]) -> dict[str, str]:
    return {name: decimal(round(value, 4)) for name, value in values.items()}
