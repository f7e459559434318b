"""fedge's own permission events, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedge.consent.events import PermissionEvent
from fedge.consent.importing import Entry
from fedge.consent.sources import lines
from fedge.encoding import from_plain
from fedge.errors import FedgeError, PermissionRecordError


def entries(path: Path, encoding: str | None = None) -> Iterator[Entry]:
    """Yield an entry for each line of `path`."""
    for number, line in lines(path, encoding):
        yield _entry(f"line {number}", line)


def _entry(place: str, line: str) -> Entry:
    try:
        event = from_plain(PermissionEvent, json.loads(line, object_pairs_hook=unique), PermissionRecordError)
        return Entry(place, (event,))
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
