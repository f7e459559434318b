"""Files from elsewhere, read as text line by line: whatever their encoding, however large, and only if they hold still.

UTF-8 with or without a byte order mark, and UTF-16 with one, are recognised; every other encoding must be named, for a
guess that is wrong would change a name and so whose permission it is. A file that is replaced or written to while it is
read is an error, and the import that reads it takes nothing.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fedge.errors import PermissionRecordError, StorageError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_LINE = 16 * 2**20
"""Characters: one FHIR bundle on one line may be long, a hostile line has an end."""


@contextmanager
def opened(path: Path, encoding: str | None = None) -> Iterator[TextIO]:
    """Open `path` as text. Raises StorageError if it cannot be read, PermissionRecordError if it is not text.

    Raises StorageError at the end, too, if it is no longer the file that was opened.
    """
    try:
        with path.open("rb") as raw:
            before = os.fstat(raw.fileno())
            chosen = encoding or _marked(raw.read(4))
        with path.open(encoding=chosen, newline="") as text:
            yield text
            after = path.stat()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except LookupError as error:
        raise PermissionRecordError(f"there is no text encoding {encoding!r}, e.g. utf-8, latin-1, cp1252") from error
    except UnicodeError as error:
        raise PermissionRecordError(
            f"{path} is not {encoding or 'UTF-8 or UTF-16'} text: {error}; name its encoding, e.g. --encoding latin-1"
        ) from error
    if _identity(before) != _identity(after):
        raise StorageError(f"{path} was replaced or changed while it was read; nothing is taken, import it again")


def lines(path: Path, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield the number and text of every line that is not blank."""
    with opened(path, encoding) as text:
        number = 0
        while line := text.readline(LONGEST_LINE):
            number += 1
            if len(line) >= LONGEST_LINE:
                raise PermissionRecordError(f"{path}: line {number} is longer than {LONGEST_LINE} characters")
            if line.strip():
                yield number, line


def _marked(head: bytes) -> str:
    return next((name for mark, name in MARKS if head.startswith(mark)), "utf-8")


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
