"""The command line as a function, and a finished run that a test may change."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedge import cli
from fedge.running import Result

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


@pytest.fixture
def copied(tmp_path: Path, finished: Result) -> Path:
    """Return a finished run that a test may change."""
    return Path(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
