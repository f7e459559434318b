"""A finished small run that a test may change."""

import shutil
from pathlib import Path

import pytest

from fedge.running import Result


@pytest.fixture
def copied(tmp_path: Path, finished: Result) -> Path:
    """Return a copy of the finished small run."""
    return Path(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
