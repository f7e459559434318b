"""Kill -9 at each order of effect, look, restart, look again: the promises hold, and the model is the same."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedge.check import check_house
from fedge.running import Result, resume
from tests.conftest import SMALL

SERVER = [("answered", 2), ("prepared", 2), ("appended", 2), ("sealed", 1), ("sealed", 3), ("released", 2)]
CLIENT = [("reserved", 4), ("learned", 4), ("kept", 5), ("committed", 4)]


def kill_at(out: Path, party: str, step: str, nth: int, *overrides: str) -> None:
    """Run until the process kills itself; a run that ends otherwise fails the test."""
    command = [sys.executable, "-m", "tests.rounds.dying", str(out), party, step, str(nth), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def broken(run: Path) -> list[str]:
    return [f"{p.name}: {p.text}" for p in check_house(run) if not p.kept]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("party", "step", "nth"), [*(("server", *s) for s in SERVER), *(("client", *s) for s in CLIENT)]
)
def test_kill_restart_same_model(tmp_path: Path, finished: Result, party: str, step: str, nth: int) -> None:
    kill_at(tmp_path, party, step, nth)
    (run,) = tmp_path.iterdir()
    assert broken(run) == []
    result = resume(run)
    assert broken(run) == []
    assert result.verification.holds, result.verification.checks
    assert digest(result.model) == digest(finished.model), "the resumed run ends with another model"


@pytest.mark.slow
@pytest.mark.parametrize(("step", "nth"), CLIENT)
def test_kill_a_cohort_whose_clients_share_files(tmp_path: Path, finished: Result, step: str, nth: int) -> None:
    """Each phase is over for all before the next begins for any; whichever one dies, the promises hold."""
    kill_at(tmp_path, "client", step, nth, *SMALL, "engine=direct", "population.packed=true")
    (run,) = tmp_path.iterdir()
    assert broken(run) == []
    result = resume(run)
    assert broken(run) == []
    assert result.verification.holds, result.verification.checks
    assert digest(result.model) == digest(finished.model)


@pytest.mark.slow
def test_kill_twice(tmp_path: Path, finished: Result) -> None:
    kill_at(tmp_path, "server", "appended", 2)
    (run,) = tmp_path.iterdir()
    kill_at(run, "client", "kept", 2)
    result = resume(run)
    assert broken(run) == []
    assert result.verification.holds
    assert digest(result.model) == digest(finished.model)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
