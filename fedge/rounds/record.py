"""What a round was, for whoever watches: the coordinator yields one per round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fedge.ids import ClientId

Outcome = Literal["accepted", "refused", "rejected", "failed", "silent"]


@dataclass(frozen=True)
class Participation:
    """How one client took part; the epsilons are the client's own totals, at its own delta, None if it said none."""

    client: ClientId
    outcome: Outcome
    reason: str | None = None
    epsilon_total: float | None = None
    budget_epsilon: float | None = None


@dataclass(frozen=True)
class RoundRecord:
    """One closed round; `void` if too few updates came and the old model stays.

    `scores` are those of the new model on the server's public test set; `seconds` says where the time went.
    """

    round: int
    attempt: int
    participants: tuple[Participation, ...]
    void: bool
    reason: str | None
    model_in: str
    model_out: str
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0

    @property
    def accepted(self) -> int:
        """How many updates are in the new model."""
        return sum(p.outcome == "accepted" for p in self.participants)
