"""One entry: what it says, what that is worth, who signed it, and the proof that it is in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedge.audit import verify
from fedge.audit.merkle import inclusion, leaf_hash
from fedge.audit.note import parse
from fedge.audit.proof import Receipt
from fedge.audit.verify import Entry, Signed, Unproven
from fedge.reports.viewer import tree, views
from fedge.reports.viewer.checking import Checked
from fedge.reports.viewer.index import Index, Row

MAX_RECEIPT = 1_200_000
"""Bytes of the largest receipt: an entry, 63 hashes and a checkpoint with 5,000 signatures."""


@dataclass(frozen=True)
class EntryView:
    """What the page of an entry shows. `steps` and what follows are empty where no signed root is to be had."""

    entry: Entry | None
    signed: Signed | None
    grade: str
    why: str
    leaf: str
    steps: tuple[tree.Step, ...] = ()
    drawing: Markup | None = None
    root: str = ""
    receipt: str | None = None

    @property
    def fields(self) -> Mapping[str, Any]:
        """What the entry says."""
        return self.entry.payload if self.entry else {}


def entry_view(index: Index, row: Row, checked: Checked) -> EntryView:
    """Return what the page of the entry in `row` shows."""
    raw = index.raw(row.number)
    try:
        entry, signed = verify.parse_entry(row.number, raw)
    except Unproven:
        return EntryView(None, None, "FAILED", row.fault or "", leaf_hash(raw).hex() if raw else "")
    grade, why = views.grade(entry, row.fault, checked.verification)
    leaf = leaf_hash(raw)
    if not checked.checkpoint or not index.size:
        return EntryView(entry, signed, grade, why, leaf.hex())
    proof, note = inclusion(index, row.number), parse(checked.checkpoint)
    steps = tree.climb(row.number, index.size, leaf, proof)
    root = verify.parse_checkpoint(checked.checkpoint).root
    node = tree.Node((row.number, row.number + 1), leaf)
    return EntryView(
        entry=entry,
        signed=signed,
        grade=grade,
        why=why,
        leaf=leaf.hex(),
        steps=tuple(steps),
        drawing=tree.draw(node, steps, root),
        root=root.hex(),
        receipt=Receipt(row.number, tuple(proof), note, raw).text,
    )


def receipt_text(bundle: Path, row: Row) -> bytes | None:
    """Return the receipt that the bundle holds for a client's statement that can be relied on, None if it holds none.

    The path is made of what the verifier has accepted, never of what a browser has asked for.
    """
    if row.fault is not None or row.seq is None:
        return None
    try:
        with (bundle / "receipts" / row.signer / f"statement-{row.seq:04d}.tlog-proof").open("rb") as file:
            return file.read(MAX_RECEIPT)
    except OSError:
        return None
