"""A journal whose entries can be erased: replaced by tombstones, and gone from every page of the file.

A Journal promises that an entry never changes. A person's right to be forgotten is the one exception: `redact` puts a
tombstone in the entry's place, so that numbers stay as they are, and `scrub` takes what it replaced out of the file.

SQLite keeps old bytes in three places: freed pages (hence `secure_delete`, and VACUUM, which writes the file anew), the
write-ahead log (hence a checkpoint that truncates it), and temporary files (hence `temp_store`). What a disk, a file
system with snapshots or a backup keeps below the file is out of this program's reach.

Source: https://www.sqlite.org/pragma.html#pragma_secure_delete, https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from fedge.errors import StorageError
from fedge.journal import SqliteJournal


class ErasableJournal(SqliteJournal):
    """A SqliteJournal that can forget."""

    def redact(self, tombstones: Mapping[int, bytes]) -> None:
        """Put `tombstones` in the place of the entries at their positions, all or none."""
        with self.transaction():
            try:
                self._db.execute("PRAGMA secure_delete=ON")
                for position, tombstone in tombstones.items():
                    statement = f"UPDATE {self._table} SET entry = ? WHERE {self._scope} AND position = ?"
                    if self._db.execute(statement, (tombstone, *self._owner, position)).rowcount != 1:
                        raise StorageError(f"{self._path}: there is no entry {position} to erase")
            except sqlite3.Error as error:
                raise StorageError(
                    f"cannot erase in {self._path}: {error}; check free space and permissions"
                ) from error

    def scrub(self) -> None:
        """Take every byte that was replaced or removed out of the file and its write-ahead log.

        Needs as much free disk as the file is large. Raises StorageError if another process is reading the file.
        """
        try:
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.execute("PRAGMA temp_store=MEMORY")
            self._db.execute("VACUUM")
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"cannot scrub {self._path}: {error}; check free space and permissions") from error
        if busy:
            raise StorageError(f"cannot scrub {self._path}: another process is reading it; stop it and try again")
