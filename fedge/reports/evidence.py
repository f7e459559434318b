"""Evidence: a fold over verified log entries, and over nothing else.

A report never looks at a live run, a database or a metric file. What it says of data use, permission and privacy
is computed here from entries that the verifier has accepted, and each figure keeps the numbers of the entries it
came from and its grade:

    PROVEN    recomputed from the log and public keys
    ATTESTED  signed by the client, which alone could know it
    DECLARED  typed by a person
    MISSING   not in the log; shown, never hidden
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Grade = Literal["PROVEN", "ATTESTED", "DECLARED", "MISSING"]


class Entry(Protocol):
    """One verified log entry, as `audit.verify` returns it."""

    @property
    def index(self) -> int:
        """Its position in the log."""
        ...

    @property
    def event(self) -> str:
        """Its event type, e.g. `data_use`."""
        ...

    @property
    def payload(self) -> Mapping[str, Any]:
        """What it states."""
        ...


@dataclass(frozen=True)
class Figure:
    """One value of a report, with its grade and the entries that support it."""

    value: Any
    grade: Grade
    entries: tuple[int, ...] = ()


@dataclass(frozen=True)
class ClientEvidence:
    """What the log says of one client; `received` and `sent` are bytes of tensors, `formats` how updates travelled."""

    client: str
    key: str
    enrolled: int
    rounds: tuple[int, ...]
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    epsilon: tuple[tuple[int, float], ...]
    budget: float | None
    delta: str | None
    lineage: str
    used: Mapping[str, str]
    excluded: Mapping[str, str]
    permissions: tuple[str, ...]
    entries: tuple[int, ...]
    received: int
    sent: int
    formats: tuple[str, ...]

    @property
    def epsilon_total(self) -> float | None:
        """The largest total the client stated; spends are never refunded."""
        return max((value for _, value in self.epsilon), default=None)


@dataclass(frozen=True)
class RoundEvidence:
    """One closed round."""

    round: int
    index: int
    at: str
    accepted: int
    void: bool
    reason: str | None
    model: str
    participants: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Evidence:
    """Everything a report of one run says, from its log."""

    run: Mapping[str, Any]
    opened: int
    clients: tuple[ClientEvidence, ...]
    rounds: tuple[RoundEvidence, ...]
    evaluations: tuple[Entry, ...]
    withdrawals: tuple[Entry, ...]
    repeated: tuple[Entry, ...]
    incidents: tuple[Entry, ...]
    stops: tuple[Entry, ...]
    closed: Entry | None
    counts: Mapping[str, int] = field(default_factory=dict)


def gather(entries: Sequence[Entry]) -> Evidence:
    """Return the evidence in `entries`, in the order of the log."""
    opening = next((e for e in entries if e.event == "run_open"), None)
    enrolled = {e.payload["client"]: e for e in entries if e.event == "client_enrol"}
    return Evidence(
        run=opening.payload if opening else {},
        opened=opening.index if opening else -1,
        clients=tuple(_client(name, e, entries) for name, e in sorted(enrolled.items())),
        rounds=tuple(_round(e) for e in _of(entries, "round_close")),
        evaluations=tuple(_of(entries, "evaluation")),
        withdrawals=tuple(_of(entries, "withdrawal_effective")),
        repeated=tuple(_of(entries, "repeated_subjects")),
        incidents=tuple(e for e in entries if e.event in {"incident", "update_rejected"}),
        stops=tuple(e for e in entries if e.event in {"run_stopped", "run_resumed"}),
        closed=next(iter(_of(entries, "run_close")), None),
        counts=_tally(e.event for e in entries),
    )


def _of(entries: Iterable[Entry], event: str) -> list[Entry]:
    return [e for e in entries if e.event == event]


def _client(name: str, enrolment: Entry, entries: Sequence[Entry]) -> ClientEvidence:
    uses = [e for e in _of(entries, "data_use") if e.payload["client"] == name]
    training = [e for e in uses if e.payload["work"] == "train"]
    privacy = [(e.payload["round"], e.payload["privacy"]) for e in training]
    submitted = [e for e in training if e.payload["outcome"] == "submitted"]
    latest = training[-1].payload if training else None
    counts = (submitted or training)[-1].payload["counts"] if training else {}  # a refusal used no record
    return ClientEvidence(
        client=name,
        key=enrolment.payload["key"],
        enrolled=enrolment.index,
        rounds=tuple(e.payload["round"] for e in submitted),
        outcomes=_tally(e.payload["outcome"] for e in training),
        reasons=_tally(e.payload["reason"] for e in training if e.payload["reason"]),
        epsilon=tuple((r, float(p["epsilon_total"])) for r, p in privacy if p["epsilon_total"] is not None),
        budget=_number(latest["privacy"]["budget_epsilon"]) if latest else None,
        delta=latest["privacy"]["delta"] if latest else None,
        lineage=latest["dataset"]["lineage"] if latest else "",
        used=counts,
        excluded=counts.get("excluded", {}),
        permissions=tuple(dict.fromkeys(e.payload["permission"]["snapshot_digest"] for e in training)),
        entries=tuple(e.index for e in uses),
        received=sum(e.payload["resources"]["bytes_in"] for e in uses),
        sent=sum(e.payload["resources"]["bytes_out"] for e in uses),
        formats=tuple(dict.fromkeys(e.payload["format"] for e in training)),
    )


def _round(entry: Entry) -> RoundEvidence:
    body = entry.payload
    return RoundEvidence(
        round=body["round"],
        index=entry.index,
        at=body["at"],
        accepted=body["accepted"],
        void=body["void"],
        reason=body["reason"],
        model=body["model_out"],
        participants=tuple(body["participants"]),
    )


def _tally(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
