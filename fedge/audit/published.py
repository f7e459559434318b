"""Reading a published log back: files in, entries and checkpoint out, nothing trusted that was not recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge.audit import tiles
from fedge.audit.checkpoint import Checkpoint, cosigners, parse_body
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.note import Note, parse, verify
from fedge.audit.trust import Trust, parse_trust
from fedge.errors import AuditError, ParseError, ProofError, SignatureError


@dataclass(frozen=True)
class Published:
    """A log as `audit/` shows it: the newest checkpoint, whom it asks to trust, all entries, and their tree."""

    note: Note
    checkpoint: Checkpoint
    trust: Trust
    entries: tuple[bytes, ...]
    tree: Tree


def read_published(folder: Path) -> Published:
    """Return the log in `folder` after checking that its files are exactly what its entries make.

    Raises ParseError, SignatureError or ProofError naming the file that does not hold.
    """
    note = parse(_text(folder / "checkpoint"))
    checkpoint, trust = parse_body(note.body), parse_trust(_text(folder / "policy.txt"))
    if checkpoint.origin != trust.log.name:
        raise ProofError(f"the checkpoint is of log {checkpoint.origin!r}, the policy file of {trust.log.name!r}")
    verify(note, trust.log)
    check_lines(note, trust)
    entries = _entries(folder, checkpoint)
    tree = Tree(leaf_hash(entry) for entry in entries)
    if tree.root() != checkpoint.root:
        raise ProofError("the entries do not hash to the root that the checkpoint signs: an entry was changed")
    _check_tiles(folder, tree, entries)
    return Published(note, checkpoint, trust, entries, tree)


def check_lines(note: Note, trust: Trust) -> None:
    """Raise SignatureError unless every signature line of `note` is by the log or a witness of `trust`, and verifies.

    Notes may bear lines of unknown keys; ours never do, so one is a line that somebody has changed.
    """
    witnesses = list(trust.witnesses.values())
    vouched = cosigners(note, witnesses)
    known = {(k.name, k.key_id) for k in (trust.log, *witnesses)}
    strange = [s.name for s in note.signatures if (s.name, s.key_id) not in known]
    if strange:
        raise SignatureError(f"a signature line by {strange[0]!r} is of no key that the policy file knows")
    if len(note.signatures) != len(vouched) + 1:
        raise SignatureError("a key has signed the checkpoint more than once")


def _entries(folder: Path, checkpoint: Checkpoint) -> tuple[bytes, ...]:
    found = [e for path in tiles.bundle_paths(checkpoint.size) for e in _bundle(folder / path)]
    if len(found) != checkpoint.size:
        raise ProofError(
            f"the checkpoint signs {checkpoint.size} entries, the bundles hold {len(found)}: the log was cut or padded"
        )
    return tuple(found)


def _bundle(path: Path) -> list[bytes]:
    try:
        return tiles.unpack(_bytes(path))
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from error


def _check_tiles(folder: Path, tree: Tree, entries: Sequence[bytes]) -> None:
    for path, content in tiles.changed(tree, lambda start, stop: entries[start:stop]):
        if _bytes(folder / path) != content:
            raise ProofError(f"{path} is not the tile that the entries make")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"{path} is not UTF-8 text") from error
