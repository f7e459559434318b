"""Reading a million stored events: most differ only in whose they are and when, so the rest is decoded once.

An event whose terms (see `columns`) were met before is built from those and its own fields; the first of its kind goes
through the strict decoder. Only for entries of a journal that fedge itself has printed: a foreign line has one reader,
`events.parse_event`.
"""

from __future__ import annotations

import json
from typing import Any

from fedge.consent.events import PermissionEvent, parse_event
from fedge.errors import PermissionRecordError

OWN = ("subject", "recorded_at", "valid_from", "valid_until", "evidence", "record", "version")


class Reader:
    """Reads stored events one after the other."""

    def __init__(self) -> None:
        self._terms: dict[str, dict[str, Any]] = {}

    def read(self, entry: bytes) -> PermissionEvent:
        """Return the event that `entry` spells. Raises PermissionRecordError or ParseError."""
        try:
            plain = json.loads(entry)
            own = {name: plain.pop(name) for name in OWN if name in plain}
            terms = self._terms.get(json.dumps(plain))
        except (ValueError, AttributeError, RecursionError) as error:
            raise PermissionRecordError(f"a stored permission event cannot be read: {error}") from error
        if terms is None:
            event = parse_event(entry)
            names = [name for name in PermissionEvent.__slots__ if name not in OWN]
            self._terms[json.dumps(plain)] = {name: getattr(event, name) for name in names}
            return event
        if not all(value is None or isinstance(value, str) for value in own.values()):
            raise PermissionRecordError("a stored permission event cannot be read: a field of its own is not text")
        try:
            return PermissionEvent(**terms, **own)
        except (TypeError, ValueError) as error:
            raise PermissionRecordError(f"a stored permission event cannot be read: {error}") from error
