"""A document's blocks as Markdown, for the model card; what others wrote is escaped, so that it marks up nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fedge.reports.document.blocks import Block, Bullets, Cell, Facts, Heading, Para, Table, Text, Tiles, Verdict
from fedge.reports.visible import visible

CODE = re.compile(r"[\w:.…+/=-]+")
"""What may stand as code: a digest, a key. Anything else could end the code, or the cell of a table."""
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def markdown(blocks: Iterable[Block]) -> str:
    """Return `blocks` as Markdown; plots are left out."""
    return "\n\n".join(part for block in blocks if (part := "\n".join(_lines(block))))


def escaped(text: str) -> str:
    """Return `text` with everything escaped that Markdown or HTML would take for its own."""
    return SPECIAL.sub(r"\\\1", visible(text)).replace("\n", " ")


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * max(2, block.level)} {escaped(block.text)}"
        case Para():
            yield _text(block.cells)
        case Verdict():
            yield f"**{escaped(block.title)}**"
            yield from ("\n" + _text(line) for line in block.lines)
        case Bullets():
            yield from (f"- {_text(item)}" for item in block.items)
        case Tiles():
            yield from (f"- {escaped(label)}: **{escaped(cell.text)}**" for cell, label in block.items)
        case Facts():
            yield from (f"- {escaped(term)}: {_text(cells)}" for term, cells in block.items)
        case Table():
            yield from _table(block)


def _table(block: Table) -> Iterator[str]:
    if block.caption:
        yield escaped(block.caption) + "\n"
    yield f"| {' | '.join(map(escaped, block.head))} |"
    yield f"|{'|'.join('---:' if i in block.numeric else '---' for i in range(len(block.head)))}|"
    yield from (f"| {' | '.join(map(_text, row))} |" for row in block.rows)


def _word(cell: Cell) -> str:
    return f"`{cell.text}`" if cell.code and CODE.fullmatch(cell.text) else escaped(cell.text)


def _text(cells: Text) -> str:
    parts = []
    for cell in cells:
        parts += [f"**{cell.grade}**"] if cell.grade else []
        parts += [_word(cell)] if cell.text else []
        parts += [escaped(f"[{cell.entries}]")] if cell.entries else []
    return " ".join(parts).strip()
