"""The public part of a run as one folder that any web server can serve and anybody can check.

    audit/            the log as static files (C2SP tlog-tiles): checkpoint, policy.txt, tile/...
    receipts/         each client's statements with the proof that they are in the log
    config.json       the configuration, model.safetensors the model that the log ends with
    keys.txt          whose key signs what
    verify.py         the verifier: one file, needs Python and the package `cryptography`
    README.md         how to check it, by hand or with tools of others

Nothing private is in it: neither the server's nor a client's folder is read. What does not hold is not exported.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from fedge.audit import tiles, verify
from fedge.audit.log import CHECKPOINT, POLICY
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.verify import Entry, verify_run
from fedge.errors import AuditError, StorageError
from fedge.files import write_atomically
from fedge.rounds.folder import RunFolder

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip, so that the same run gives the same bytes."""


def export(run: Path, to: Path, *, zipped: bool = False) -> list[Path]:
    """Write the public part of the run in folder `run` to the new folder (or zip file) `to`; return its files, sorted.

    Raises AuditError if the log does not hold, StorageError if `to` exists already or cannot be written.
    """
    if to.exists():
        raise StorageError(f"{to} exists already; name a folder or file that does not")
    found = verify_run(run)
    if not found.holds:
        raise AuditError(f"{run} does not hold and is not exported: {found.failures}")
    partial = to.with_name(to.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        _lay_out(RunFolder(run), partial, found.entries)
        files = sorted(p.relative_to(partial) for p in partial.rglob("*") if p.is_file())
        if zipped:
            _zip(partial, files, to)
        else:
            partial.rename(to)
    except OSError as error:
        raise StorageError(f"cannot write {to}: {error.strerror}; check free space and permissions") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files


def _lay_out(run: RunFolder, to: Path, entries: Sequence[Entry]) -> None:
    raw = [e.raw for e in entries]
    for path, content in tiles.changed(Tree(map(leaf_hash, raw)), lambda start, stop: raw[start:stop]):
        _write(to / "audit" / path, content)
    for name in (CHECKPOINT, POLICY):
        _write(to / "audit" / name, (run.audit / name).read_bytes())
    for receipt in sorted(run.receipts.rglob("*.tlog-proof")):
        _write(to / "receipts" / receipt.relative_to(run.receipts), receipt.read_bytes())
    for file in (run.config_json, run.model):
        if file.exists():
            _write(to / file.name, file.read_bytes())
    _write(to / "keys.txt", _keys(entries).encode())
    _write(to / "verify.py", Path(verify.__file__).read_bytes())
    _write(to / "README.md", _readme(entries).encode())


def _write(path: Path, data: bytes) -> None:
    write_atomically(path, data, durable=False)


def _zip(folder: Path, files: Sequence[Path], to: Path) -> None:
    with zipfile.ZipFile(to, "x", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            info = zipfile.ZipInfo(f"{to.stem}/{file.as_posix()}", EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, (folder / file).read_bytes(), zipfile.ZIP_DEFLATED)


def _keys(entries: Sequence[Entry]) -> str:
    opening = entries[0].payload
    lines = [f"log {opening['log_key']}", f"server {opening['server_key']}"]
    for entry in entries:
        if entry.event == "client_enrol":
            said = entry.payload
            lines.append(f"client {said['client']} {said['key']} witness {said['witness_key']}")
    return "\n".join(lines) + "\n"


def _readme(entries: Sequence[Entry]) -> str:
    opening = entries[0].payload
    return f"""# Audit log of run {opening["run"]}

{len(entries)} entries, opened {opening["at"]}. Each client that vouches for the log has checked that its own
statements are in it, and that nothing before them was changed.

## Check it

    python verify.py . --policy policy.txt

needs Python 3.11 or newer and the package `cryptography`, no network and no fedge. Take `policy.txt` from somebody
you trust, not from this folder: it names the keys that you believe. Without `--policy` the keys are the log's own.

## Read it with other tools

`audit/` is a tiled log by https://c2sp.org/tlog-tiles with the checkpoint at `audit/checkpoint`
(https://c2sp.org/tlog-checkpoint), cosigned by the clients (https://c2sp.org/tlog-cosignature). Serve this folder with
any static web server; the prefix of the log is the address of `audit/`. The log's key:

    {opening["log_key"]}

Entries are DSSE envelopes (https://github.com/secure-systems-lab/dsse) around canonical JSON (RFC 8785). `receipts/`
holds https://c2sp.org/tlog-proof files; the `extra` line of each is the entry. `keys.txt` says whose key signs what.

## What it does not prove

No log can prove what a client left out: counts, permissions and noise are what each client signed.
"""
