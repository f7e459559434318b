"""Append-only facts on disk: the one storage form of permissions, spends and log entries.

Promise of every Journal: an entry that `append` has returned for is durable and never changes; entries are
numbered 0, 1, 2 … without a gap; an append that says which size it expects fails if another writer was
faster (compare-and-swap), so two writers can never fork it. A batch is appended whole or not at all.

Crash behaviour (SQLite, WAL, synchronous=FULL): before the commit returns nothing is there, after it everything is.
A shared server keeps its journals in PostgreSQL instead, see `postgres`.
"""

from __future__ import annotations

import copy
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import ClassVar, Protocol, Self

from fedge.bell import Bell
from fedge.errors import LogConflictError, StorageError
from fedge.files import sync_file

BUSY_SECONDS = 30.0
"""How long a writer waits for another before it gives up."""


class Journal(Protocol):
    """A gap-free sequence of byte strings that only grows."""

    def size(self) -> int:
        """Return the number of entries."""
        ...

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` (inclusive) to `stop` (exclusive; None is the end)."""
        ...

    def pick(self, positions: Sequence[int]) -> list[bytes]:
        """Return the entries at `positions`, in that order. Raises StorageError if one of them does not exist."""
        ...

    def strokes(self) -> int | None:
        """Return a number that is another one once any Journal has committed to this database; None: read to know.

        Take it before reading: while it stays the same there is nothing new to read. It costs next to nothing.
        """
        ...

    def append(self, entries: Sequence[bytes], expected_size: int | None = None) -> int:
        """Append `entries` atomically and durably; return the new size.

        Raises LogConflictError if the size is not `expected_size`, StorageError if the disk refuses.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Hold the write lock, so that reading, deciding and appending are one step; all of it or nothing is kept.

        May be nested: an inner one that fails takes back only what was appended in it.
        """
        ...

    def beside(self, name: str) -> Journal:
        """Return the journal `name` of the same database; one transaction spans both."""
        ...

    def close(self) -> None:
        """Release the database; every later call raises StorageError."""
        ...


class MemoryJournal:
    """A Journal for tests and for runs that keep nothing."""

    def __init__(self, name: str = "journal") -> None:
        self._tables: dict[str, list[bytes] | None] = {checked_name(name): []}
        self._name = name

    def size(self) -> int:
        """Return the number of entries."""
        return len(self._entries())

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` to `stop`."""
        return self._entries()[start:stop]

    def pick(self, positions: Sequence[int]) -> list[bytes]:
        """Return the entries at `positions`."""
        return in_order(positions, dict(enumerate(self._entries())), "the journal in memory")

    def strokes(self) -> int | None:
        """Return None: reading is as quick."""
        return None

    def append(self, entries: Sequence[bytes], expected_size: int | None = None) -> int:
        """Append `entries`; see Journal."""
        held = self._entries()
        check_expected(len(held), expected_size)
        held.extend([bytes(e) for e in entries])
        return len(held)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that is appended meanwhile, or nothing."""
        self._entries()
        before = {name: len(entries or ()) for name, entries in self._tables.items()}
        try:
            yield
        except BaseException:
            for name, entries in self._tables.items():
                del (entries or [])[before.get(name, 0) :]
            raise

    def beside(self, name: str) -> MemoryJournal:
        """Return the journal `name` that shares this one's transactions."""
        other = copy.copy(self)
        other._name = checked_name(name)
        self._tables.setdefault(name, [])
        return other

    def close(self) -> None:
        """Forget the entries."""
        self._tables.update(dict.fromkeys(self._tables))

    def _entries(self) -> list[bytes]:
        entries = self._tables[self._name]
        if entries is None:
            raise StorageError("the journal in memory is closed")
        return entries


class SqliteJournal:
    """A Journal in one table of an SQLite file; several journals may share a file under different names.

    `_scope` says which rows of the table are this journal's, `_owner` are its parameters: here, all of them.
    """

    _scope: ClassVar[str] = "TRUE"
    _owner: tuple[str, ...] = ()

    def __init__(self, path: Path, name: str = "journal") -> None:
        self._path, self._table = path, checked_name(name)
        with _storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._bell = Bell(path)
        self._create()

    def size(self) -> int:
        """Return the number of entries."""
        with _storage_errors(self._path):
            row = self._db.execute(
                f"SELECT COALESCE(MAX(position) + 1, 0) FROM {self._table} WHERE {self._scope}", self._owner
            ).fetchone()
        return int(row[0])

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` to `stop`; a gap raises StorageError."""
        end = 2**62 if stop is None else stop
        where = f"{self._scope} AND position >= ? AND position < ?"
        query = f"SELECT position, entry FROM {self._table} WHERE {where} ORDER BY position"
        with _storage_errors(self._path):
            rows = self._db.execute(query, (*self._owner, start, end)).fetchall()
        return without_gap(rows, start, str(self._path))

    def pick(self, positions: Sequence[int]) -> list[bytes]:
        """Return the entries at `positions`."""
        where = f"{self._scope} AND position IN (SELECT value FROM json_each(?))"
        query = f"SELECT position, entry FROM {self._table} WHERE {where}"
        with _storage_errors(self._path):
            rows = self._db.execute(query, (*self._owner, json.dumps(list(positions)))).fetchall()
        return in_order(positions, dict(rows), str(self._path))

    def strokes(self) -> int | None:
        """Return what the bell beside the file says."""
        return self._bell.strokes()

    def append(self, entries: Sequence[bytes], expected_size: int | None = None) -> int:
        """Append `entries`; see Journal."""
        with self.transaction():
            size = self.size()
            check_expected(size, expected_size)
            insert = f"INSERT INTO {self._table} VALUES ({'?, ' * len(self._owner)}?, ?)"
            with _storage_errors(self._path):
                self._db.executemany(insert, ((*self._owner, place, e) for place, e in enumerate(entries, start=size)))
        return size + len(entries)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the file's write lock; commit at the end, roll back on any error. May be nested."""
        with _storage_errors(self._path):
            outer = not self._db.in_transaction
            begin, keep, undo = _OUTER if outer else _INNER
            self._db.execute(begin)
        with self._bell.struck() if outer else nullcontext():
            try:
                yield
                with _storage_errors(self._path):
                    self._db.execute(keep)
            except BaseException:
                self._take_back(undo)
                raise

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Let what is appended here be lost with the power, though never with the process: it saves an fsync.

        Nothing else may be lost by it, and what is synced later makes it durable too.
        """
        with _storage_errors(self._path):
            self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            with _storage_errors(self._path):
                self._db.execute("PRAGMA synchronous=FULL")

    def sync(self) -> None:
        """Make durable what was appended `unsynced`, by this process or another."""
        with _storage_errors(self._path):
            sync_file(self._path.with_name(self._path.name + "-wal"))

    def beside(self, name: str) -> Self:
        """Return the journal `name` in the same file and the same transactions."""
        other = copy.copy(self)
        other._table = checked_name(name)
        other._create()
        return other

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def _create(self) -> None:
        columns = "(position INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT"
        with _storage_errors(self._path):
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {self._table} {columns}")

    def _take_back(self, undo: Sequence[str]) -> None:
        """Undo what the transaction did, unless SQLite has done so itself (a full disk) or the file is closed."""
        with suppress(sqlite3.ProgrammingError):
            for statement in undo if self._db.in_transaction else ():
                self._db.execute(statement)


_OUTER = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_INNER = ("SAVEPOINT inner", "RELEASE inner", ("ROLLBACK TO inner", "RELEASE inner"))
"""How a transaction begins, is kept, and is taken back."""


def checked_name(name: str) -> str:
    """Return `name` if a journal can be called so: it becomes part of a statement. Raises StorageError."""
    if not name.isidentifier() or not name.isascii():
        raise StorageError(f"{name!r} is not a journal name")
    return name


def without_gap(rows: Sequence[tuple[int, bytes]], start: int, where: str) -> list[bytes]:
    """Return the entries of `rows` if their positions count from `start`. Raises StorageError."""
    if any(position != start + i for i, (position, _) in enumerate(rows)):
        raise StorageError(f"{where}: entries are missing after number {start}; restore it from the latest copy")
    return [bytes(entry) for _, entry in rows]


def in_order(positions: Sequence[int], found: Mapping[int, bytes], where: str) -> list[bytes]:
    """Return the entries of `found` in the order of `positions`. Raises StorageError."""
    missing = [p for p in positions if p not in found]
    if missing:
        raise StorageError(f"{where}: entry {missing[0]} is missing; restore it from the latest copy")
    return [bytes(found[p]) for p in positions]


def check_expected(size: int, expected_size: int | None) -> None:
    """Raise LogConflictError unless the journal has the size that a writer expects."""
    if expected_size is not None and size != expected_size:
        raise LogConflictError(
            f"another writer was faster: the journal has {size} entries, {expected_size} were expected"
        )


class _storage_errors:
    """Turns what SQLite and the disk say into a StorageError; a class, since it stands in the loader's path."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error | OSError):
            raise StorageError(
                f"cannot use {self._path}: {error}; check free space, permissions and that it is intact"
            ) from error
