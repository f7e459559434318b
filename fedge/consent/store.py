"""Permission events on the client's disk: another process may append while a run is going on.

Asking again costs one small query, unless something has changed; that is what lets the loader ask at the moment it
touches a record. An import is one transaction: all of it, or nothing and the reasons.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedge.consent.grants import NEVER, NOTHING, PermissionEvent, Permissions, Verdicts, fold
from fedge.encoding import Clock, canonical, digest, from_plain, moment, parse, to_plain
from fedge.errors import FedgeError, PermissionRecordError, StorageError
from fedge.journal import Journal

START = "sha256:" + "0" * 64
KEPT_VERDICTS = 4
"""Questions whose verdicts are kept: a client has two data sets, and seldom more than one purpose."""
Gate = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class ImportReport:
    """What an import did: entries taken, and (line number, reason) of those refused."""

    accepted: int
    rejected: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Judged:
    """Verdicts on `subjects`, good for one history of events and for the moments from `since` up to `until`."""

    subjects: tuple[str, ...]
    wanted: str
    history: str
    since: datetime
    until: datetime
    verdicts: Verdicts

    def holds(self, subjects: tuple[str, ...], wanted: str, history: str, at: datetime) -> bool:
        """Return whether these verdicts answer the question; the very same tuple is asked for, so no name is read."""
        same = subjects is self.subjects and wanted == self.wanted and history == self.history
        return same and self.since <= at < self.until


class PermissionStore:
    """All permission events of one client, in a Journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._read, self._state, self._digest = 0, NOTHING, START
        self._withdrawals: list[PermissionEvent] = []
        self._held: deque[_Judged] = deque(maxlen=KEPT_VERDICTS)

    def append(self, events: Sequence[PermissionEvent]) -> None:
        """Make `events` durable, all or none."""
        self._journal.append([canonical(to_plain(e)) for e in events])

    def state(self) -> Permissions:
        """Return the permissions as they stand now, with what other processes have appended."""
        self._refresh()
        return self._state

    def snapshot_digest(self) -> str:
        """Return the digest of all events, chained in order: equal histories, equal digests."""
        self._refresh()
        return self._digest

    @property
    def last_digest(self) -> str:
        """The digest of the events read last; asks nothing, so it can be stated when the store is unreadable."""
        return self._digest

    def history(self, subject: str | None = None) -> list[PermissionEvent]:
        """Return events in the order they were appended, of one subject or of all."""
        return [e for e in map(_decode, self._journal.read()) if subject in {None, e.subject}]

    def withdrawals(self) -> Sequence[PermissionEvent]:
        """Return every withdrawal, in the order they were appended."""
        self._refresh()
        return self._withdrawals

    def judge(self, subjects: tuple[str, ...], wanted: str, at: datetime) -> Verdicts:
        """Return a verdict per subject, for the purpose `wanted` at the moment `at`.

        Each question looks for new events; all subjects are judged anew if there are any, if a permission has begun or
        ended since, or if the clock was set back. Otherwise the verdicts of the question before still hold.
        """
        state = self.state()
        held = next((h for h in self._held if h.holds(subjects, wanted, self._digest, at)), None)
        if held is None:
            change = state.next_change(at)
            until = datetime.max.replace(tzinfo=UTC) if change == NEVER else moment(change)
            held = _Judged(subjects, wanted, self._digest, at, until, state.judge(subjects, wanted, at))
            self._held.append(held)
        return held.verdicts

    def gate(self, subjects: tuple[str, ...], wanted: str, clock: Clock) -> Gate:
        """Return the question the loader asks: which of these records may be read, at this moment?"""
        return lambda indices: self.judge(subjects, wanted, clock()).admitted[indices]

    def import_jsonl(self, path: Path, *, accept_valid: bool = False) -> ImportReport:
        """Append the events in `path`, one JSON object a line, as one transaction.

        If any line is refused nothing is taken, unless `accept_valid`. Raises PermissionRecordError, StorageError.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise PermissionRecordError(f"{path} is not UTF-8 text: {error}") from error
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        read = [(n, _read_line(line)) for n, line in enumerate(lines, start=1) if line.strip()]
        rejected = tuple((n, result) for n, result in read if isinstance(result, str))
        events = [result for _, result in read if isinstance(result, PermissionEvent)]
        if rejected and not accept_valid:
            return ImportReport(0, rejected)
        self.append(events)
        return ImportReport(len(events), rejected)

    def _refresh(self) -> None:
        fresh = self._journal.read(self._read)
        if fresh:
            events = [_decode(entry) for entry in fresh]
            self._state = fold(self._state, events)
            self._withdrawals += [e for e in events if e.act == "withdraw"]
            for entry in fresh:
                self._digest = digest(self._digest.encode() + entry)
            self._read += len(fresh)


def _decode(entry: bytes) -> PermissionEvent:
    return from_plain(PermissionEvent, parse(entry), PermissionRecordError)


def _read_line(line: str) -> PermissionEvent | str:
    try:
        return from_plain(PermissionEvent, json.loads(line), PermissionRecordError)
    except (json.JSONDecodeError, RecursionError) as error:
        return f"not JSON: {error}"
    except FedgeError as error:
        return str(error)
