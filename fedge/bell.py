"""A counter in shared memory beside a database: "has anybody written since?" without a system call.

The loader asks before every batch, and SQLite needs two locks and cold code to answer; that alone would be several
percent of a round. So every writer strikes the bell: before its transaction writes, which makes the count odd, and
after the commit, which makes it even again. Whoever finds the count even and as it was has missed nothing. An odd
count says that somebody is writing, or was killed while writing: then the database must be asked, until the next
writer has made the count even again.

The count is a hint of this machine's memory, never a record: it may be lost with the power, as every listener is then.
It is heard by processes on one machine, as is SQLite's own write-ahead log; and it is struck by writers of fedge alone.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COUNT = struct.Struct("<Q")


class Bell:
    """The bell of the database file `path`, in a small file beside it. Raises OSError if it cannot be made."""

    def __init__(self, path: Path) -> None:
        mode = path.stat().st_mode & 0o777  # who may write to the database may strike, and nobody else
        descriptor = os.open(path.with_name(path.name + "-bell"), os.O_RDWR | os.O_CREAT, mode)
        try:
            # A byte behind the count gives a new file its block: on a full disk that is an error here, and no SIGBUS at
            # the first stroke. And it leaves alone the count of a file that somebody else is just making.
            os.pwrite(descriptor, b"\0", _COUNT.size)
            self._memory = mmap.mmap(descriptor, _COUNT.size)
        finally:
            os.close(descriptor)

    def strokes(self) -> int | None:
        """Return the count; None while somebody is writing, or if a writer was killed."""
        count = self._count()
        return None if count % 2 else count

    @contextmanager
    def struck(self) -> Iterator[None]:
        """Make the count odd, and in the end even again, what was written being committed or taken back by then.

        Only for who holds the database's write lock: so no stroke is lost, and an odd count is a killed writer's.
        """
        count = self._count()
        self._set(count + 1 + count % 2)
        try:
            yield
        finally:
            self._set(self._count() + 1)

    def _count(self) -> int:
        count: int = _COUNT.unpack_from(self._memory)[0]
        return count

    def _set(self, count: int) -> None:
        _COUNT.pack_into(self._memory, 0, count % 2**64)
