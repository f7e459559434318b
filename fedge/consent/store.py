"""Permission events on the client's disk: another process may append while a run is going on.

`state()` re-reads only what is new, so asking again costs one small query; that is what lets the loader ask at the
moment it touches a record. An import is one transaction: all of it, or nothing and the reasons.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedge.consent.grants import NOTHING, PermissionEvent, Permissions, fold
from fedge.encoding import Clock, canonical, digest, from_plain, parse, timestamp, to_plain
from fedge.errors import FedgeError, PermissionRecordError, StorageError
from fedge.journal import Journal

START = "sha256:" + "0" * 64
Gate = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class ImportReport:
    """What an import did: entries taken, and (line number, reason) of those refused."""

    accepted: int
    rejected: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Judged:
    """Verdicts on all records, good for one history of events and for the moments from `since` up to `until`."""

    history: str
    since: str
    until: str
    admitted: NDArray[np.bool_]

    def holds(self, history: str, now: str) -> bool:
        return history == self.history and self.since <= now < self.until


class PermissionStore:
    """All permission events of one client, in a Journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._read, self._state, self._digest = 0, NOTHING, START
        self._withdrawals: list[PermissionEvent] = []

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

    def gate(self, subjects: Sequence[str], wanted: str, clock: Clock) -> Gate:
        """Return the question the loader asks: which of these records may be read, at this moment?

        Each question looks for new events; all records are judged anew if there are any, if a permission has begun or
        ended since, or if the clock was set back. Otherwise the verdicts of the question before still hold.
        """
        held: _Judged | None = None

        def ask(indices: NDArray[np.int64]) -> NDArray[np.bool_]:
            nonlocal held
            state, now = self.state(), clock()
            if held is None or not held.holds(self._digest, timestamp(now)):
                admitted = state.judge(subjects, wanted, now).admitted
                held = _Judged(self._digest, timestamp(now), state.next_change(now), admitted)
            return held.admitted[indices]

        return ask

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
