"""What the log says of each client: its part in the run, its data, its permissions, its privacy, what it took.

One fold over its statements. Nothing of a statement is kept but its number and what a figure needs, so that a client
with a thousand statements takes no more memory than one with ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedge.reports.evidence.entry import Entry
from fedge.reports.evidence.series import Series
from fedge.reports.references import Refs, refs


@dataclass(frozen=True)
class ClientEvidence:
    """One client. Each `…_entries` or `latest` says which entries a figure came from; `permissions` are digests."""

    client: str
    organisation: str
    key: str
    enrolled: int
    retired: int | None
    rounds_taken: int
    outcome_entries: Mapping[str, Refs]
    reason_entries: Mapping[str, Refs]
    epsilon: tuple[tuple[int, float], ...]
    epsilon_total: float | None
    epsilon_entry: int | None
    privacy: Mapping[str, Any]
    latest: int | None
    dataset: Mapping[str, Any]
    counts: Mapping[str, Any]
    counts_entry: int | None
    purposes: tuple[str, ...]
    legal_bases: tuple[str, ...]
    permission: Mapping[str, Any]
    permission_entry: int | None
    permissions: tuple[str, ...]
    policies: tuple[str, ...]
    codes: tuple[str, ...]
    secure_aggregation: bool
    resources: Mapping[str, int]
    energy_sources: tuple[str, ...]
    devices: tuple[str, ...]
    formats: tuple[str, ...]
    entries: Refs

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many training orders came to what."""
        return {outcome: len(entries) for outcome, entries in self.outcome_entries.items()}

    @property
    def reasons(self) -> Mapping[str, int]:
        """How often each reason was given."""
        return {reason: len(entries) for reason, entries in self.reason_entries.items()}

    @property
    def budget(self) -> float | None:
        """The epsilon that the owner allows, as of its last statement."""
        found = self.privacy.get("budget_epsilon")
        return None if found is None else float(found)

    @property
    def delta(self) -> str | None:
        """The delta at which its epsilons are stated."""
        return self.privacy.get("delta")

    @property
    def lineage(self) -> str:
        """Its owner's name for the data set."""
        return str(self.dataset.get("lineage", ""))

    @property
    def excluded(self) -> Mapping[str, str]:
        """Ranges of records left out, by reason, in the statement that `counts_entry` names."""
        return self.counts.get("excluded") or {}


@dataclass
class ClientFold:
    """What was read of one client so far."""

    enrolment: Entry
    retired: int | None = None
    latest: Entry | None = None
    counted: Entry | None = None
    submitted: bool = False
    permission: Entry | None = None
    epsilon: Series[float] = field(default_factory=Series)
    most: tuple[float, int] | None = None
    outcomes: dict[str, list[int]] = field(default_factory=dict)
    reasons: dict[str, list[int]] = field(default_factory=dict)
    entries: list[int] = field(default_factory=list)
    words: dict[str, dict[str, None]] = field(default_factory=dict)
    took: dict[str, int] = field(default_factory=dict)
    secure: bool = False

    def take(self, entry: Entry) -> None:
        """Read one statement of this client."""
        match entry.event:
            case "consent_snapshot":
                self._permission(entry)
            case "data_use":
                self._use(entry)
            case "client_retire":
                self.retired = entry.index

    def _use(self, entry: Entry) -> None:
        said = entry.payload
        self.entries.append(entry.index)
        self._permission(entry)
        self._note("purposes", [said["purpose"]])
        self._note("legal_bases", said["legal_bases"])
        self._note("codes", [said["digests"]["code"]])
        self._resources(said["resources"])
        if said["work"] != "train":
            return
        self._note("formats", [said["format"]])
        self.outcomes.setdefault(said["outcome"], []).append(entry.index)
        if said["reason"]:
            self.reasons.setdefault(said["reason"], []).append(entry.index)
        self.latest, self.secure = entry, self.secure or said["secure_aggregation"]
        if said["outcome"] == "submitted" or not self.submitted:  # a refusal used no record
            self.counted, self.submitted = entry, said["outcome"] == "submitted"
        self._spend(entry)

    def _spend(self, entry: Entry) -> None:
        stated = entry.payload["privacy"]["epsilon_total"]
        if stated is not None:
            total = float(stated)
            self.epsilon.add(entry.payload["round"], total)
            if self.most is None or total >= self.most[0]:  # spends are never refunded: the largest is the latest
                self.most = (total, entry.index)

    def _permission(self, entry: Entry) -> None:
        self.permission = entry
        self._note("permissions", [entry.payload["permission"]["snapshot_digest"]])
        self._note("policies", [entry.payload["permission"]["policy_digest"]])

    def _resources(self, said: Mapping[str, Any]) -> None:
        for name in ("wall_ms", "cpu_ms", "bytes_in", "bytes_out", "energy_mj"):
            self.took[name] = self.took.get(name, 0) + (said[name] or 0)
        self._note("energy_sources", [said["energy_source"]])
        self._note("devices", [said["device"]])

    def _note(self, what: str, words: Iterable[str]) -> None:
        self.words.setdefault(what, {}).update(dict.fromkeys(words))

    def _noted(self, what: str) -> tuple[str, ...]:
        return tuple(self.words.get(what, {}))

    @property
    def evidence(self) -> ClientEvidence:
        """What it comes to."""
        enrolment, latest = self.enrolment.payload, self.latest.payload if self.latest else {}
        counted = self.counted.payload if self.counted else {}
        return ClientEvidence(
            client=enrolment["client"],
            organisation=enrolment["organisation"],
            key=enrolment["key"],
            enrolled=self.enrolment.index,
            retired=self.retired,
            rounds_taken=len(self.outcomes.get("submitted", [])),
            outcome_entries={k: refs(v) for k, v in sorted(self.outcomes.items())},
            reason_entries={k: refs(v) for k, v in sorted(self.reasons.items())},
            epsilon=self.epsilon.points,
            epsilon_total=self.most[0] if self.most else None,
            epsilon_entry=self.most[1] if self.most else None,
            privacy=latest.get("privacy", {}),
            latest=self.latest.index if self.latest else None,
            dataset=latest.get("dataset", {}),
            counts=counted.get("counts", {}),
            counts_entry=self.counted.index if self.counted else None,
            purposes=self._noted("purposes"),
            legal_bases=self._noted("legal_bases"),
            permission=self.permission.payload["permission"] if self.permission else {},
            permission_entry=self.permission.index if self.permission else None,
            permissions=self._noted("permissions"),
            policies=self._noted("policies"),
            codes=self._noted("codes"),
            secure_aggregation=self.secure,
            resources=self.took,
            energy_sources=self._noted("energy_sources"),
            devices=self._noted("devices"),
            formats=self._noted("formats"),
            entries=refs(self.entries),
        )
