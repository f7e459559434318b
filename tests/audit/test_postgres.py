"""The log in PostgreSQL: a whole run on the real thing, and what is said where the database is not as it must be."""

import builtins
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from fedge.check import check_house
from fedge.compose import compose
from fedge.config import RunConfig
from fedge.encoding import from_plain
from fedge.errors import ConfigError, LogConflictError, StorageError
from fedge.postgres import PostgresJournal
from fedge.running import resume, run
from tests.conftest import SMALL
from tests.postgres import binaries, server


@pytest.mark.slow
def test_a_run_whose_log_lies_in_postgresql(tmp_path: Path, postgres: str) -> None:
    result = run(*SMALL, "rounds=2", "log.store=postgresql", f"log.dsn='{postgres}'", f"out={tmp_path}")
    assert result.verification.holds, result.verification.checks
    assert not (result.folder / "server" / "log.db").exists()
    journal = PostgresJournal(postgres, result.folder.name, "entries")
    assert journal.size() == result.verification.size
    assert [p for p in check_house(result.folder) if not p.kept] == []
    assert resume(result.folder).verification.holds

    journal._db.execute("DELETE FROM fedge_journal WHERE log = %s AND position > 5", (result.folder.name,))
    journal.close()
    assert [p.name for p in check_house(result.folder) if not p.kept], "a log that was cut must be noticed"
    with pytest.raises((LogConflictError, StorageError)):
        resume(result.folder)


def test_logs_of_one_database_do_not_meet(postgres: str) -> None:
    one, two = (PostgresJournal(postgres, log, "entries") for log in ("run-one", "run-two"))
    one.append([b"a"])
    with two.transaction():  # holds the lock of its own log only
        two.append([b"b", b"c"])
        one.append([b"d"])
    assert (one.read(), two.read()) == ([b"a", b"d"], [b"b", b"c"])


def test_a_server_that_dies_is_a_storage_error() -> None:
    programs = binaries()
    if programs is None:
        pytest.skip("POSTGRESQL ABSENT: install the package postgresql")
    with server(programs) as dsn:
        journal = PostgresJournal(dsn, "run", "entries")
        journal.append([b"a"])
    with pytest.raises(StorageError, match="cannot use log run in PostgreSQL"):
        journal.append([b"b"])
    with pytest.raises(StorageError, match=r"check log\.dsn"):
        PostgresJournal(dsn, "run", "entries")


def test_a_database_that_forgets_is_refused(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = PostgresJournal._one
    monkeypatch.setattr(PostgresJournal, "_one", lambda self, q, *v: "off" if q == "SHOW fsync" else ask(self, q, *v))
    with pytest.raises(StorageError, match="fsync = off"):
        PostgresJournal(postgres, "run", "entries")


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, globals_: Mapping[str, object] | None = None, *rest: Sequence[str]) -> ModuleType:
        if name == "psycopg":
            raise ImportError(name)
        return real(name, globals_, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"fedge\[postgres\]"):
        PostgresJournal("dbname=x", "run", "entries")


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"store": "postgresql"}, "names the database"),
        ({"dsn": "dbname=x"}, "names the database"),
        ({"store": "postgresql", "dsn": "host=x password=secret"}, "holds a password"),
        ({"store": "postgresql", "dsn": "postgresql://me:secret@db/x"}, "holds a password"),
        ({"store": "mysql"}, "expected one of sqlite, postgresql"),
    ],
)
def test_a_log_that_cannot_be_kept_so(log: Mapping[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_plain(RunConfig, {"log": log}, ConfigError)


def test_a_url_without_a_password_composes() -> None:
    assert compose(["log.store=postgresql", "log.dsn='postgresql://me@db.example/x'"]).log.dsn is not None


def test_setpriv_is_there_for_root() -> None:
    if binaries() is not None:
        assert shutil.which("setpriv"), "PostgreSQL never runs as root; setpriv comes with util-linux"
