"""The writer of the log: append, commit to it, prove, publish. Only the server has one.

Entries live in a Journal, which cannot fork: two writers collide in its compare-and-swap; their hashes are stored in
the same transaction, so that nothing here costs more than O(log n). What is shown to others is
`audit/`: tiles, the newest cosigned checkpoint, and the policy file. A log that is behind its own published checkpoint
(an old database was put back) refuses to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedge.audit import tiles
from fedge.audit.checkpoint import Checkpoint, parse_body
from fedge.audit.hashes import StoredTree
from fedge.audit.merkle import leaf_hash
from fedge.audit.note import ED25519, Note, VerifierKey, checked_name, parse, sign
from fedge.audit.proof import Receipt
from fedge.audit.trust import Trust
from fedge.errors import LogConflictError, StorageError
from fedge.files import write_atomically, write_if_changed
from fedge.journal import Journal
from fedge.signing import PrivateKey

CHECKPOINT, POLICY = "checkpoint", "policy.txt"
BATCH = 4096
"""Entries read at a time."""


class AuditLog:
    """One log, named by `origin`, whose checkpoints `key` signs; its hashes lie beside its entries in `journal`."""

    def __init__(self, journal: Journal, origin: str, key: PrivateKey) -> None:
        self._journal, self._origin, self._key = journal, checked_name(origin), key
        self._tree = StoredTree(journal.beside("hashes"))
        self._catch_up(journal.size())

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._tree.size

    @property
    def vkey(self) -> VerifierKey:
        """The key that checkpoints are verified with."""
        return VerifierKey(self._origin, ED25519, self._key.public)

    def entries(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return entries `start` to `stop`. Raises StorageError for one that does not have its stored hash."""
        entries = self._journal.read(start, self.size if stop is None else stop)
        hashes = self._tree.leaves(start, start + len(entries))
        changed = [i for i, (e, h) in enumerate(zip(entries, hashes, strict=True), start) if leaf_hash(e) != h]
        if changed:
            raise StorageError(f"entry {changed[0]} of the server's log was changed; restore the latest copy of it")
        return entries

    def each(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of every entry from `start`, a batch in memory at a time."""
        for first in range(start, self.size, BATCH):
            yield from enumerate(self.entries(first, min(first + BATCH, self.size)), first)

    def append(self, entries: Sequence[bytes]) -> int:
        """Append `entries`, all or none, and return the index of the first.

        Raises LogConflictError if another process has written to this log.
        """
        first = self.size
        with self._journal.transaction():
            self._journal.append(entries, expected_size=first)
            grown = self._tree.store(map(leaf_hash, entries))
        self._tree.edge = grown
        return first

    def signed_checkpoint(self) -> Note:
        """Return the checkpoint of all entries, signed by the log."""
        return sign(Checkpoint(self._origin, self.size, self._tree.root()).body, self._origin, self._key)

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` entries."""
        return self._tree.root(size)

    def consistency(self, old_size: int) -> list[bytes]:
        """Return the proof that the log extends what it was at `old_size`; empty for 0."""
        return self._tree.consistency(old_size) if old_size else []

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that entry `index` is in what the log was at `size`."""
        return self._tree.inclusion(index, size)

    def receipt(self, index: int, note: Note) -> Receipt:
        """Return the receipt of entry `index` under the checkpoint in `note`."""
        return Receipt(index, tuple(self._tree.inclusion(index, parse_body(note.body).size)), note)

    def check_not_behind(self, folder: Path) -> None:
        """Raise LogConflictError if `folder` shows entries that this log does not hold."""
        shown = published(folder)
        if shown is not None:
            self.check_holds(parse_body(shown.body), f"{folder} shows")

    def check_holds(self, found: Checkpoint, where: str) -> None:
        """Raise LogConflictError unless this log extends checkpoint `found`; `where` says who has it, with a verb."""
        if found.size > self.size or self._tree.root(found.size) != found.root:
            raise LogConflictError(
                f"{where} {found.size} entries of log {found.origin}, the server's log holds {self.size} that are not "
                "an extension of them: an older database was put back. Restore the latest one; going on would fork it"
            )

    def publish(self, folder: Path, note: Note, trust: Trust, reached: Callable[[str], None]) -> None:
        """Write tiles, policy and last the checkpoint `note` to `folder`: a reader never sees it point to nothing.

        `reached` is told "tiles" when all but the checkpoint is there, and "published".
        """
        before = published(folder)
        old = parse_body(before.body).size if before else 0
        for path, content in tiles.changed(self._tree, self.entries, old):
            write_atomically(folder / path, content)
        write_if_changed(folder / POLICY, trust.text.encode())
        reached("tiles")
        write_atomically(folder / CHECKPOINT, note.text.encode())
        reached("published")
        _drop_partials(folder, old, self.size)

    def _catch_up(self, size: int) -> None:
        """Make the hashes of entries that have none yet: those of a log whose hashes were lost, or never stored."""
        if size < self.size:
            raise StorageError(
                f"the server's log holds {size} entries and the hashes of {self.size}: it is damaged; "
                "restore the latest copy of it"
            )
        while self.size < size:
            stop = min(self.size + BATCH, size)
            self._tree.edge = self._tree.store(map(leaf_hash, self._journal.read(self.size, stop)))


def published(folder: Path) -> Note | None:
    """Return the checkpoint note in `folder`, or None if nothing is published there."""
    try:
        return parse((folder / CHECKPOINT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {folder / CHECKPOINT}: {error}") from error


def _drop_partials(folder: Path, old: int, new: int) -> None:
    """Remove partial tiles that wider ones have replaced; the newest checkpoint needs none of them."""
    level = 0
    while (count := old >> 8 * level) and old != new:
        for name in ("entries", str(level)) if level == 0 else (str(level),):
            width, number = count % tiles.WIDTH, count // tiles.WIDTH
            if width and new >> 8 * level != count:
                (folder / tiles.path(name, number, width)).unlink(missing_ok=True)
        level += 1
