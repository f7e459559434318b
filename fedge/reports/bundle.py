"""A bundle: the public files of a run, in a folder or in a ZIP, opened to be read and never written.

    RUN/audit …              the folder of a run, or what `fedge audit export` made of one
    PACK/runs/RUN/audit …    a pack that `fedge report build` made, unpacked
    PACK.zip                 the same in one file
    FOLDER/RUN/audit …       a folder of any number of runs

A ZIP comes from strangers: names that lead out of it, links and more bytes than a run has are refused before anything
is written. A member whose bytes are damaged is left out and named, so that what is intact can still be read.
"""

from __future__ import annotations

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fedge.errors import StorageError

MAX_FILES, MAX_BYTES = 1_000_000, 16 * 2**30
"""More than the log of ten million entries with its receipts has."""
RUNS = "runs"
"""Where a pack keeps the runs that it is about."""


@dataclass(frozen=True)
class Bundle:
    """One run's public files: its folder, and what of them could not be unpacked."""

    root: Path
    damaged: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the folder is called: the run, unless somebody has renamed it."""
        return self.root.resolve().name


@dataclass(frozen=True)
class Opened:
    """What was opened: its root, in which a pack keeps its report, and the bundles in it, sorted by name."""

    root: Path
    bundles: tuple[Bundle, ...]


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Yield the bundles in `path`; those of a ZIP exist until the context ends.

    Raises StorageError if there is none, or if the ZIP is one that must not be unpacked.
    """
    if path.is_dir():
        yield _found(path, path, ())
        return
    with tempfile.TemporaryDirectory(prefix="fedge-bundle-") as folder:
        damaged = _unpack(path, Path(folder))
        inside = list(Path(folder).iterdir())
        yield _found(path, inside[0] if len(inside) == 1 and inside[0].is_dir() else Path(folder), damaged)


def _found(path: Path, root: Path, damaged: tuple[str, ...]) -> Opened:
    places = [root] if (root / "audit").is_dir() else sorted(p.parent for p in root.glob(f"{RUNS}/*/audit"))
    places = places or sorted(p.parent for p in root.glob("*/audit") if p.is_dir())
    if not places:
        raise StorageError(
            f"{path} holds no run: name the folder of a run (it has audit/ in it), a folder of runs, or a ZIP of either"
        )
    below = {p: tuple(d for d in damaged if f"/{p.name}/" in f"/{d}") for p in places}
    return Opened(root, tuple(Bundle(p, damaged if len(places) == 1 else below[p]) for p in places))


def _unpack(path: Path, to: Path) -> tuple[str, ...]:
    """Unpack the ZIP at `path` below the empty folder `to`; return the names of members that are damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _refuse_unsafe(path, members)
            return tuple(m.filename for m in members if not m.is_dir() and not _extract(archive, m, to))
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist") from error
    except zipfile.BadZipFile as error:
        raise StorageError(f"{path} is neither the folder of a run nor a ZIP that can be read: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot unpack {path}: {error.strerror}; check free space and permissions") from error


def _refuse_unsafe(path: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        name = PurePosixPath(member.filename)
        link = stat.S_ISLNK(member.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or link:
            raise StorageError(f"{path} is not unpacked: its member {member.filename!r} leads out of it")
        if member.flag_bits & 1:
            raise StorageError(f"{path} is encrypted; unpack it yourself and name the folder")
    if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_BYTES:
        raise StorageError(f"{path} is not unpacked: it holds more than {MAX_FILES:,} files or {MAX_BYTES:,} bytes")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path) -> bool:
    """Write one member; return whether its bytes are whole. One that is not is not left lying around."""
    try:
        archive.extract(member, to)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        (to / member.filename).unlink(missing_ok=True)
        return False
    return True
