"""Files that are either the old one or the new one, never a part: whatever crashes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fedge.errors import StorageError


def write_atomically(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Write `data` beside `path`, make it durable, then rename it over `path`.

    Not `durable`: a power cut may take the file away again, so this is for files that can be made anew.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if durable:
            sync_file(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check free space and permissions") from error


@dataclass(frozen=True)
class FileSlot:
    """One file whose content is replaced as a whole."""

    path: Path

    def put(self, data: bytes | None) -> None:
        """Make `data` the content, durably; None: remove the file, and what a crash has left of it."""
        if data is not None:
            write_atomically(self.path, data)
            return
        for found in (self.path, self.path.with_name(self.path.name + ".partial")):
            try:
                found.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"cannot remove {found}: {error.strerror}; check permissions") from error

    def get(self) -> bytes | None:
        """Return the content, None if there is none."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error


def write_if_changed(path: Path, data: bytes) -> None:
    """Write `data` as `write_atomically` does, unless `path` holds it already."""
    if not path.exists() or path.read_bytes() != data:
        write_atomically(path, data)


def sync_file(path: Path) -> None:
    """Make what was written to `path` survive a power cut, or a rename in it if it is a folder. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
