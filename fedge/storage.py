"""Where the server's log lies, as the configuration says: one place for whoever opens it."""

from __future__ import annotations

from pathlib import Path

from fedge import compose
from fedge.config import Log
from fedge.errors import ConfigError
from fedge.ids import RunId
from fedge.journal import Journal, SqliteJournal
from fedge.postgres import PostgresJournal
from fedge.rounds.folder import RunFolder

ENTRIES = "entries"


def server_journal(log: Log, folder: RunFolder, run: RunId) -> Journal:
    """Return the journal of run `run`: a file in `folder`, or a part of the PostgreSQL database of `log.dsn`.

    Raises StorageError, or ConfigError if the driver is not installed.
    """
    if log.store == "postgresql":
        return PostgresJournal(log.dsn or "", run, ENTRIES)
    return SqliteJournal(folder.server / "log.db", ENTRIES)


def journal_of(run: Path) -> Journal:
    """Return the journal of the run in folder `run`, by its own configuration.

    Raises ConfigError if `run` is not the folder of a run: opening a journal there would make one.
    """
    folder = RunFolder(run)
    if not folder.config_yaml.is_file():
        raise ConfigError(f"{run} is not the folder of a run: it holds no config.yaml")
    log = compose.from_yaml(folder.config_yaml.read_text(encoding="utf-8")).log
    return server_journal(log, folder, RunId(run.resolve().name))
