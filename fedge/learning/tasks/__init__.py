"""The tasks that come with fedge."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from fedge.errors import ConfigError
from fedge.learning.task import Task
from fedge.learning.tasks import cancer, digits, fashion, heart

BUILTIN: Mapping[str, Callable[[Path | None], Task]] = MappingProxyType(
    {"cancer": cancer.task, "digits": digits.task, "heart": heart.task, "fashion": fashion.task}
)


def builtin(name: str, folder: Path | None = None) -> Task:
    """Return the shipped task `name`; `folder` holds its files if it needs any. Raises ConfigError."""
    if name not in BUILTIN:
        near = difflib.get_close_matches(name, BUILTIN, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"task.name: unknown task {name!r}, expected one of {', '.join(BUILTIN)}{hint}")
    return BUILTIN[name](folder)
