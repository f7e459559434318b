"""The journals of many owners in one SQLite file: what a simulation of thousands of clients keeps its ledgers in.

A client that is deployed has files of its own. Ten thousand simulated ones would have thirty thousand databases, each
with its own syncs; packed, a transaction of the file spans all owners in it, so that the spends of a whole round become
durable in one commit, before any client of the round learns.

All journals lie in one table, `journal(owner, name, position, entry)`. `Journal`'s promises hold for each of them.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from fedge.erasable import ErasableJournal
from fedge.errors import StorageError
from fedge.journal import checked_name

_TABLE = """
CREATE TABLE IF NOT EXISTS journal (
    owner TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (owner, name, position)
) STRICT"""


class PackedJournal(ErasableJournal):
    """The journal `name` of `owner`; `of` gives another owner's in the same file and the same transactions."""

    _scope: ClassVar[str] = "owner = ? AND name = ?"

    def __init__(self, path: Path, owner: str = "", name: str = "journal") -> None:
        self._owner = (owner, checked_name(name))
        super().__init__(path)

    def of(self, owner: str, name: str) -> Self:
        """Return the journal `name` of `owner`, over the same connection."""
        other = copy.copy(self)
        other._owner = (owner, checked_name(name))
        return other

    def beside(self, name: str) -> Self:
        """Return the journal `name` of the same owner."""
        return self.of(self._owner[0], name)

    def owners(self) -> list[str]:
        """Return everybody who has a journal in this file, sorted."""
        try:
            rows = self._db.execute("SELECT DISTINCT owner FROM journal ORDER BY owner").fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"cannot read {self._path}: {error}") from error
        return [str(owner) for (owner,) in rows]

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Change nothing: what all owners write in a phase is synced once, as a whole."""
        yield

    def sync(self) -> None:
        """Do nothing: nothing is ever appended unsynced here."""

    def put(self, data: bytes | None) -> None:
        """Make `data` the one entry of this journal, in place of the one before; None: empty it."""
        with self.transaction():
            try:
                self._db.execute(f"DELETE FROM journal WHERE {self._scope}", self._owner)
            except sqlite3.Error as error:
                raise StorageError(f"cannot write {self._path}: {error}; check free space and permissions") from error
            if data is not None:
                self.append([data])

    def get(self) -> bytes | None:
        """Return what was `put` last."""
        return self.read(0, 1)[0] if self.size() else None

    def _create(self) -> None:
        try:
            self._db.execute(_TABLE)
        except sqlite3.Error as error:
            raise StorageError(f"cannot use {self._path}: {error}; check that it is intact") from error
