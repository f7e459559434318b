"""Files that are either the old one or the new one, never a part: whatever crashes."""

from __future__ import annotations

import os
from pathlib import Path

from fedge.errors import StorageError


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` beside `path`, make it durable, then rename it over `path`."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # the rename itself must survive a power cut
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check free space and permissions") from error
