"""The writer of the log: what it promises whatever happens, at a cost that its length does not raise."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.audit import hashes, log, merkle
from fedge.audit.checkpoint import parse_body
from fedge.audit.hashes import Edge, StoredTree, count, grow, position, size_of
from fedge.audit.log import AuditLog
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.proof import verify_receipt
from fedge.errors import LogConflictError, StorageError
from fedge.journal import MemoryJournal, SqliteJournal
from fedge.signing import PrivateKey

KEY = PrivateKey(b"k" * 32)


def leaves(n: int) -> list[bytes]:
    return [leaf_hash(str(i).encode()) for i in range(n)]


def opened(path: Path) -> AuditLog:
    return AuditLog(SqliteJournal(path / "log.db", "entries"), "fedge/test", KEY)


class Counting(MemoryJournal):
    """A journal that counts what is read from it."""

    touched = 0

    def read(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        found = super().read(start, stop)
        Counting.touched += len(found)
        return found

    def pick(self, positions: Sequence[int]) -> list[bytes]:
        Counting.touched += len(positions)
        return super().pick(positions)


# ---- stored hashes: the plain tree is the oracle -----------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70), st.integers(0, 70))
def test_growing_in_two_steps_is_the_same_tree(first: int, second: int) -> None:
    everything = leaves(first + second)
    journal = MemoryJournal()
    tree = StoredTree(journal)
    for part in (everything[:first], everything[first:]):
        tree.edge = tree.store(part)
    again, plain = StoredTree(journal), Tree(everything)
    assert again.edge == tree.edge
    assert (again.size, again.root()) == (plain.size, plain.root())
    assert journal.size() == count(plain.size)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 33])
def test_every_proof_is_that_of_the_plain_tree(size: int) -> None:
    stored, plain = StoredTree(MemoryJournal()), Tree(leaves(size))
    stored.edge = stored.store(leaves(size))
    for part in range(1, size + 1):
        assert stored.root(part) == plain.root(part)
        assert stored.consistency(part) == plain.consistency(part)
        merkle.verify_consistency(part, size, stored.consistency(part), plain.root(part), plain.root())
        for index in range(part):
            assert stored.inclusion(index, part) == plain.inclusion(index, part)


def test_a_hash_lies_where_arithmetic_says() -> None:
    _, stored = grow(Edge(), leaves(21))
    plain = Tree(leaves(21))
    for level in range(5):
        for index in range(21 >> level):
            assert stored[position((level, index))] == plain.hashes([(level, index)])[0]


def test_sizes_and_counts_are_inverse() -> None:
    assert [size_of(count(n)) for n in range(2000)] == list(range(2000))
    with pytest.raises(StorageError, match="belong to no tree"):
        size_of(2)


# ---- the log on disk -------------------------------------------------------------------------------------------------


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    entries = [f"entry {i}".encode() for i in range(600)]
    written = opened(tmp_path)
    for start in range(0, 600, 7):
        assert written.append(entries[start : start + 7]) == start
    again = opened(tmp_path)
    assert again.signed_checkpoint() == written.signed_checkpoint()
    assert [entry for _, entry in again.each()] == entries
    note = again.signed_checkpoint()
    for index in (0, 255, 256, 599):
        verify_receipt(again.receipt(index, note), entries[index], again.vkey)
    assert parse_body(note.body).root == Tree(map(leaf_hash, entries)).root()


def test_opening_reads_a_handful_of_hashes_and_no_entry() -> None:
    journal = Counting("entries")
    AuditLog(journal, "fedge/test", KEY).append([str(i).encode() for i in range(20_000)])
    Counting.touched = 0
    again = AuditLog(journal, "fedge/test", KEY)
    again.append([b"one more"])
    again.signed_checkpoint()
    assert Counting.touched <= 16, "opening and appending must not grow with the log"
    again.receipt(3, again.signed_checkpoint())
    again.consistency(12_345)
    assert Counting.touched <= 100, "proofs must not grow with the log"


def test_a_failed_append_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = opened(tmp_path)
    written.append([b"a", b"b"])
    before = written.signed_checkpoint()

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(hashes.StoredTree, "store", full)
    with pytest.raises(StorageError, match="full"):
        written.append([b"c"])
    monkeypatch.undo()
    assert (written.size, written.signed_checkpoint()) == (2, before)
    assert opened(tmp_path).signed_checkpoint() == before
    assert written.append([b"c"]) == 2


def test_hashes_that_were_lost_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "BATCH", 4)
    entries = [str(i).encode() for i in range(11)]
    journal = SqliteJournal(tmp_path / "log.db", "entries")
    journal.append(entries)
    assert opened(tmp_path).signed_checkpoint().body.endswith("\n")
    assert StoredTree(journal.beside("hashes")).root() == Tree(map(leaf_hash, entries)).root()


def test_more_hashes_than_entries_is_damage(tmp_path: Path) -> None:
    opened(tmp_path).append([b"a", b"b", b"c"])
    journal = SqliteJournal(tmp_path / "log.db", "entries")
    journal._db.execute("DELETE FROM entries WHERE position = 2")
    with pytest.raises(StorageError, match="2 entries and the hashes of 3"):
        opened(tmp_path)


def test_a_changed_entry_is_never_read(tmp_path: Path) -> None:
    opened(tmp_path).append([b"a", b"b", b"c"])
    SqliteJournal(tmp_path / "log.db", "entries")._db.execute("UPDATE entries SET entry = x'00' WHERE position = 1")
    again = opened(tmp_path)
    assert again.entries(0, 1) == [b"a"]
    with pytest.raises(StorageError, match="entry 1 of the server's log was changed"):
        list(again.each())


def test_two_writers_collide(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    one.append([b"a"])
    with pytest.raises(LogConflictError, match="another writer was faster"):
        two.append([b"b"])
    assert opened(tmp_path).entries() == [b"a"]
