"""Taking permission records in from elsewhere: one transaction, and a report that says what became of every entry.

A source is any iterable of entries: a file reader of this package, or your own function. An entry gives events, or is
refused with a reason; an entry that could be read but not understood gives a refusal (closed by default) and is counted
under what was not understood. If any entry is refused nothing at all is taken, unless the caller says otherwise.

People may be called by their identifiers in a source: `names` says what they are called here, a batch at a time.

An entry that `replaces` is the present state of its source's own record: what that record permitted before is struck
by a correction, so that a permission which the newer version no longer names is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import NoReturn

from fedge.consent.events import EVERYONE, PermissionEvent
from fedge.consent.purposes import ANY
from fedge.consent.store import Incoming, PermissionStore
from fedge.encoding import timestamp

BATCH = 2_000
LISTED = 1_000
"""Refused entries that a report names one by one; it counts all."""


@dataclass(frozen=True)
class Entry:
    """One entry of a source: `events`, or why there are none.

    `refused` is a fault of the entry; `aside` says that it is sound and says nothing about the use of data.
    """

    place: str
    events: tuple[PermissionEvent, ...] = ()
    refused: str | None = None
    aside: str | None = None
    replaces: bool = False


@dataclass(frozen=True)
class ImportReport:
    """What became of the entries. `accepted` counts events added, `known` those that were here already.

    `rejected` and `aside` give (place, reason); `not_understood` how many entries were read as a refusal, by code.
    """

    entries: int
    accepted: int
    known: int
    refused: int
    rejected: tuple[tuple[str, str], ...]
    aside: tuple[tuple[str, str], ...]
    not_understood: Mapping[str, int]
    taken: bool


@dataclass
class _Tally:
    """The report as it grows."""

    entries: int = 0
    accepted: int = 0
    known: int = 0
    refused: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)
    aside: list[tuple[str, str]] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)


class _Undone(Exception):
    """Leaves the transaction so that nothing of it is kept."""


Names = Callable[[Sequence[str]], Sequence[str | None]]
"""What people are called here, by what the source calls them; None for somebody who was erased."""


def as_they_are(subjects: Sequence[str]) -> Sequence[str | None]:
    """Return `subjects`: the Names of a source that knows people by their pseudonyms."""
    return subjects


def take(
    store: PermissionStore,
    source: Iterable[Entry],
    now: datetime,
    *,
    accept_valid: bool = False,
    dry_run: bool = False,
    names: Names = as_they_are,
    on_batch: Callable[[int], None] = lambda _entries: None,
) -> ImportReport:
    """Append what `source` gives, as one transaction; what stays in memory is a fingerprint of each event.

    Raises what the source raises, and StorageError; then nothing is taken. `on_batch` is told how many were read.
    """
    tally, kept = _Tally(), True
    try:
        with store.importing() as incoming:
            records = _records(incoming)
            entries = iter(source)
            while batch := _named(list(islice(entries, BATCH)), names):
                for entry in batch:
                    _count(tally, entry, timestamp(now))
                events = [e for entry in batch for e in _events(entry, incoming, records, timestamp(now), tally)]
                tally.accepted += incoming.add(events)
                on_batch(len(batch))
            if dry_run or (tally.refused and not accept_valid):
                _undo()
    except _Undone:
        kept = False
    return ImportReport(
        entries=tally.entries,
        accepted=tally.accepted if kept or dry_run else 0,
        known=tally.known,
        refused=tally.refused,
        rejected=tuple(tally.rejected),
        aside=tuple(tally.aside),
        not_understood=dict(sorted(tally.codes.items())),
        taken=kept,
    )


def _undo() -> NoReturn:
    raise _Undone


def events_of(source: Iterable[PermissionEvent]) -> Iterator[Entry]:
    """Return entries that give these events: how a Python function of your own is a source."""
    for number, event in enumerate(source, start=1):
        yield Entry(f"event {number}", (event,))


def _named(batch: list[Entry], names: Names) -> list[Entry]:
    people = list(dict.fromkeys(e.subject for entry in batch for e in entry.events if e.subject != EVERYONE))
    called = dict(zip(people, names(people), strict=True)) | {EVERYONE: EVERYONE}
    return [_renamed(entry, called) for entry in batch]


def _renamed(entry: Entry, called: Mapping[str, str | None]) -> Entry:
    if all(called[e.subject] == e.subject for e in entry.events):
        return entry
    subjects = [called[e.subject] for e in entry.events]
    if None in subjects:
        return replace(entry, events=(), refused="this person has been erased here: their records are not used again")
    events = tuple(replace(e, subject=str(s)) for e, s in zip(entry.events, subjects, strict=True))
    return replace(entry, events=events)


def _count(tally: _Tally, entry: Entry, now: str) -> None:
    tally.entries += 1
    reason = entry.refused or _too_early(entry, now)
    if reason is not None:
        tally.refused += 1
        if len(tally.rejected) < LISTED:
            tally.rejected.append((entry.place, reason))
    elif entry.aside is not None and len(tally.aside) < LISTED:
        tally.aside.append((entry.place, entry.aside))
    tally.codes.update({code for event in entry.events for code in event.unread})


def _too_early(entry: Entry, now: str) -> str | None:
    late = next((e.recorded_at for e in entry.events if e.recorded_at > now), None)
    return f"recorded at {late}, which is in the future: nobody can have said it yet" if late else None


def _records(incoming: Incoming) -> dict[str, dict[str, str]]:
    """Return the latest known version of each source record, by subject; the empty text if it has none."""
    records: dict[str, dict[str, str]] = {}
    for subject, record, version in incoming.before.records():
        of_record = records.setdefault(record, {})
        of_record[subject] = max(of_record.get(subject, ""), version or "")
    return records


def _events(
    entry: Entry, incoming: Incoming, records: dict[str, dict[str, str]], now: str, tally: _Tally
) -> list[PermissionEvent]:
    """Return what the entry adds: nothing if it is refused or known, and first a correction if it replaces."""
    if entry.refused is not None or _too_early(entry, now) is not None:
        return []
    fresh = [e for e in entry.events if not incoming.is_known(e)]
    tally.known += len(entry.events) - len(fresh)
    if not fresh:
        return []
    named = [e for e in entry.events if e.record is not None]
    corrections: list[PermissionEvent] = []
    if entry.replaces and named:
        of_record = records.setdefault(str(named[0].record), {})
        newest, version = max(of_record.values(), default=""), named[0].version or ""
        if version and version < newest:
            tally.aside.append((entry.place, f"version {version} is older than {newest}, which is here already"))
            return []
        corrections = [_correction(subject, named[0], now) for subject in of_record]
        of_record[named[0].subject] = version
        fresh = list(entry.events)
    return [*corrections, *fresh]


def _correction(subject: str, successor: PermissionEvent, now: str) -> PermissionEvent:
    at = successor.version if successor.version is not None and successor.version <= now else now
    return PermissionEvent(
        act="correct",
        kind="consent",
        subject=subject,
        purposes=(ANY,),
        valid_from=at,
        recorded_at=at,
        record=successor.record,
        version=successor.version,
    )
