"""Permission as a fold over append-only events: ask it as of any moment, for any purpose.

Kinds are one thing: a person's consent, an opt-out from secondary use (EHDS Art. 71), a data permit or a legal basis
for a whole data set. What a moment's answer is:

1. a standing opt-out of the subject for this purpose: denied, whatever else is there;
2. else the subject's own latest grant or refusal for this purpose, in the order it was recorded;
3. else a permit or legal basis for the whole data set (subject `*`);
4. else denied.

Intervals are half-open: valid at `valid_from`, no longer valid at `valid_until`. On a tie of `recorded_at` the later
appended wins, and a withdrawal beats a grant recorded in the same millisecond: the stricter wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedge.consent.purposes import covers, purpose
from fedge.encoding import moment, timestamp

Act = Literal["grant", "refuse", "withdraw"]
Kind = Literal["consent", "opt_out", "permit", "legal_basis"]
EVERYONE = "*"
NEVER = "~"
"""Sorts after every time."""


class Reason(IntEnum):
    """Why a record is admitted or not; the names stand in logs and reports."""

    admitted = 0
    no_consent = 1
    refused = 2
    withdrawn = 3
    expired = 4
    not_yet_valid = 5
    purpose_mismatch = 6
    opt_out = 7


@dataclass(frozen=True)
class PermissionEvent:
    """One fact: on `recorded_at` somebody granted, refused or withdrew a permission.

    `subject` is a pseudonym, or `*` for the whole data set (permit, legal_basis). Times are RFC 3339 UTC strings as
    `encoding.timestamp` prints them. `evidence` is the digest of the signed form or the permit's number.
    """

    act: Act
    kind: Kind
    subject: str
    purposes: tuple[str, ...]
    valid_from: str
    recorded_at: str
    valid_until: str | None = None
    evidence: str | None = None

    def __post_init__(self) -> None:
        if not self.subject or not self.purposes:
            raise ValueError("a permission names a subject and at least one purpose")
        for name in self.purposes:
            purpose(name)
        start, _ = moment(self.valid_from), moment(self.recorded_at)
        if self.valid_until is not None and moment(self.valid_until) <= start:
            raise ValueError(f"valid_until {self.valid_until} is not after valid_from {self.valid_from}")
        if (self.subject == EVERYONE) != (self.kind in {"permit", "legal_basis"}):
            raise ValueError("permit and legal_basis are for subject '*', consent and opt_out for one subject")


@dataclass(frozen=True)
class Verdicts:
    """One Reason code per record, in the order asked."""

    codes: NDArray[np.int8]

    @property
    def admitted(self) -> NDArray[np.bool_]:
        """Which records may be read."""
        return np.equal(self.codes, int(Reason.admitted))

    def counts(self) -> dict[str, int]:
        """Return how many records each reason excludes; reasons of nobody are left out."""
        found, numbers = np.unique(self.codes[self.codes != Reason.admitted], return_counts=True)
        return {Reason(int(code)).name: int(number) for code, number in zip(found, numbers, strict=True)}


@dataclass(frozen=True)
class Permissions:
    """All permission events of one client, by subject, in the order they were appended."""

    by_subject: Mapping[str, tuple[PermissionEvent, ...]]

    def judge(self, subjects: Sequence[str], wanted: str, at: datetime) -> Verdicts:
        """Return a verdict per subject, for the purpose `wanted` at the moment `at`.

        Each distinct subject is judged once, then spread over its records. An unknown purpose admits nobody.
        """
        now = timestamp(at)
        names, places = np.unique(np.asarray(subjects, dtype=object).astype(str), return_inverse=True)
        everyone = self._latest(EVERYONE, wanted, now)
        codes = np.fromiter((self._judge(str(n), wanted, now, everyone) for n in names), np.int8, len(names))
        return Verdicts(codes[places] if len(names) else np.zeros(0, np.int8))

    def next_change(self, at: datetime) -> str:
        """Return the first moment after `at` at which a verdict may change without a new event, or NEVER."""
        now = timestamp(at)
        moments = (m for e in self._events() for m in (e.recorded_at, e.valid_from, e.valid_until) if m is not None)
        return min((m for m in moments if m > now), default=NEVER)

    def _events(self) -> Iterator[PermissionEvent]:
        for events in self.by_subject.values():
            yield from events

    def _judge(self, subject: str, wanted: str, now: str, everyone: Reason) -> Reason:
        own = self._latest(subject, wanted, now)
        if own in {Reason.no_consent, Reason.purpose_mismatch} and everyone == Reason.admitted:
            return Reason.admitted
        return own

    def _latest(self, subject: str, wanted: str, now: str) -> Reason:
        known = [e for e in self.by_subject.get(subject, ()) if e.recorded_at <= now]
        matching = [e for e in known if any(covers(purpose(p), wanted) for p in e.purposes)]
        if not matching:
            return Reason.purpose_mismatch if known else Reason.no_consent
        kinds = {e.kind: e for e in sorted(matching, key=_order)}  # the last of each kind stands
        opt_out = kinds.pop("opt_out", None)
        if opt_out is not None and opt_out.act == "grant" and _state(opt_out, now) == Reason.admitted:
            return Reason.opt_out
        if not kinds:
            return Reason.no_consent
        # kinds of one subject contradict: the stricter stands
        return max((_state(e, now) for e in kinds.values()), key=lambda r: r != Reason.admitted)


def fold(before: Permissions, events: Iterable[PermissionEvent]) -> Permissions:
    """Return the state after `events`; the state before is not changed."""
    by_subject = dict(before.by_subject)
    for event in events:
        by_subject[event.subject] = (*by_subject.get(event.subject, ()), event)
    return Permissions(by_subject)


NOTHING = Permissions({})


def _order(event: PermissionEvent) -> tuple[str, bool]:
    return event.recorded_at, event.act != "grant"


def _state(event: PermissionEvent, now: str) -> Reason:
    if event.act == "refuse":
        return Reason.refused
    if event.act == "withdraw":
        return Reason.withdrawn
    if now < event.valid_from:
        return Reason.not_yet_valid
    if event.valid_until is not None and now >= event.valid_until:
        return Reason.expired
    return Reason.admitted
