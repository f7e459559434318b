"""Evidence: a fold over verified log entries, and over nothing else.

A report never looks at a live run, a database or a metric file. What it says of data use, permission and privacy
is computed here from entries that the verifier has accepted, in one pass that keeps none of them but a few; each value
knows the entries it came from. What grade it has is said where it is reported, in `fedge.reports.report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedge.reports.evidence.clients import ClientEvidence, ClientFold
from fedge.reports.evidence.entry import Entry, Scope
from fedge.reports.evidence.events import EventEvidence, EventFold, Notable
from fedge.reports.evidence.people import PeopleFold, PersonAct
from fedge.reports.evidence.rounds import Evaluations, RoundEvidence, RoundFold

__all__ = [
    "ClientEvidence", "Entry", "Evaluations", "EventEvidence", "Evidence", "Notable", "PersonAct", "RoundEvidence",
    "Scope", "gather",
]  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """Everything a report of one run says, from its log."""

    run: Mapping[str, Any]
    opened: int
    clients: tuple[ClientEvidence, ...]
    rounds: tuple[RoundEvidence, ...]
    evaluations: Evaluations
    acts: tuple[PersonAct, ...]
    events: Mapping[str, EventEvidence]
    notable: tuple[Notable, ...]
    notable_count: int
    aggregations: tuple[str, ...]
    repeated: tuple[Entry, ...]
    closed: Entry | None
    last_at: str | None
    count: int

    @property
    def withdrawals(self) -> tuple[PersonAct, ...]:
        """The withdrawals that took effect."""
        return tuple(a for a in self.acts if a.kind == "withdrawal")

    @property
    def unit(self) -> str:
        """What one privacy guarantee protects; `none` without differential privacy."""
        return str(self.run.get("privacy_statement", {}).get("unit", "none"))

    @property
    def seeded(self) -> bool:
        """Whether the noise came from a published seed, and protects nobody."""
        return str(self.run.get("privacy_statement", {}).get("noise_source", "")).startswith("seeded")


@dataclass
class _Fold:
    """Everything that was read so far."""

    scope: Scope
    opening: Entry | None = None
    closing: Entry | None = None
    repeated: list[Entry] = field(default_factory=list)
    listed: list[Mapping[str, Any]] = field(default_factory=list)
    last_at: str | None = None
    count: int = 0
    clients: dict[str, ClientFold] = field(default_factory=dict)
    rounds: RoundFold = field(default_factory=RoundFold)
    people: PeopleFold = field(default_factory=PeopleFold)
    events: EventFold = field(default_factory=EventFold)

    def take(self, entry: Entry) -> None:
        self.count, self.last_at = self.count + 1, max(self.last_at or "", entry.payload["at"])
        self.events.take(entry)
        match entry.event:
            case "run_open":
                self.opening = entry
            case "client_enrol":
                self.clients[entry.payload["client"]] = ClientFold(entry)
            case "consent_snapshot" | "data_use" | "client_retire":
                if (client := self.clients.get(entry.payload["client"])) is not None:
                    client.take(entry)
            case "round_roll":
                self.listed += entry.payload["participants"]
            case "round_close":
                parts = [*self.listed, *entry.payload["participants"]]
                self.rounds.close(entry, parts)
                self.people.close(entry, parts)
                self.listed = []
            case "evaluation":
                self.rounds.evaluate(entry)
            case "withdrawal_effective" | "erasure_effective":
                self.people.act(entry)
            case "repeated_subjects":
                self.repeated.append(entry)
            case "run_close":
                self.closing = entry


def gather(entries: Iterable[Entry], scope: Scope | None = None) -> Evidence:
    """Return the evidence in `entries`, which come in the order of the log and are read once."""
    chosen = scope or Scope()
    fold = _Fold(chosen, rounds=RoundFold(chosen.client))
    for entry in chosen.of(entries):
        fold.take(entry)
    return Evidence(
        run=fold.opening.payload if fold.opening else {},
        opened=fold.opening.index if fold.opening else -1,
        clients=tuple(client.evidence for _, client in sorted(fold.clients.items())),
        rounds=tuple(fold.rounds.rounds),
        evaluations=fold.rounds.evaluations,
        acts=tuple(fold.people.acts),
        events=fold.events.events,
        notable=tuple(fold.events.notable),
        notable_count=fold.events.notable_count,
        aggregations=tuple(fold.rounds.aggregations),
        repeated=tuple(fold.repeated),
        closed=fold.closing,
        last_at=fold.last_at,
        count=fold.count,
    )
