"""How a figure of the report is said in a language: its text, with its entries and its grade."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedge.reports.document.blocks import Cell, Text
from fedge.reports.words import Words

Figure = Mapping[str, Any]
DASH = "—"


@dataclass(frozen=True)
class Say:
    """One run of a report, in one language."""

    words: Words
    run: Mapping[str, Any]
    index: int = 0

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return a fixed text."""
        return self.words(key, **values)

    def line(self, key: str, /, **values: Any) -> Text:
        """Return a fixed text as a line."""
        return (self.cell(self(key, **values)),)

    def cell(self, text: str, entries: str = "", **looks: Any) -> Cell:
        """Return a cell of this run."""
        return Cell(text, entries, run=self.index, **looks)

    def figure(self, figure: Figure, text: str | None = None, *, code: bool = False, graded: bool = False) -> Text:
        """Return a figure as a line: its value (or `text` for it), and where it came from."""
        if figure["grade"] == "MISSING":
            return (self.cell(self("page.not_in_log"), grade="MISSING"),)
        shown = self.plain(figure["value"]) if text is None else text
        return (self.cell(shown, figure["entries"], code=code, grade=figure["grade"] if graded else ""),)

    def bare(self, figure: Figure, text: str | None = None) -> Text:
        """Return a figure without its references, for a row that has them in a column of their own."""
        if figure["grade"] == "MISSING":
            return (self.cell(DASH),)
        return (self.cell(self.plain(figure["value"]) if text is None else text),)

    def number(self, figure: Figure) -> Text:
        """Return a decimal figure with as many digits as people read, without its references."""
        return self.bare(figure, None if figure["value"] is None else self.decimal(figure["value"]))

    def source(self, entries: str) -> Text:
        """Return nothing but where something came from."""
        return (self.cell("", entries),)

    def plain(self, value: Any) -> str:
        """Return a value as text."""
        if isinstance(value, bool):
            return self("page.yes" if value else "page.no")
        if isinstance(value, list):
            return ", ".join(map(str, value)) or DASH
        return DASH if value is None else str(value)

    def decimal(self, value: str | float | None, digits: int = 4) -> str:
        """Return a decimal string as people read it."""
        if value is None:
            return DASH
        number = float(value)
        if math.isnan(number):
            return self("page.no_number")
        return self("page.unlimited") if math.isinf(number) else f"{number:.{digits}g}"

    def took(self, milliseconds: int) -> str:
        """Return a duration as people say it."""
        seconds = milliseconds / 1000
        for key, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
            if abs(seconds) < most:
                return self(f"permission.took_{key}", n=f"{seconds / size:.{1 if key == 's' else 0}f}")
        return self("permission.took_d", n=f"{seconds / 86_400:.0f}")

    def value(self, figure: Figure) -> str:
        """Return the value of a figure for use within a sentence."""
        return DASH if figure["value"] is None else self.plain(figure["value"])

    def names(self, codes: Sequence[str], section: str) -> str:
        """Return codes in words, one after the other."""
        return "; ".join(self.words.of(section, c) for c in codes) or DASH


def short(at: str | None) -> str:
    """Return a time of an entry as people read it, in UTC."""
    return f"{at[:19].replace('T', ' ')}\u00a0Z" if at else DASH


def digest(text: str | None) -> str:
    """Return the first digits of a digest: enough to tell two apart by eye."""
    return f"{text[:19]}…" if text else DASH
