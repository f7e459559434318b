"""What is examined: a run's folder, overrides of a configuration, a Python file, a folder of them, or a Flower app."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fedge import compose
from fedge.errors import ConfigError
from fedge.lint import flower, run, script
from fedge.lint.rules import Finding
from fedge.lint.source import program, read
from fedge.rounds.folder import RunFolder

MOST_FILES = 2000
LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv", "build", "dist", "site-packages"})


def findings(target: Sequence[str]) -> list[Finding]:
    """Return what is unsound in `target`: one path, or overrides (KEY=VALUE, also none at all) of a configuration.

    Errors come first. Raises ConfigError for what cannot be read.
    """
    if len(target) == 1 and "=" not in target[0]:
        found = _in_path(Path(target[0]))
    elif all("=" in word for word in target):
        found = list(run.check(compose.compose(target), {}))
    else:
        raise ConfigError("TARGET is one path, or overrides of a configuration such as privacy.epsilon=4")
    return sorted(found, key=lambda f: f.rule.severity != "error")


def _in_path(path: Path) -> list[Finding]:
    if RunFolder(path).config_yaml.is_file():
        return _in_run(RunFolder(path))
    if path.name == "pyproject.toml" and path.is_file():
        path = path.parent
    if path.is_dir():
        return _in_source(_python_files(path), _run_config(path))
    if path.suffix == ".py" and path.is_file():
        return _in_source({path.name: path}, {})
    raise ConfigError(f"{path} is neither the folder of a run, nor a Flower app, nor a Python file or a folder of them")


def _in_run(folder: RunFolder) -> list[Finding]:
    try:
        summary = json.loads(folder.summary.read_text(encoding="utf-8")) if folder.summary.is_file() else {}
        config = compose.from_yaml(folder.config_yaml.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the run in {folder.root}: {error}") from error
    return list(run.check(config, summary if isinstance(summary, dict) else {}))


def _in_source(files: dict[str, Path], config: dict[str, Any]) -> list[Finding]:
    examined = program(read(files), config)
    return [found for check in (*script.CHECKS, *flower.CHECKS) for found in check(examined)]


def _python_files(folder: Path) -> dict[str, Path]:
    found = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*.py")) if _own(p.relative_to(folder).parts)}
    if not found:
        raise ConfigError(f"{folder} is neither the folder of a run nor a Flower app, and holds no Python file")
    if len(found) > MOST_FILES:
        raise ConfigError(f"{folder} holds {len(found)} Python files; name the folder of one app")
    return found


def _own(parts: Iterable[str]) -> bool:
    return not any(part in LEFT_OUT or part.startswith(".") for part in parts)


def _run_config(folder: Path) -> dict[str, Any]:
    """Return the run configuration of the Flower app in `folder`, empty if it is none."""
    file = folder / "pyproject.toml"
    if not file.is_file():
        return {}
    try:
        held: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    for key in ("tool", "flwr", "app", "config"):
        held = held.get(key, {}) if isinstance(held, dict) else {}
    return held if isinstance(held, dict) else {}
