"""The files of a pack, each made from the report and the log's entries: the one place that says which there are.

What builds a pack and what checks it both ask here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedge.encoding import canonical, digest
from fedge.reports import tables
from fedge.reports.bom import bom
from fedge.reports.document import Document, document
from fedge.reports.html import html
from fedge.reports.judged import Judged
from fedge.reports.model_card import model_card
from fedge.reports.pdf import pdf
from fedge.reports.report import Request, report

REPORT, HTML, PDF = "report.json", "report.html", "report.pdf"
ZIP, INSIDE = "pack.zip", "pack/"
"""The one file to hand over, and the folder that it unpacks to."""
FORMATS = ("json", "html", "pdf", "csv", "cards", "zip")


@dataclass(frozen=True)
class Forms:
    """A report and the entries that it was made from, ready to be printed in any form."""

    runs: Sequence[Judged]
    plain: Mapping[str, Any]

    @cached_property
    def canonical(self) -> bytes:
        """The bytes of `report.json`: the object that is signed."""
        return canonical(self.plain)

    @cached_property
    def digest(self) -> str:
        """Their SHA-256, which every other form carries."""
        return digest(self.canonical)

    @cached_property
    def document(self) -> Document:
        """What HTML and PDF print."""
        return document(self.plain, self.digest, [run.entries for run in self.runs])

    def parts(self, formats: Iterable[str] = FORMATS) -> dict[str, Callable[[], Iterable[bytes]]]:
        """Return what makes each file of the chosen formats, by its name; a table comes in pieces."""
        wanted, made = set(formats), dict[str, Callable[[], Iterable[bytes]]]()
        made[REPORT] = lambda: [self.canonical]
        if "html" in wanted:
            made[HTML] = lambda: [html(self.document).encode()]
        if "pdf" in wanted:
            made[PDF] = lambda: [pdf(self.document)]
        if "csv" in wanted:
            made |= {name: self._table(name) for name in tables.TABLES}
        if "cards" in wanted:
            for index, run in enumerate(self.plain["runs"]):
                which = "" if len(self.plain["runs"]) == 1 else f"-{run['name']}"
                made[f"model-card{which}.md"] = self._card(index)
                made[f"ml-bom{which}.cdx.json"] = self._bom(index)
        return made

    def _table(self, name: str) -> Callable[[], Iterable[bytes]]:
        logs = [run.entries for run in self.runs]
        return lambda: (line.encode() for line in tables.lines(name, self.plain, self.digest, logs))

    def _card(self, index: int) -> Callable[[], Iterable[bytes]]:
        return lambda: [model_card(self.plain, index, self.digest).encode()]

    def _bom(self, index: int) -> Callable[[], Iterable[bytes]]:
        return lambda: [bom(self.plain, index, self.digest).encode()]


def forms(runs: Sequence[Judged], request: Request) -> Forms:
    """Return the report that answers `request`, ready to be printed."""
    return Forms(runs, report(runs, request))
