"""What salvage calls intact is intact: whatever is changed, cut or taken away, byte for byte what was sealed."""

import random
from pathlib import Path

import pytest

from fedge.audit.verify import verify_run
from fedge.reports.salvage import Item, items
from fedge.running import Result
from tests.audit.forging import CLIENTS, Forger

ROUNDS = 60


def found(forger: Forger) -> list[Item]:
    return list(items(forger.bundle, verify_run(forger.bundle)))


def intact(of: list[Item]) -> dict[int, bytes]:
    return {i.index: i.raw for i in of if i.fault is None}


@pytest.fixture
def forger(finished: Result, tmp_path: Path) -> Forger:
    return Forger(finished.folder, tmp_path)


def test_of_a_log_that_holds_everything_is(forger: Forger) -> None:
    assert intact(found(forger)) == dict(enumerate(forger.entries))


@pytest.mark.parametrize("way", ["change a byte", "cut off", "add", "take away", "empty"])
def test_whatever_happens_to_a_file_what_is_intact_is_what_was_sealed(forger: Forger, way: str) -> None:
    dice = random.Random(7)
    files = sorted(p for p in (forger.bundle / "audit").rglob("*") if p.is_file())
    sealed = dict(enumerate(forger.entries))
    for path in files * (1 if way in {"take away", "empty"} else ROUNDS // len(files)):
        before = path.read_bytes()
        place = dice.randrange(len(before))
        match way:
            case "change a byte":
                path.write_bytes(
                    before[:place] + bytes([before[place] ^ (1 << dice.randrange(8))]) + before[place + 1 :]
                )
            case "cut off":
                path.write_bytes(before[:place])
            case "add":
                path.write_bytes(before[:place] + dice.randbytes(5) + before[place:])
            case "take away":
                path.unlink()
            case "empty":
                path.write_bytes(b"")
        after = found(forger)
        assert intact(after).items() <= sealed.items(), path
        assert [i.index for i in after] == list(range(len(after)))
        path.write_bytes(before)


def test_entries_after_a_changed_one_are_intact(forger: Forger) -> None:
    """The published hashes still lead to the signed root: the damage is where it is, and nowhere else."""
    path = next(p for p in (forger.bundle / "audit" / "tile" / "entries").rglob("*") if p.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    (lost,) = [i for i in found(forger) if i.fault is not None]
    assert intact(found(forger)) == {n: e for n, e in enumerate(forger.entries) if n != lost.index}


def test_another_log_under_the_same_names_is_not_intact_without_its_root(forger: Forger) -> None:
    """A liar has all keys of the server; entries of the others that he changes bear no signature of theirs."""
    number = forger.index_of("DataUse", client="hospital-1", round=1)
    forger.change(number, forger.server, outcome="failed", reason="task_error")
    forger.publish(CLIENTS)
    faults = {i.index: i.fault for i in found(forger) if i.fault is not None}
    assert list(faults) == [number]
    assert "who signed it cannot be shown" in str(faults[number])
