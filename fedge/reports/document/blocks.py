"""What a document is made of, whatever it is printed as: headings, paragraphs, tables, plots.

A `Cell` is a piece of text that knows its entries and its grade; every text passes `visible` on its way into one. HTML
and PDF are two printers of these blocks, and know nothing of reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedge.reports.visible import visible


@dataclass(frozen=True)
class Cell:
    """A piece of text; `entries` are references into the log of run number `run`."""

    text: str
    entries: str = ""
    grade: str = ""
    code: bool = False
    tone: str = ""
    run: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", visible(self.text))


Text = tuple[Cell, ...]


@dataclass(frozen=True)
class Heading:
    """A section; `anchor` names it within the page."""

    level: int
    text: str
    anchor: str = ""
    grade: str = ""
    kind: str = "heading"


@dataclass(frozen=True)
class Para:
    """A paragraph."""

    cells: Text
    tone: str = ""
    kind: str = "para"


@dataclass(frozen=True)
class Bullets:
    """A list; `ordered` if its steps come one after the other."""

    items: Sequence[Text]
    ordered: bool = False
    kind: str = "bullets"


@dataclass(frozen=True)
class Verdict:
    """The box at the top: good or bad, with what there is to say."""

    good: bool
    title: str
    lines: Sequence[Text]
    kind: str = "verdict"


@dataclass(frozen=True)
class Tiles:
    """A few large numbers, each with what it counts."""

    items: Sequence[tuple[Cell, str]]
    kind: str = "tiles"


@dataclass(frozen=True)
class Facts:
    """Terms and what the log says of them."""

    items: Sequence[tuple[str, Text]]
    kind: str = "facts"


@dataclass(frozen=True)
class Table:
    """Rows under heads; `numeric` are the columns to be aligned right; `rest` says what was left out."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    numeric: frozenset[int] = frozenset()
    rest: str = ""
    folded: str = ""
    anchors: Sequence[str] = ()
    kind: str = "table"


@dataclass(frozen=True)
class Plot:
    """A drawing, as inline SVG of `fedge.reports.plots`; `title` and `summary` say it in words."""

    svg: str
    title: str
    summary: str
    kind: str = "plot"


Block = Heading | Para | Bullets | Verdict | Tiles | Facts | Table | Plot
