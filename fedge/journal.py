"""Append-only facts on disk: the one storage form of permissions, spends and log entries.

Promise of every Journal: an entry that `append` has returned for is durable and never changes; entries are
numbered 0, 1, 2 … without a gap; an append that says which size it expects fails if another writer was
faster (compare-and-swap), so two writers can never fork it. A batch is appended whole or not at all.

Crash behaviour (SQLite, WAL, synchronous=FULL): before the commit returns nothing is there, after it everything is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from fedge.errors import LogConflictError, StorageError

BUSY_SECONDS = 30.0


class Journal(Protocol):
    """A gap-free sequence of byte strings that only grows."""

    def size(self) -> int:
        """Return the number of entries."""
        ...

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` (inclusive) to `stop` (exclusive; None is the end)."""
        ...

    def append(self, entries: Sequence[bytes], expected_size: int | None = None) -> int:
        """Append `entries` atomically and durably; return the new size.

        Raises LogConflictError if the size is not `expected_size`, StorageError if the disk refuses.
        """
        ...


class MemoryJournal:
    """A Journal for tests and for runs that keep nothing."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []

    def size(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` to `stop`."""
        return self._entries[start:stop]

    def append(self, entries: Sequence[bytes], expected_size: int | None = None) -> int:
        """Append `entries`; see Journal."""
        _check_expected(len(self._entries), expected_size)
        self._entries.extend(bytes(e) for e in entries)
        return len(self._entries)


class SqliteJournal:
    """A Journal in one table of an SQLite file; several journals may share a file under different names.

    `transaction()` holds the write lock, so that a caller can read, decide and append as one step.
    """

    def __init__(self, path: Path, name: str = "journal") -> None:
        if not name.isidentifier():
            raise StorageError(f"{name!r} is not a journal name")
        self._path, self._table = path, name
        with _storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (position INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT"
            )

    def size(self) -> int:
        """Return the number of entries."""
        with _storage_errors(self._path):
            row = self._db.execute(f"SELECT COALESCE(MAX(position) + 1, 0) FROM {self._table}").fetchone()
        return int(row[0])

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` to `stop`; a gap raises StorageError."""
        end = 2**62 if stop is None else stop
        query = f"SELECT position, entry FROM {self._table} WHERE position >= ? AND position < ? ORDER BY position"
        with _storage_errors(self._path):
            rows = self._db.execute(query, (start, end)).fetchall()
        if any(position != start + i for i, (position, _) in enumerate(rows)):
            raise StorageError(f"{self._path}: entries are missing between {start} and {end}")
        return [bytes(entry) for _, entry in rows]

    def append(self, entries: Sequence[bytes], expected_size: int | None = None) -> int:
        """Append `entries`; see Journal."""
        with self.transaction():
            size = self.size()
            _check_expected(size, expected_size)
            with _storage_errors(self._path):
                self._db.executemany(f"INSERT INTO {self._table} VALUES (?, ?)", enumerate(entries, start=size))
        return size + len(entries)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the file's write lock; commit at the end, roll back on any error. May be nested."""
        if self._db.in_transaction:
            yield
            return
        with _storage_errors(self._path):
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with _storage_errors(self._path):
                self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Release the file."""
        self._db.close()


def _check_expected(size: int, expected_size: int | None) -> None:
    if expected_size is not None and size != expected_size:
        raise LogConflictError(
            f"another writer was faster: the journal has {size} entries, {expected_size} were expected"
        )


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"cannot use {path}: {error}; check free space, permissions and that it is intact"
        ) from error
