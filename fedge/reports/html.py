"""A document as one HTML file: no script, nothing from elsewhere; prints to A4, follows dark mode, is read aloud.

`report.css` is the one style of all pages; `page` is also how other pages (a person's receipt, the viewer) are made.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from fedge.reports.document import Document
from fedge.reports.document.blocks import Cell, Text
from fedge.reports.references import parse_refs
from fedge.reports.visible import shown
from fedge.reports.words import Words, words

SPELLED = 3
"""References that a page spells out; of more it says how many, and their spelling is the link's title."""


def html(document: Document) -> str:
    """Return `document` as a page; every string is escaped."""
    listed = {anchor for b in document.blocks if b.kind == "table" for anchor in getattr(b, "anchors", ())}

    def reference(cell: Cell) -> list[tuple[str, str, str]]:
        return _references(cell, document.words, listed)

    return page("report.html", document=document, say=document.words, reference=reference, svg=Markup)


def _references(cell: Cell, say: Words, listed: set[str]) -> list[tuple[str, str, str]]:
    """Return text, link (or nothing) and title of each reference of `cell`."""
    found = parse_refs(cell.entries)
    if not len(found):
        return []
    places = [(n, f"r{cell.run}-entry-{n}") for n, _ in zip(found, range(SPELLED), strict=False)]
    links = [(say("page.entry", n=n), f"#{a}" if a in listed else "", "") for n, a in places]
    if len(found) <= SPELLED:
        return links
    return [(say("page.entries", n=f"{len(found):,}"), links[0][1], cell.entries[:200])]


def page(template: str, **values: Any) -> str:
    """Return the page that `template` makes of `values`, in the one style of all pages; every string is escaped."""
    environment = Environment(
        loader=PackageLoader("fedge.reports"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"reason": words("en").reason, "number": _number, "bare": _bare, "length_of": _length}
    style = Markup((resources.files("fedge.reports") / "templates" / "report.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, **values)


def _bare(cell: Cell) -> Cell:
    """Return where a cell came from, without its text."""
    return replace(cell, text="")


def _length(cells: Text) -> int:
    return sum(len(cell.text) for cell in cells)


def _number(value: float | str | None, digits: int = 3) -> str:
    if value is None:
        return "—"
    number = float(value)
    return "unlimited" if number == float("inf") else f"{number:.{digits}g}"
