"""A permission store on disk."""

from pathlib import Path

import pytest

from fedge.consent.store import PermissionStore
from fedge.journal import SqliteJournal


@pytest.fixture
def store(tmp_path: Path) -> PermissionStore:
    return PermissionStore(SqliteJournal(tmp_path / "consent.db", "permissions"))
