"""What every Journal promises, asked of each implementation."""

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedge.errors import LogConflictError, StorageError
from fedge.journal import Journal, MemoryJournal, SqliteJournal
from tests.contracts.writing import opened

KINDS = ("memory", "sqlite", "packed", "postgres")
DURABLE = ("sqlite", "packed", "postgres")
Open = Callable[[], Journal]


class Place:
    """Where one journal lies; `open` opens it once more, `writing` are the words that let another process write."""

    def __init__(self, kind: str, folder: Path, dsn: str) -> None:
        self.kind, self.name = kind, f"j{uuid.uuid4().hex}"
        self.at = str(folder / "journal.db") if kind in {"sqlite", "packed"} else dsn
        self._memory = MemoryJournal()
        self._opened: list[Journal] = []

    def open(self) -> Journal:
        if self.kind == "memory":
            return self._memory
        journal = opened(self.kind, self.at, self.name)
        self._opened.append(journal)
        return journal

    def writing(self, writer: str, count: int, *more: str) -> list[str]:
        words = [sys.executable, "-m", "tests.contracts.writing"]
        return [*words, self.kind, self.at, self.name, writer, str(count), *more]

    def close(self) -> None:
        for journal in self._opened:
            journal.close()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind = request.param
    found = Place(kind, tmp_path, request.getfixturevalue("postgres") if kind == "postgres" else "")
    yield found
    found.close()


every = pytest.mark.parametrize("place", KINDS, indirect=True)
durable = pytest.mark.parametrize("place", DURABLE, indirect=True)


@every
def test_counts_from_zero_and_keeps_order(place: Place) -> None:
    journal = place.open()
    assert (journal.size(), journal.read()) == (0, [])
    assert journal.append([b"a", b"b"]) == 2
    assert journal.append([b"c"], expected_size=2) == 3
    assert journal.read() == [b"a", b"b", b"c"]
    assert journal.read(1) == [b"b", b"c"]
    assert journal.read(1, 2) == [b"b"]
    assert journal.read(3) == []
    assert journal.pick([2, 0]) == [b"c", b"a"]
    assert journal.pick([]) == []


@every
def test_nothing_appended_is_nothing_changed(place: Place) -> None:
    journal = place.open()
    assert journal.append([]) == 0
    assert journal.append([b""]) == 1
    assert journal.read() == [b""]


@every
def test_an_entry_that_does_not_exist(place: Place) -> None:
    journal = place.open()
    journal.append([b"a"])
    with pytest.raises(StorageError, match="entry 7 is missing"):
        journal.pick([0, 7])


@every
def test_a_writer_that_expects_another_size_is_refused(place: Place) -> None:
    journal = place.open()
    journal.append([b"a"])
    for expected in (0, 2):
        with pytest.raises(LogConflictError, match="another writer was faster"):
            journal.append([b"x", b"y"], expected_size=expected)
    assert journal.read() == [b"a"]


@every
def test_a_batch_with_one_bad_entry_is_not_there_at_all(place: Place) -> None:
    journal = place.open()
    journal.append([b"a"])
    with pytest.raises((StorageError, TypeError)):
        journal.append([b"b", None, b"c"])  # type: ignore[list-item]
    assert journal.read() == [b"a"]


@every
def test_a_large_batch(place: Place) -> None:
    entries = [i.to_bytes(4, "big") * 64 for i in range(25_000)]
    journal = place.open()
    assert journal.append(entries) == len(entries)
    assert journal.read(24_990) == entries[24_990:]
    assert journal.pick([0, 12_345]) == [entries[0], entries[12_345]]


@every
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.binary(max_size=40), max_size=5), max_size=5))
def test_whatever_bytes_come_back(place: Place, batches: list[list[bytes]]) -> None:
    journal = place.open()
    before = journal.read()
    for batch in batches:
        journal.append(batch, expected_size=journal.size())
    assert journal.read() == before + [entry for batch in batches for entry in batch]


@every
def test_a_failed_transaction_leaves_nothing(place: Place) -> None:
    journal = place.open()
    beside = journal.beside("other")
    with pytest.raises(ZeroDivisionError), journal.transaction():
        journal.append([b"a"])
        beside.append([b"1"])
        raise ZeroDivisionError
    assert (journal.size(), beside.size()) == (0, 0)


@every
def test_one_transaction_spans_the_journals_beside_each_other(place: Place) -> None:
    journal = place.open()
    beside = journal.beside("other")
    with journal.transaction():
        journal.append([b"a"])
        with beside.transaction():
            beside.append([b"1", b"2"])
    assert place.open().read() == [b"a"]
    assert place.open().beside("other").read() == [b"1", b"2"]


@every
def test_an_inner_transaction_takes_back_only_its_own(place: Place) -> None:
    journal = place.open()
    with journal.transaction():
        journal.append([b"a"])
        with pytest.raises(ZeroDivisionError), journal.transaction():
            journal.append([b"b"])
            raise ZeroDivisionError
        with pytest.raises(LogConflictError):
            journal.append([b"c"], expected_size=0)
        journal.append([b"d"], expected_size=1)
    assert journal.read() == [b"a", b"d"]


@every
def test_a_closed_journal_says_so(place: Place) -> None:
    journal = place.open()
    journal.append([b"a"])
    journal.close()
    for use in (journal.size, journal.read, lambda: journal.append([b"b"]), lambda: journal.pick([0])):
        with pytest.raises(StorageError):
            use()
    with pytest.raises(StorageError), journal.transaction():
        pass


@every
def test_a_name_that_could_be_a_statement(place: Place) -> None:
    with pytest.raises(StorageError, match="not a journal name"):
        place.open().beside("x; DROP TABLE journal")


@durable
def test_what_was_appended_is_there_for_the_next_process(place: Place) -> None:
    place.open().append([b"a", b"b"])
    assert place.open().read() == [b"a", b"b"]


@every
def test_strokes_change_with_whatever_is_committed(place: Place) -> None:
    """A journal may have none; but the same strokes twice mean that nothing came in between, from anybody."""
    mine, other = place.open(), place.open()
    before = mine.strokes()
    assert mine.strokes() == before
    for writer in (other, mine, mine.beside("another")):
        writer.append([b"x"])
        after = mine.strokes()
        assert after is None or after != before
        assert other.strokes() == after
        before = after
    with other.transaction():
        assert mine.strokes() is None, "somebody may be about to commit"


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_after_a_killed_writer_the_file_itself_is_asked_until_somebody_writes(place: Place) -> None:
    journal = place.open()
    writer = subprocess.Popen(place.writing("one", 1, "0", "killed"), stdout=subprocess.PIPE, text=True)
    assert writer.communicate(timeout=60)[0].split() == ["inside"]
    assert journal.strokes() is None
    journal.append([b"x"])
    assert journal.strokes() is not None
    assert journal.read() == [b"x"]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_what_is_unsynced_is_there_for_everybody(place: Place) -> None:
    journal = SqliteJournal(Path(place.at), place.name)
    with journal.unsynced():
        journal.append([b"a"])
    journal.append([b"b"])
    journal.sync()
    assert place.open().read() == [b"a", b"b"]
    journal.close()


@durable
def test_two_processes_cannot_fork_it(place: Place) -> None:
    place.open()
    writers = [subprocess.Popen(place.writing(w, 40), stdout=subprocess.PIPE, text=True) for w in ("one", "two")]
    numbers = [int(n) for w in writers for n in w.communicate(timeout=60)[0].split()]
    entries = place.open().read()
    assert sorted(numbers) == list(range(80)), "a number was given twice, or not at all"
    assert [entry.decode().partition(" at ")[2] for entry in entries] == [str(i) for i in range(80)]


@durable
def test_a_killed_writer_keeps_what_it_was_told_is_kept(place: Place) -> None:
    place.open()
    writer = subprocess.Popen(place.writing("one", 100_000), stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(20)]
    writer.kill()
    told += [int(line) for line in writer.stdout if line.endswith("\n")]
    writer.stdout.close()
    writer.wait()
    entries = place.open().read()
    assert told == list(range(len(told)))
    assert len(told) <= len(entries) <= len(told) + 1, "a confirmed entry is gone"
    place.open().append([b"next"], expected_size=len(entries))


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_full_disk_loses_nothing(place: Place) -> None:
    place.open().append([b"a" * 1000] * 50)
    done = subprocess.run(place.writing("one", 1000, "200000"), capture_output=True, text=True, timeout=60, check=True)
    *told, last = done.stdout.split()
    assert last == "full"
    journal = place.open()
    assert journal.size() == 50 + len(told)
    assert journal.append([b"there is room again"]) == 51 + len(told)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_gap_is_noticed(place: Place) -> None:
    journal = place.open()
    assert isinstance(journal, SqliteJournal)
    journal.append([b"a", b"b", b"c"])
    journal._db.execute(f"DELETE FROM {place.name} WHERE position = 1")
    with pytest.raises(StorageError, match="missing"):
        journal.read()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="cannot use"):
        SqliteJournal(tmp_path / "log.db")
