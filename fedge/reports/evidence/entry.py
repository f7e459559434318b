"""One verified log entry, and which entries a report is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Entry(Protocol):
    """One verified log entry, as `audit.verify` returns it."""

    @property
    def index(self) -> int:
        """Its position in the log."""
        ...

    @property
    def event(self) -> str:
        """Its event type, e.g. `data_use`."""
        ...

    @property
    def payload(self) -> Mapping[str, Any]:
        """What it states."""
        ...


ALWAYS = frozenset({"run_open", "client_enrol"})
"""What a report needs of a log whatever it is about: which run it is, and who is who."""


@dataclass(frozen=True)
class Scope:
    """Which entries a report is about: one client's or everybody's, of a period or of all time.

    `since` and `until` are times as entries spell them (RFC 3339, UTC, milliseconds), which sort as text; both count
    in.
    """

    client: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self == Scope()

    def of(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries that the report is about, in their order."""
        return (e for e in entries if self.covers(e))

    def covers(self, entry: Entry) -> bool:
        """Return whether the report is about `entry`."""
        said = entry.payload
        if self.client is not None and said.get("client", self.client) != self.client:
            return False
        if entry.event in ALWAYS:
            return True
        return (self.since or "") <= said["at"] and (self.until is None or said["at"] <= self.until)
