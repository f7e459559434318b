"""Figures: a value, its grade, and the entries that it came from; as they stand in the report.

    PROVEN    recomputed from the log and public keys
    ATTESTED  signed by the party that alone could know it
    DECLARED  typed by a person
    MISSING   not in the log; shown, never hidden

A figure is `{"value": …, "grade": …, "entries": "7,9-12"}`; a row of a table has its members beside grade and entries.
Nothing is PROVEN of a log that does not hold: what its entries say is still signed, and so ATTESTED.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedge.encoding import decimal
from fedge.reports.references import Refs, refs

Grade = Literal["PROVEN", "ATTESTED", "DECLARED", "MISSING"]
Value = None | bool | int | str | list[Any] | dict[str, Any]
Source = int | None | Refs | Iterable[int]
"""Which entries: one, none, or several."""

MISSING: Mapping[str, Any] = {"value": None, "grade": "MISSING", "entries": ""}


@dataclass(frozen=True)
class Figures:
    """How to grade what a log says that `holds`, or does not."""

    holds: bool

    def proven(self, value: Value | float, source: Source) -> dict[str, Any]:
        """Return a figure that was recomputed; MISSING if there is no value."""
        return self._figure(value, "PROVEN" if self.holds else "ATTESTED", source)

    def attested(self, value: Value | float, source: Source) -> dict[str, Any]:
        """Return a figure that its signer alone could know; MISSING if there is no value."""
        return self._figure(value, "ATTESTED", source)

    def declared(self, value: Value | float, source: Source) -> dict[str, Any]:
        """Return a figure that a person has typed; MISSING if there is no value."""
        return self._figure(value, "DECLARED", source)

    def row(self, members: Mapping[str, Any], source: Source, *, attested: bool = False) -> dict[str, Any]:
        """Return a row whose members all come from `source`."""
        grade = "PROVEN" if self.holds and not attested else "ATTESTED"
        return dict(members) | {"grade": grade, "entries": _text(source)}

    def _figure(self, value: Value | float, grade: Grade, source: Source) -> dict[str, Any]:
        if value is None:
            return dict(MISSING)
        plain = decimal(value) if isinstance(value, float) else value
        return {"value": plain, "grade": grade, "entries": _text(source)}


def _text(source: Source) -> str:
    if source is None:
        return ""
    if isinstance(source, Refs):
        return source.text
    return refs([source] if isinstance(source, int) else source).text
