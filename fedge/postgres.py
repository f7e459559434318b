"""A Journal in PostgreSQL: for a server that shares its database with other services, or has its backups there.

All logs of a database lie in one table, `fedge_journal(log, name, position, entry)`. A writer holds an advisory lock
of its log for the length of a transaction, so that two writers can neither fork a log nor wait for writers of another.

Crash behaviour: as PostgreSQL promises with fsync on and synchronous_commit not off, which is checked at the start;
if the connection is lost while a commit is under way, the call raises StorageError, and whoever opens the log again
finds all of the batch or nothing of it. Needs the extra `postgres`.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from fedge.errors import ConfigError, StorageError
from fedge.journal import BUSY_SECONDS, check_expected, checked_name, in_order, without_gap

if TYPE_CHECKING:
    import psycopg

BATCH = 10_000
"""Entries in one statement."""
_TABLE = """
CREATE TABLE IF NOT EXISTS fedge_journal (
    log text COLLATE "C", name text COLLATE "C", position bigint, entry bytea NOT NULL,
    PRIMARY KEY (log, name, position)
)"""
_INSERT = """
INSERT INTO fedge_journal SELECT %s, %s, %s + place - 1, entry
FROM unnest(%b::bytea[]) WITH ORDINALITY AS given(entry, place)"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


class _Users:
    """Lives as long as some journal uses a connection."""


class PostgresJournal:
    """A Journal of log `log`; `dsn` is a libpq connection string or URL, its password best left to ~/.pgpass."""

    def __init__(self, dsn: str, log: str, name: str = "journal") -> None:
        self._psycopg = _driver()
        self._log, self._name = log, checked_name(name)
        with self._storage_errors():
            self._db: psycopg.Connection = self._psycopg.connect(dsn, autocommit=True, connect_timeout=10)
            self._users = _Users()  # shared by all journals on this connection; the last one that goes closes it
            weakref.finalize(self._users, self._db.close)
            self._check_durable()
            self._db.execute(f"SET lock_timeout = '{BUSY_SECONDS:g}s'")
            if not self._one("SELECT to_regclass('fedge_journal') IS NOT NULL"):
                with self._db.transaction():  # two servers may start at once; only CREATE itself would not bear that
                    self._db.execute(_LOCK, ("fedge_journal",))
                    self._db.execute(_TABLE)

    def size(self) -> int:
        """Return the number of entries."""
        query = "SELECT COALESCE(MAX(position) + 1, 0) FROM fedge_journal WHERE log = %s AND name = %s"
        with self._storage_errors():
            return int(str(self._one(query, self._log, self._name)))

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` to `stop`; a gap raises StorageError."""
        end = 2**62 if stop is None else stop
        return without_gap(self._rows("position >= %s AND position < %s", start, end), start, self._where)

    def pick(self, positions: Sequence[int]) -> list[bytes]:
        """Return the entries at `positions`."""
        return in_order(positions, dict(self._rows("position = ANY(%s)", list(positions))), self._where)

    def strokes(self) -> int | None:
        """Return None: only the server knows."""
        return None

    def append(self, entries: Sequence[bytes], expected_size: int | None = None) -> int:
        """Append `entries`; see Journal."""
        with self.transaction():
            size = self.size()
            check_expected(size, expected_size)
            with self._storage_errors():
                for first in range(0, len(entries), BATCH):
                    batch = [bytes(e) for e in entries[first : first + BATCH]]
                    self._db.execute(_INSERT, (self._log, self._name, size + first, batch))
        return size + len(entries)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock of this log; commit at the end, roll back on any error. May be nested."""
        with self._storage_errors(), self._db.transaction():
            self._db.execute(_LOCK, (self._log,))
            yield

    def beside(self, name: str) -> PostgresJournal:
        """Return the journal `name` of the same log, on the same connection and in the same transactions."""
        other = copy.copy(self)
        other._name = checked_name(name)
        return other

    def close(self) -> None:
        """Leave the database."""
        self._db.close()

    @property
    def _where(self) -> str:
        return f"log {self._log} in PostgreSQL"

    def _rows(self, condition: str, *values: object) -> list[tuple[int, bytes]]:
        query = f"SELECT position, entry FROM fedge_journal WHERE log = %s AND name = %s AND {condition}"
        with self._storage_errors(), self._db.cursor(binary=True) as cursor:
            return cursor.execute(f"{query} ORDER BY position", (self._log, self._name, *values)).fetchall()

    def _one(self, query: str, *values: object) -> object:
        row = self._db.execute(query, values or None).fetchone()
        return row[0] if row else None

    def _check_durable(self) -> None:
        if self._one("SHOW fsync") == "off":
            raise StorageError(
                f"{self._where}: the server runs with fsync = off and forgets in a crash what it has confirmed; a log "
                "cannot stand on that. Set fsync = on in postgresql.conf"
            )
        if self._one("SHOW synchronous_commit") == "off":
            self._db.execute("SET synchronous_commit = on")

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            raise StorageError(
                f"cannot use {self._where}: {str(error).strip()}; check log.dsn, that the server runs, its rights and "
                "free space"
            ) from error


def _driver() -> ModuleType:
    """Return psycopg, imported only where a log lies in PostgreSQL. Raises ConfigError naming the extra."""
    try:
        import psycopg
    except ImportError as error:
        raise ConfigError(
            "log.store=postgresql needs the PostgreSQL driver, which is an extra: pip install 'fedge[postgres]'"
        ) from error
    return psycopg
