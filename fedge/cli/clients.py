"""Which client folders a path means: one client's, a run's, or a home of many."""

from __future__ import annotations

from pathlib import Path

from fedge.errors import ConfigError
from fedge.rounds.folder import ClientFolder


def client_folders(path: Path) -> dict[str, ClientFolder]:
    """Return the client folders at or below `path`, by name. Raises ConfigError if there is none."""
    if (path / "ledger.db").is_file():
        return {path.resolve().name: ClientFolder(path)}
    root = path / "clients" if (path / "clients").is_dir() else path
    found = {p.name: ClientFolder(p) for p in sorted(root.glob("*")) if (p / "ledger.db").is_file()}
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
