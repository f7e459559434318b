"""The manifest of a pack: the digest of each of its files, in one signed object.

    manifest.json    a DSSE envelope around canonical JSON: {"report": …, "files": {name: sha256}}

Who signs is up to whoever makes the report: with a key of their own, or the server with its own, which the log's first
entry names. Without a key the manifest is the plain JSON, and the report says that nobody has signed it: its figures
can be made again from the log all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedge.encoding import canonical, parse
from fedge.errors import ParseError, StorageError
from fedge.signing import PrivateKey, PublicKey, envelope_bytes, parse_envelope, seal, unseal

MANIFEST = "manifest.json"
TYPE, SCHEMA = "application/vnd.fedge.report_manifest+json", "fedge.report_manifest/1"


@dataclass(frozen=True)
class Manifest:
    """What a pack holds: the digest of `report.json`, and of every other file by its name."""

    report: str
    files: Mapping[str, str]

    @property
    def plain(self) -> dict[str, Any]:
        """The object that is signed."""
        return {"schema": SCHEMA, "report": self.report, "files": dict(self.files)}


def signed(manifest: Manifest, key: PrivateKey | None) -> bytes:
    """Return the bytes of `manifest.json`: signed by `key`, or plain without one."""
    return canonical(manifest.plain) if key is None else envelope_bytes(seal(TYPE, manifest.plain, key))


def read(path: Path, key: PublicKey | None) -> Manifest:
    """Return the manifest in `path` after checking that `key` has signed it; None: that it is the plain one.

    Raises StorageError if it cannot be read, ParseError or SignatureError if it does not hold.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    plain = parse(data) if key is None else unseal(parse_envelope(data), TYPE, key)
    try:
        manifest = Manifest(plain["report"], dict(plain["files"]))
        same = manifest.plain == plain and all(isinstance(v, str) for v in manifest.files.values())
    except (KeyError, TypeError, ValueError) as error:
        raise ParseError(f"{path} is not the manifest of a report") from error
    if not same:
        raise ParseError(f"{path} is not the manifest of a report: it has members that do not belong there")
    return manifest
