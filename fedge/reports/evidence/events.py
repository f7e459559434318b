"""What happened, by kind: the events of Article 12, and those that people should look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedge.audit.leaves import EVENTS
from fedge.reports.evidence.entry import Entry
from fedge.reports.evidence.series import Series
from fedge.reports.references import Refs, refs

NOTABLE = frozenset(
    {"incident", "update_rejected", "policy_change", "key_rotate", "key_revoke", "client_retire", "run_stopped",
     "run_resumed", "report_issued"}
)  # fmt: skip
LISTED = 200
"""Notable events that a report lists one by one; the CSV has them all."""


@dataclass(frozen=True)
class EventEvidence:
    """All entries of one kind: which aims of Article 12(2) they serve, and when they came.

    `times` are a few of them (entry, time), evenly picked, for a time line.
    """

    event: str
    aims: tuple[str, ...]
    first_at: str
    last_at: str
    times: tuple[tuple[int, str], ...]
    entries: Refs


@dataclass(frozen=True)
class Notable:
    """Something that people should look at: a fault, a stop, a changed rule or key."""

    event: str
    entry: int
    at: str
    client: str | None
    round: int | None
    reason: str | None
    detail: str | None


@dataclass
class EventFold:
    """What was read so far."""

    times: dict[str, Series[str]] = field(default_factory=dict)
    indices: dict[str, list[int]] = field(default_factory=dict)
    notable: list[Notable] = field(default_factory=list)
    notable_count: int = 0

    def take(self, entry: Entry) -> None:
        """Read one entry."""
        at = entry.payload["at"]
        self.times.setdefault(entry.event, Series()).add(entry.index, at)
        self.indices.setdefault(entry.event, []).append(entry.index)
        if entry.event in NOTABLE:
            self.notable_count += 1
            if len(self.notable) < LISTED:
                self.notable.append(_notable(entry))

    @property
    def events(self) -> Mapping[str, EventEvidence]:
        """Every kind that occurs, in the order in which the log knows them."""
        return {
            name: _event(name, kind.aims, self.times[name].points, self.indices[name])
            for name, kind in EVENTS.items()
            if name in self.indices
        }


def _event(name: str, aims: tuple[str, ...], times: tuple[tuple[int, str], ...], indices: list[int]) -> EventEvidence:
    return EventEvidence(name, aims, times[0][1], times[-1][1], times, refs(indices))


def _notable(entry: Entry) -> Notable:
    said = entry.payload
    return Notable(
        event=entry.event,
        entry=entry.index,
        at=said["at"],
        client=said.get("client"),
        round=said.get("round"),
        reason=said.get("kind") or said.get("reason"),
        detail=said.get("detail") or said.get("scope"),
    )
