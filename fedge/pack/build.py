"""Build a pack: the report in every form, the signed manifest, and one ZIP with the log to check it against.

    report.json  report.html  report.pdf  data_use.csv  ropa.csv  withdrawals.csv  events.csv
    model-card.md  ml-bom.cdx.json  manifest.json  README.md  verify.py
    pack.zip     all of these, and below runs/RUN/ the public files of each run

Only verified entries are read, and only public files packed: neither the server's folder nor a client's is opened.
A log that does not hold has a pack too; its report says so first.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge.audit import verify
from fedge.errors import StorageError
from fedge.export import EPOCH
from fedge.files import write_atomically
from fedge.pack.forms import INSIDE, REPORT, ZIP, Forms
from fedge.pack.manifest import MANIFEST, Manifest, signed
from fedge.pack.readme import readme
from fedge.reports.bundle import RUNS, Bundle
from fedge.signing import PrivateKey

PUBLIC = ("config.json", "model.safetensors")
LEVEL = 1
"""Of compression: entries are base64 of digests and signatures, which hardly shrink however hard one tries."""


@dataclass(frozen=True)
class Pack:
    """What was written: the folder, its files, and how large they are in all."""

    folder: Path
    files: Sequence[str]
    bytes: int
    digest: str


def build(made: Forms, bundles: Sequence[Bundle], to: Path, formats: Sequence[str], key: PrivateKey | None) -> Pack:
    """Write the pack of `made` to folder `to`, and return what was written. Files of an older pack are replaced.

    Raises StorageError if it cannot be written, ConfigError for a PDF without Typst.
    """
    wanted = dict(made.parts(formats))
    try:
        to.mkdir(parents=True, exist_ok=True)
        digests = {name: _write(to / name, pieces()) for name, pieces in wanted.items()}
        for name, data in {
            "README.md": readme(made.plain, made.digest).encode(),
            "verify.py": Path(verify.__file__).read_bytes(),
        }.items():
            digests[name] = _write(to / name, [data])
        write_atomically(to / MANIFEST, signed(Manifest(digests.pop(REPORT), digests), key), durable=False)
        files = [*wanted, "README.md", "verify.py", MANIFEST]
        if "zip" in formats:
            _zip(to, files, bundles)
            files.append(ZIP)
    except OSError as error:
        raise StorageError(f"cannot write {to}: {error.strerror}; check free space and permissions") from error
    return Pack(to, files, sum((to / f).stat().st_size for f in files), made.digest)


def _write(path: Path, pieces: Iterable[bytes]) -> str:
    """Write `pieces` one after the other, whole or not at all; return the digest of them all."""
    partial, found = path.with_name(path.name + ".partial"), hashlib.sha256()
    with partial.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            found.update(piece)
    partial.replace(path)
    return f"sha256:{found.hexdigest()}"


def _zip(folder: Path, files: Sequence[str], bundles: Sequence[Bundle]) -> None:
    partial = folder / f"{ZIP}.partial"
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name in files:
            _add(archive, folder / name, name)
        for bundle in bundles:
            for path in _public(bundle.root):
                _add(archive, path, f"{RUNS}/{bundle.name}/{path.relative_to(bundle.root).as_posix()}")
    partial.replace(folder / ZIP)


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    info = zipfile.ZipInfo(INSIDE + name, EPOCH)  # the same pack gives the same bytes
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target)


def _public(root: Path) -> Iterator[Path]:
    """Yield the files of a run that anybody may see, whole or broken."""
    for folder in ("audit", "receipts"):
        yield from sorted(p for p in (root / folder).rglob("*") if p.is_file() and not p.is_symlink())
    yield from (root / name for name in PUBLIC if (root / name).is_file())
