"""Permission events as columns: a million are a few arrays, and a question to all of them a few array operations.

An event is its terms (everything that many people's events have in common: act, kind, purposes, scope, conditions) and
what is its own: subject, times, evidence. Times are milliseconds since 1970; no end is `ENDLESS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from fedge.consent.events import PermissionEvent
from fedge.encoding import timestamp

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENDLESS = 2**62
Integers = NDArray[np.int64]
Own = tuple[str | None, str | None, str | None]
"""Evidence, record and version of one event."""


def milliseconds(text: str) -> int:
    """Return the milliseconds since 1970 of an `encoding.timestamp`."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def text_of(moment: int) -> str:
    """Return the `encoding.timestamp` of milliseconds since 1970; the inverse of `milliseconds`."""
    return timestamp(EPOCH + timedelta(milliseconds=moment))


class Numbers:
    """Distinct things numbered in the order they came; only grows, so states that share it stay true."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._things: list[PermissionEvent] = []
        self._asked: tuple[object, int, Integers] | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, key: object, example: PermissionEvent) -> int:
        """Return the number of `key`; `example` is kept for a new one."""
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self._things):
            self._things.append(example)
        return number

    def find(self, keys: Sequence[str]) -> Integers:
        """Return the number of each key, -1 for an unknown one; the very same tuple asked again is not read again."""
        if self._asked is not None and self._asked[0] is keys and self._asked[1] == len(self):
            return self._asked[2]
        found = np.fromiter(map(self._numbers.get, keys, repeat(-1)), np.int64, len(keys))
        if isinstance(keys, tuple):
            self._asked = (keys, len(self), found)
        return found

    def example(self, number: int) -> PermissionEvent:
        """Return the event that was kept for `number`."""
        return self._things[number]


@dataclass(frozen=True)
class Columns:
    """One row per event, in the order appended; `struck` is when a correction took it back."""

    subject: Integers
    terms: Integers
    recorded: Integers
    start: Integers
    end: Integers
    struck: Integers
    own: Mapping[int, Own]

    def __len__(self) -> int:
        return len(self.subject)


def empty() -> Columns:
    """Return no rows."""
    none = np.zeros(0, np.int64)
    return Columns(none, none, none, none, none, none, {})


def terms_key(event: PermissionEvent) -> object:
    """Return all of `event` that does not belong to it alone."""
    return (
        event.act,
        event.kind,
        event.purposes,
        event.excepted,
        event.conditions,
        event.dataset,
        event.categories,
        event.data_from,
        event.data_until,
        event.controller,
        event.legal_bases,
        event.jurisdiction,
        event.unread,
    )


def appended(before: Columns, events: Sequence[PermissionEvent], people: Numbers, terms: Numbers) -> Columns:
    """Return the columns with `events` below; `before` is not changed, `people` and `terms` learn new ones."""
    first = len(before)
    rows = np.array(
        [
            (
                people.of(e.subject, e),
                terms.of(terms_key(e), e),
                milliseconds(e.recorded_at),
                milliseconds(e.valid_from),
                ENDLESS if e.valid_until is None else milliseconds(e.valid_until),
                ENDLESS,
            )
            for e in events
        ],
        dtype=np.int64,
    ).reshape(-1, 6)
    own = {
        first + place: (e.evidence, e.record, e.version)
        for place, e in enumerate(events)
        if e.evidence or e.record or e.version
    }
    old = (before.subject, before.terms, before.recorded, before.start, before.end, before.struck)
    subject, number, recorded, start, end, struck = (np.concatenate([a, rows[:, i]]) for i, a in enumerate(old))
    grown = Columns(subject, number, recorded, start, end, struck, {**before.own, **own} if own else before.own)
    return _corrected(grown, [(first + i, e) for i, e in enumerate(events) if e.act == "correct"], terms)


def row(columns: Columns, place: int, people: Numbers, terms: Numbers) -> PermissionEvent:
    """Return the event in row `place`."""
    evidence, record, version = columns.own.get(place, (None, None, None))
    end = int(columns.end[place])
    return replace(
        terms.example(int(columns.terms[place])),
        subject=people.example(int(columns.subject[place])).subject,
        valid_from=text_of(int(columns.start[place])),
        recorded_at=text_of(int(columns.recorded[place])),
        valid_until=None if end == ENDLESS else text_of(end),
        evidence=evidence,
        record=record,
        version=version,
    )


def _corrected(columns: Columns, corrections: Sequence[tuple[int, PermissionEvent]], terms: Numbers) -> Columns:
    """Return `columns` with the permissions struck that stand before a correction of their record."""
    if not corrections:
        return columns
    wanted = {e.record for _, e in corrections}
    places: dict[tuple[int, str | None], list[int]] = {}
    for place, (_, record, _) in columns.own.items():
        if record in wanted and terms.example(int(columns.terms[place])).permits:
            places.setdefault((int(columns.subject[place]), record), []).append(place)
    struck = columns.struck.copy()
    for at, event in corrections:
        for place in places.get((int(columns.subject[at]), event.record), ()):
            if place < at:
                struck[place] = min(struck[place], columns.recorded[at])
    return replace(columns, struck=struck)
