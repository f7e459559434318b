"""fedge's own permission events, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedge.consent.events import PermissionEvent
from fedge.consent.importing import Entry
from fedge.consent.sources import lines
from fedge.encoding import from_plain
from fedge.errors import FedgeError, PermissionRecordError

Naming = Callable[[str], str]
"""What a subject is called here: its pseudonym."""


def as_is(name: str) -> str:
    """Return the name: the Naming of files that hold pseudonyms already."""
    return name


def entries(path: Path, naming: Naming = as_is, encoding: str | None = None) -> Iterator[Entry]:
    """Yield an entry for each line of `path`."""
    for number, line in lines(path, encoding):
        yield _entry(f"line {number}", line, naming)


def _entry(place: str, line: str, naming: Naming) -> Entry:
    try:
        event = from_plain(PermissionEvent, json.loads(line, object_pairs_hook=unique), PermissionRecordError)
        return Entry(place, (event if event.subject == "*" else replace(event, subject=naming(event.subject)),))
    except (ValueError, RecursionError) as error:
        return Entry(place, refused=f"not JSON: {error}")
    except FedgeError as error:
        return Entry(place, refused=str(error))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict; a name given twice is a ValueError: which of the two is meant is unknown."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same name twice")
    return found
