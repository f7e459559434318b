"""How accepted updates become the next global model: a value that holds a function.

An aggregation is judged on what it declares: how many updates it needs, whether it must see them one by one
(then it cannot work under secure aggregation). `combine` is pure: the memory it needs from one round to the
next (moments, momentum) goes in and comes out, so that a resumed run continues exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedge.errors import RoundError
from fedge.ids import ClientId
from fedge.params import Params

Memory = Mapping[str, Params]
Name = Literal[
    "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad",
    "median", "trimmed_mean", "krum", "multi_krum", "bulyan",
]  # fmt: skip
ROBUST: frozenset[Name] = frozenset({"median", "trimmed_mean", "krum", "multi_krum", "bulyan"})
"""Aggregations that must see updates one by one; none of them can work under secure aggregation."""


@dataclass(frozen=True)
class Strategy:
    """Settings of an aggregation; each name reads only those that its paper has.

    `weighting` uniform gives every client one vote; examples weighs by record count and so discloses it.
    `proximal_mu` is FedProx's pull towards the global model. `server_learning_rate`, `server_momentum`, `beta_1`,
    `beta_2` and `tau` are those of FedAvgM and the adaptive family (https://arxiv.org/abs/2003.00295, Algorithm 2).
    `trim` is the share cut from each side, `malicious` the number of hostile clients tolerated, `select` how many
    updates multi-Krum keeps.
    """

    name: Name = "fedavg"
    weighting: Literal["uniform", "examples"] = "uniform"
    proximal_mu: float = 0.0
    server_learning_rate: float = 1.0
    server_momentum: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3
    trim: float = 0.2
    malicious: int = 0
    select: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.trim < 0.5:
            raise ValueError("trim is a share of each side: from 0 up to, not including, 0.5")
        if self.malicious < 0 or self.select < 1:
            raise ValueError("malicious cannot be negative and select is at least 1")
        if self.server_learning_rate <= 0 or self.tau <= 0 or self.proximal_mu < 0:
            raise ValueError("server_learning_rate and tau are above 0, proximal_mu is not below 0")
        if not (0 <= self.server_momentum < 1 and 0 <= self.beta_1 < 1 and 0 <= self.beta_2 < 1):
            raise ValueError("server_momentum, beta_1 and beta_2 lie in [0, 1)")


@dataclass(frozen=True)
class Contribution:
    """One accepted update: the client's change to the model, and its weight (1 unless sizes are public)."""

    client: ClientId
    delta: Params
    weight: float = 1.0


@dataclass(frozen=True)
class Combined:
    """The next global model and what the aggregation remembers."""

    params: Params
    memory: Memory


Combine = Callable[[Params, Memory, Sequence[Contribution], int], Combined]
"""(current model, memory, contributions sorted by client, round) -> Combined; may raise RoundError."""


@dataclass(frozen=True)
class Aggregation:
    """A named way to combine updates; `needs` is the least number of updates it is defined for."""

    name: str
    combine: Combine
    needs: int = 1
    sees_single_updates: bool = False


def mean(params: Params, memory: Memory, contributions: Sequence[Contribution], _round: int) -> Combined:
    """Weighted mean of the deltas, added to the model: federated averaging in one line.

    McMahan et al. 2017, https://arxiv.org/abs/1602.05629. Sums in float64 in the order of client names, so the
    result does not depend on who answered first.
    """
    total = sum(c.weight for c in contributions)
    if not contributions or total <= 0:
        raise RoundError("there is no update to average")
    shares = [(c.weight / total, c.delta) for c in sorted(contributions, key=lambda c: c.client)]
    stepped = {
        name: (value + sum(share * delta[name].astype(np.float64) for share, delta in shares)).astype(value.dtype)
        for name, value in params.items()
    }
    return Combined(stepped, memory)
