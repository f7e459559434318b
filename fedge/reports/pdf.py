"""A document as PDF: tagged, fonts embedded, the digest of `report.json` on each page.

Typst sets it, from a wheel that needs no system package and asks nothing of the network. The texts are handed over as
data, never as markup. The same document gives the same bytes, so that an edited PDF is found by making it again;
another version of Typst may break lines elsewhere, and says so of itself in the file.
Road not taken: printing the HTML in a browser (a browser is no library) and reportlab (its tags are not free).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata, resources
from typing import Any

from fedge.errors import ConfigError
from fedge.reports import plots
from fedge.reports.document import Document
from fedge.reports.document.blocks import Block, Cell, Plot, Table, Text
from fedge.reports.references import parse_refs
from fedge.reports.visible import shown
from fedge.reports.words import Words

SPELLED = 3
"""References of one figure that a page spells out; of more it says how many they are."""


def pdf(document: Document) -> bytes:
    """Return `document` as a PDF file. Raises ConfigError if the extra `pdf` is not installed."""
    try:
        import typst
    except ImportError as error:
        raise ConfigError("a PDF needs Typst; install it with: pip install 'fedge[pdf]'") from error
    template = (resources.files("fedge.reports") / "templates" / "report.typ").read_bytes()
    made = typst.compile(
        template,
        format="pdf",
        ignore_system_fonts=True,
        timestamp=0,  # the report says itself when it was made; another time in the file would make other bytes
        sys_inputs={"document": json.dumps(_plain(document), ensure_ascii=False)},
    )
    return bytes(made)


def typst_version() -> str | None:
    """Return which Typst would set a PDF here, None if there is none."""
    try:
        return metadata.version("typst")
    except metadata.PackageNotFoundError:
        return None


def _plain(document: Document) -> dict[str, Any]:
    blocks = [_block(b, document.words) for b in document.blocks if not (isinstance(b, Table) and b.folded)]
    return {
        "title": shown(document.title),
        "language": document.words.language,
        "digest": document.digest,
        "blocks": blocks,
    }


def _block(block: Block, say: Words) -> dict[str, Any]:
    members = {name: shown(getattr(block, name)) for name in block.__dataclass_fields__}
    if isinstance(block, Plot):
        return members | {"svg": plots.standalone(block.svg) or ""}
    if isinstance(block, Table):
        rows = [[{"cells": _cells(text, say)} for text in row] for row in block.rows]
        widths = _widths(block)
        return members | {"rows": rows, "numeric": sorted(block.numeric), "widths": widths, "anchors": []}
    return {name: _value(value, say) for name, value in members.items()}


def _value(value: Any, say: Words) -> Any:
    if isinstance(value, Cell):
        return _cell(value, say)
    if isinstance(value, list | tuple):
        return [_value(v, say) for v in value]
    return shown(value)


def _cells(text: Text, say: Words) -> list[dict[str, Any]]:
    return [_cell(c, say) for c in text]


def _cell(cell: Cell, say: Words) -> dict[str, Any]:
    found = parse_refs(cell.entries)
    some = ", ".join(say("page.entry", n=n) for n in (found if len(found) <= SPELLED else ()))
    spelled = some or (say("page.entries", n=f"{len(found):,}") if len(found) else "")
    return {"text": cell.text, "grade": cell.grade, "code": cell.code, "tone": cell.tone, "refs": spelled}


def _widths(table: Table) -> Sequence[int]:
    """Return how wide each column is to be, by what stands in it: 0 takes what it needs."""
    columns = [[_length(row[i]) for row in table.rows] for i in range(len(table.head))]
    most = [max([len(h), *c]) for h, c in zip(table.head, columns, strict=True)]
    return [0 if n <= 12 else min(n, 60) for n in most]


def _length(text: Text) -> int:
    return sum(len(c.text) + min(len(c.entries), 12) for c in text)
