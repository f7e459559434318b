"""Which client folders a path means: one client's, a run's, or a home of many; and how commands name a person."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedge.errors import ConfigError, PermissionRecordError
from fedge.rounds.folder import ClientFolder, RunFolder, client_folder, is_client
from fedge.rounds.folder import client_folders as folders_in

if TYPE_CHECKING:
    from fedge.rounds.erasure import Stores

ClientArgument = Annotated[Path, typer.Argument(metavar="CLIENT", help="One client's folder.")]
SubjectArgument = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="A pseudonym (p-…), or with --identifier a name.")
]
PurposeOption = Annotated[list[str], typer.Option("--purpose", "-p", help="A purpose or its public code; may repeat.")]
IdentifierOption = Annotated[
    bool, typer.Option("--identifier", help="SUBJECT is the person's identifier, not a pseudonym.")
]


def client_folders(path: Path) -> dict[str, ClientFolder]:
    """Return the client folders at or below `path`, by name. Raises ConfigError if there is none."""
    if is_client(path):
        return {path.resolve().name: client_folder(path)}
    root = path / "clients" if (path / "clients").is_dir() else path
    found = folders_in(root)
    if not found:
        raise ConfigError(
            f"{path} is neither a client's folder, nor a run's, nor a home of clients (no ledger.db there)"
        )
    return found


def one_client(path: Path) -> ClientFolder:
    """Return the one client folder that `path` is. Raises ConfigError if it means several."""
    found = client_folders(path)
    if len(found) > 1:
        raise ConfigError(f"{path} holds {len(found)} clients; name one, e.g. {next(iter(found.values())).root}")
    return next(iter(found.values()))


def stores_of(folder: ClientFolder) -> Stores:
    """Open what the client in `folder` keeps about people. Raises StorageError if its secret is missing."""
    from fedge.rounds.erasure import open_stores  # here: it loads torch, and most commands open no store

    return open_stores(folder, folder.read_secret(), os.urandom)


def client_of_run(run: Path, client: str) -> ClientFolder:
    """Return the folder of `client` (its name in the run, or a path). Raises ConfigError naming those there are."""
    from fedge import compose  # here: it loads Hydra

    folder = RunFolder(run)
    try:
        home = compose.from_yaml(folder.config_yaml.read_text(encoding="utf-8")).population.home
    except FileNotFoundError as error:
        raise ConfigError(f"{run} is not the folder of a run: it holds no config.yaml") from error
    known = client_folders(Path(home) if home else run)
    if client in known:
        return known[client]
    if is_client(Path(client)):
        return client_folder(Path(client))
    raise ConfigError(f"--client: there is no client {client!r} in {run}; known: {', '.join(known)}")


def person(stores: Stores, subject: str, identifier: bool) -> str:
    """Return the pseudonym that `subject` is, or with `identifier` belongs to. Raises PermissionRecordError."""
    if identifier:
        found: str | None = stores.subjects.find(subject)
        if found is None and stores.subjects.was_erased(subject):
            raise PermissionRecordError(f"{subject!r} has been erased at {stores.folder.root} already")
    else:
        found = subject if stores.subjects.holds(subject) else None
    if found is None:
        raise PermissionRecordError(
            f"there is no person {subject!r} at {stores.folder.root}: never there, or erased already; "
            f"`fedge consent list {stores.folder.root}` names all people, --identifier finds one by name"
        )
    return found


def person_of_run(stores: Stores, run: str, subject: str, identifier: bool) -> str:
    """Return the person's pseudonym. Raises ConfigError if the client has taken no part in the run."""
    if not stores.memory.answers(run):
        known = ", ".join(stores.memory.runs()) or "none"
        raise ConfigError(
            f"{stores.folder.root} has made no statement in run {run}: it is a client of other runs ({known}); "
            "name the client's folder that this run worked with"
        )
    return person(stores, subject, identifier)
