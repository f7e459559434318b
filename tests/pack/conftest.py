"""A pack of a finished run, built once; tests that change it copy its folder first."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from click.testing import CliRunner

from fedge.cli.root import app
from fedge.errors import FedgeError
from fedge.running import Result

Built = Callable[..., tuple[int, str]]


def call(*words: Any) -> tuple[int, str]:
    """Return exit code and output of a command; of an error, its message is part of the output."""
    done = CliRunner().invoke(typer.main.get_command(app), [str(w) for w in words])
    if isinstance(done.exception, FedgeError):
        return done.exception.exit_code, f"{done.output}{done.exception}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture(scope="session")
def built(finished: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the folder of a finished run, with its pack in `report/`."""
    run = tmp_path_factory.mktemp("packed") / finished.folder.name
    shutil.copytree(finished.folder, run)
    code, said = call("report", "build", run)
    assert code == 0, said
    return run


@pytest.fixture
def packed(built: Path, tmp_path: Path) -> Path:
    """Return a copy of `built` that a test may change."""
    return Path(shutil.copytree(built, tmp_path / built.name))
