"""Who may lie, and the answer: every attack of `docs/audit.md` is mounted, and the document says what is printed."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedge.audit.verify import report, verify_run
from fedge.errors import LogConflictError
from fedge.running import Result, resume
from tests.audit.attacks import ATTACKS
from tests.audit.forging import Attack, Forger

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
NAMED = {attack.__name__: attack for attack in ATTACKS}  # type: ignore[attr-defined]


@pytest.fixture
def forger(tmp_path: Path, finished: Result) -> Forger:
    return Forger(finished.folder, tmp_path)


def rows() -> dict[str, str]:
    """Return what the document says is printed, by the name of the attack."""
    found = re.findall(r"^\|[^|]+\| `(\w+)` \| ([^|]+?) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)


def test_the_document_has_a_row_for_every_attack() -> None:
    assert rows().keys() == NAMED.keys()


def test_what_is_not_forged_holds(forger: Forger) -> None:
    found = forger.verify()
    assert found.holds, found.failures


def test_a_forger_with_all_keys_can_write_a_log_that_holds(forger: Forger) -> None:
    """Otherwise an attack might be seen for a fault of the forger's tools."""
    forger.mend_chains()
    forger.mend_close()
    forger.publish(("hospital-1", "hospital-2", "hospital-3"))
    forger.give_receipts()
    found = forger.verify()
    assert found.holds, found.failures


@pytest.mark.parametrize("name", NAMED)
def test_the_attack_is_seen_and_the_document_says_how(forger: Forger, name: str) -> None:
    attack: Attack = NAMED[name]
    found = attack(forger)
    assert not found.holds, f"{name} is not seen"
    printed = [line.removeprefix("FAILED").strip() for line in report(found).split("\n") if line.startswith("FAILED")]
    said = ".*".join(re.escape(part.strip()) for part in rows()[name].split("…"))
    assert any(re.fullmatch(said, line) for line in printed), printed


# ---- any byte ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory, finished: Result) -> Iterator[Path]:
    bundle = Forger(finished.folder, tmp_path_factory.mktemp("flips")).bundle
    yield bundle
    found = verify_run(bundle)
    assert found.holds, f"a flipped byte was not put back: {found.failures}"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_byte_is_seen(copied: Path, data: st.DataObject) -> None:
    files = sorted(p for p in copied.rglob("*") if p.is_file())
    path = data.draw(st.sampled_from(files), label="file")
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1), label="place")
    mask = data.draw(st.integers(1, 255), label="mask")
    try:
        path.write_bytes(original[:place] + bytes([original[place] ^ mask]) + original[place + 1 :])
        assert not verify_run(copied).holds, f"{path} at {place}"
    finally:
        path.write_bytes(original)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_cut_file_is_seen(copied: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(p for p in copied.rglob("*") if p.is_file())), label="file")
    original = path.read_bytes()
    try:
        path.write_bytes(original[: data.draw(st.integers(0, len(original) - 1), label="length")])
        assert not verify_run(copied).holds, path
    finally:
        path.write_bytes(original)


# ---- before an auditor looks: clients meet a fork in `test_witness*.py` ------------------------------------------


def test_a_server_with_an_old_database_does_not_start(tmp_path: Path, finished: Result) -> None:
    """The database of an empty log is put back under what was published."""
    run = Path(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
    for path in (run / "server").glob("log.db*"):
        path.unlink()
    with pytest.raises(LogConflictError, match="an older database was put back"):
        resume(run)
