"""Permission events on the client's disk: another process may append while a run is going on.

Asking again costs a look at the journal's bell, unless something has changed; that is what lets the loader ask at the
moment it touches a record. Whatever begins a job reads the journal itself.

The clock may jump; what has ended may not begin again. So the engine's present is never earlier than a moment it has
seen: the clock, or the latest moment at which an event was recorded, or the latest moment at which it has seen a
permission begin or end, whichever is latest. The last is kept in a second journal, written only when such a moment was
passed, so that a restart does not forget it. A clock set back is thus waited for; a clock that ran ahead ends
permissions early and for good, which is the safe side: grant anew. A question about the past (`state().judge(…, at)`)
is not a use of data, and is answered as of that moment.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from fedge.consent.decision import Decision, decide
from fedge.consent.events import EVERYONE, PermissionEvent, parse_event, print_event
from fedge.consent.grants import NEVER, NOTHING, Permissions, Verdicts, fold
from fedge.consent.reading import Reader
from fedge.consent.request import Request, request_for
from fedge.encoding import Clock, canonical, digest, moment, parse, timestamp
from fedge.journal import Journal

START = "sha256:" + "0" * 64
KEPT_VERDICTS = 4
"""Questions whose verdicts are kept: a client has two data sets, and seldom more than one purpose."""
CHUNK = 50_000
"""Entries read at once: memory stays bounded, whatever the size of the history."""
BEGINNING, FAR = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Gate = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class _Judged:
    """Verdicts on `subjects`, good for one history of events and for every moment before `until` that may yet come."""

    subjects: Sequence[str]
    wanted: str | Request
    history: str
    gone: frozenset[str]
    until: datetime
    verdicts: Verdicts

    def holds(self, subjects: Sequence[str], wanted: str | Request, history: str, state: Permissions) -> bool:
        """Return whether these verdicts answer the question; the very same tuple is asked for, so no name is read."""
        same = subjects is self.subjects and (wanted is self.wanted or wanted == self.wanted)
        return same and history == self.history and (state.gone is self.gone or state.gone == self.gone)


class PermissionStore:
    """All permission events of one client, in a Journal; `gone` says who was erased since this process began.

    How late it has been is remembered in the journal `moments` beside it.
    """

    def __init__(self, journal: Journal, gone: Callable[[], frozenset[str]] = frozenset) -> None:
        self._journal, self._gone, self._moments = journal, gone, journal.beside("moments")
        self._read, self._state, self._digest = 0, NOTHING, START
        self._strokes: int | None = None
        self._withdrawals: list[PermissionEvent] = []
        self._held: deque[_Judged] = deque(maxlen=KEPT_VERDICTS)
        self._passed = BEGINNING
        self._reader = Reader()

    def append(self, events: Sequence[PermissionEvent]) -> None:
        """Make `events` durable, all or none; `recorded_at` is the caller's present, never later."""
        self._journal.append([print_event(e) for e in events])

    def state(self) -> Permissions:
        """Return the permissions as they stand now, with what other processes have appended."""
        self._refresh()
        return self._without_the_gone()

    def snapshot_digest(self) -> str:
        """Return the digest of all events, chained in order: equal histories, equal digests."""
        self._refresh()
        return self._digest

    @property
    def last_digest(self) -> str:
        """The digest of the events read last; asks nothing, so it can be stated when the store is unreadable."""
        return self._digest

    def history(self, subject: str | None = None) -> list[PermissionEvent]:
        """Return events in the order they were appended, of one subject or of all; reads only those it returns."""
        mark = b"" if subject is None else b'"subject":' + canonical(subject)
        found = (_decode(e, parse_event)[0] for e in self._journal.read() if mark in e)
        return [e for e in found if e is not None and subject in {None, e.subject}]

    def withdrawals(self) -> Sequence[PermissionEvent]:
        """Return every withdrawal, in the order they were appended."""
        self._refresh()
        return self._withdrawals

    def present(self, clock_says: datetime) -> datetime:
        """Return the engine's present: the clock's, but never earlier than a moment it has seen before."""
        state = self.state()
        seen = max(state.latest, self._latest_seen())
        if not seen:
            return clock_says  # nothing was ever recorded here
        now = max(clock_says, moment(seen))
        if state.next_change(moment(seen)) <= timestamp(now):
            self._moments.append([canonical(timestamp(now))])
            self._passed = now
        return now

    def judge(self, subjects: Sequence[str], wanted: str | Request, at: datetime) -> Verdicts:
        """Return a verdict per subject for the use `wanted`, at the engine's present; the clock says `at`.

        Each question looks for new events; all subjects are judged anew if there are any, or if a permission has begun
        or ended since. Otherwise the verdicts of the question before still hold.
        """
        if self._strokes is None or self._journal.strokes() != self._strokes:
            self._refresh()
        state = self._without_the_gone()
        at = max(at, self._passed)  # what another question has seen end, or this one before the clock was set back
        held = next((h for h in self._held if at < h.until and h.holds(subjects, wanted, self._digest, state)), None)
        if held is not None:
            return held.verdicts
        now = self.present(at)
        change = state.next_change(now)
        until = FAR if change == NEVER else moment(change)
        verdicts = state.judge(subjects, wanted, now)
        self._held.append(_Judged(subjects, wanted, self._digest, state.gone, until, verdicts))
        return verdicts

    def gate(self, subjects: Sequence[str], wanted: str | Request, clock: Clock) -> Gate:
        """Return the question the loader asks: which of these records may be read, at this moment?"""
        return lambda indices: self.judge(subjects, wanted, clock()).admitted[indices]

    def decide(self, subject: str, wanted: str | Request, now: datetime) -> Decision:
        """Return the verdict on one subject and the event that decided, reading no one else's events."""
        own, everyone = self.history(subject), self.history(EVERYONE)
        return decide(own, everyone, request_for(wanted), timestamp(now))

    @contextmanager
    def importing(self) -> Iterator[Incoming]:
        """Hold the store's write lock: what is added inside is kept whole, or on any error not at all."""
        with self._journal.transaction():
            yield Incoming(self._journal, self.state())

    def _latest_seen(self) -> str:
        size = self._moments.size()
        return str(parse(self._moments.read(size - 1)[0])) if size else ""

    def _without_the_gone(self) -> Permissions:
        gone = self._gone()
        if gone is not self._state.gone and gone != self._state.gone:
            self._state = replace(self._state, gone=gone)
        return self._state

    def _refresh(self) -> None:
        self._strokes = self._journal.strokes()
        while fresh := self._journal.read(self._read, self._read + CHUNK):
            decoded = [_decode(entry, self._reader.read) for entry in fresh]
            events = [event for event, _ in decoded if event is not None]
            self._state = fold(self._state, events)
            self._withdrawals += [e for e in events if e.act == "withdraw"]
            for _, link in decoded:
                self._digest = digest(f"{self._digest}{link}".encode())
            self._read += len(fresh)


class Incoming:
    """Events on their way in. What is here already is not added again; `before` are the permissions without them."""

    def __init__(self, journal: Journal, before: Permissions) -> None:
        self._journal, self.before = journal, before
        self._known: set[bytes] = set()
        size = journal.size()
        for start in range(0, size, CHUNK):
            self._known.update(map(_fingerprint, journal.read(start, min(size, start + CHUNK))))

    def is_known(self, event: PermissionEvent) -> bool:
        """Return whether this very event is here already."""
        return _fingerprint(print_event(event)) in self._known

    def add(self, events: Iterable[PermissionEvent]) -> int:
        """Append those of `events` that are new; return how many."""
        fresh = {_fingerprint(e): e for e in map(print_event, events)}
        entries = [entry for mark, entry in fresh.items() if mark not in self._known]
        self._journal.append(entries)
        self._known.update(fresh)
        return len(entries)


def tombstone(entry: bytes) -> bytes:
    """Return what stands in the place of `entry` once its person is erased: its digest, so that the history's holds."""
    return canonical({"erased": digest(entry)})


def _fingerprint(entry: bytes) -> bytes:
    return hashlib.blake2b(entry, digest_size=16).digest()


def _decode(entry: bytes, read: Callable[[bytes], PermissionEvent]) -> tuple[PermissionEvent | None, str]:
    """Return the event, None for a tombstone, and the digest that the history chains."""
    if entry.startswith(b'{"erased":'):
        return None, str(parse(entry)["erased"])
    return read(entry), digest(entry)
