"""What every test shares: small runs, the shared data, time that is handed in."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from fedge import cli
from fedge.running import Result, run
from tests.postgres import binaries, server
from tests.rounds.people import RUN as PEOPLE
from tests.rounds.people import records, task

torch.set_num_threads(1)

MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**30:
    # Runs make every step durable; a disk in memory survives a killed process as any other does, and is four times as
    # fast. What a power cut would do is no test's business.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

SMALL = (
    "rounds=3",
    "training.steps=5",
    "evaluation.epsilon=4",
    "population.clients=3",
    "population.shares=[0.5,0.3,0.2]",
    "consent.withdrawals=[{round: 2, client: hospital-1}]",
)
"""A run of seconds: three hospitals, three rounds, one withdrawal."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return a finished small run; tests that change files copy its folder first."""
    return run(*SMALL, f"out={tmp_path_factory.mktemp('runs')}")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return a finished run over the named people of `tests.rounds.people`; see `copied`."""
    return run(*PEOPLE, f"out={tmp_path_factory.mktemp('people')}", task=task(records()))


@pytest.fixture
def copied(people: Result, tmp_path: Path) -> Path:
    """Return a copy of the folder of `people` that a test may change."""
    return Path(shutil.copytree(people.folder, tmp_path / people.folder.name))


@pytest.fixture
def shared() -> Path:
    """Return the folder of shared data and vectors, or skip loudly."""
    folder = Path(os.environ.get("FEDGE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"SHARED DATA ABSENT: {folder} does not exist; set FEDGE_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Yield the connection string of a real PostgreSQL server, or skip loudly."""
    programs = binaries()
    if programs is None:
        pytest.skip("POSTGRESQL ABSENT: neither on the PATH nor in /usr/lib/postgresql; install the package postgresql")
    with server(programs) as dsn:
        yield dsn


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fedge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return the command line as a function: arguments in; exit code, stdout, stderr out."""

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fedge", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return call
