"""What the log says of the model: round by round, how good it became, and what of it was void."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedge.reports.evidence.entry import Entry
from fedge.reports.evidence.series import Series

NAMED = 12
"""Clients that a round names one by one if their update was not taken; with more, the counts by reason say it."""


@dataclass(frozen=True)
class RoundEvidence:
    """One closed round; `others` counts those whose update was not taken, by (outcome, reason)."""

    round: int
    index: int
    at: str
    accepted: int
    void: bool
    reason: str | None
    model: str
    others: Mapping[tuple[str, str | None], int]
    named: tuple[tuple[str, str, str | None], ...]


@dataclass(frozen=True)
class Evaluations:
    """How good the model became: curves by metric on the public test set, the latest of both kinds, their number."""

    curves: Mapping[str, tuple[tuple[int, float], ...]]
    first: Entry | None
    central: Entry | None
    federated: Entry | None
    count: int

    @property
    def headline(self) -> str | None:
        """The metric to name first: the first that is not the loss."""
        return next((n for n in sorted(self.curves) if n != "loss"), "loss") if self.curves else None


@dataclass
class RoundFold:
    """What was read of rounds and evaluations so far."""

    client: str | None = None
    rounds: list[RoundEvidence] = field(default_factory=list)
    curves: dict[str, Series[float]] = field(default_factory=dict)
    first: Entry | None = None
    central: Entry | None = None
    federated: Entry | None = None
    count: int = 0
    aggregations: dict[str, None] = field(default_factory=dict)

    def close(self, entry: Entry, participants: Sequence[Mapping[str, Any]]) -> None:
        """Read the end of a round; `participants` are all of it, those listed before this entry too."""
        said = entry.payload
        parts = [p for p in participants if self.client in {None, p["client"]}]
        others = [(p["client"], p["outcome"], p["reason"]) for p in parts if p["outcome"] != "accepted"]
        tally: dict[tuple[str, str | None], int] = {}
        for _, outcome, reason in others:
            tally[outcome, reason] = tally.get((outcome, reason), 0) + 1
        self.aggregations.setdefault(said["aggregation"])
        self.rounds.append(
            RoundEvidence(
                round=said["round"],
                index=entry.index,
                at=said["at"],
                accepted=sum(p["outcome"] == "accepted" for p in parts),
                void=said["void"],
                reason=said["reason"],
                model=said["model_out"],
                others=tally,
                named=tuple(others) if len(others) <= NAMED else (),
            )
        )

    def evaluate(self, entry: Entry) -> None:
        """Read how good the model is."""
        said: Mapping[str, Any] = entry.payload
        self.count += 1
        if said["scope"] == "federated":
            self.federated = entry
            return
        self.first, self.central = self.first or entry, entry
        for name, value in said["values"].items():
            self.curves.setdefault(name, Series()).add(said["round"], float(value))

    @property
    def evaluations(self) -> Evaluations:
        """What the evaluations come to."""
        curves = {name: series.points for name, series in sorted(self.curves.items())}
        return Evaluations(curves, self.first, self.central, self.federated, self.count)
