"""Receipts that somebody holds, judged: what each proves, and whether the open bundle of its log still holds it.

A receipt is a client's, or a person's (`fedge receipt` writes one for each use of their data). One that proves an entry
which the bundle does not hold is evidence against the bundle: its log was cut or rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from fedge.audit import verify
from fedge.audit.verify import Unproven
from fedge.reports.proved import Proved, proved
from fedge.reports.viewer import tree
from fedge.reports.viewer.checking import Checked
from fedge.reports.viewer.index import Index
from fedge.reports.viewer.shelf import Volume

MAX_RECEIPTS = 100
"""How many may be sent at once."""


@dataclass(frozen=True)
class Judgement:
    """What became of one receipt: `proved` unless `fault` says why not; `volume` is the bundle of its log, if open."""

    name: str
    proved: Proved | None = None
    volume: Volume | None = None
    fault: str = ""

    @property
    def drawing(self) -> Markup | None:
        """The proof as a tree, if it leads to its checkpoint's root."""
        if self.proved is None:
            return None
        receipt, leaf = self.proved.receipt, verify.leaf_hash(self.proved.entry.raw)
        steps = tree.climb(receipt.index, receipt.checkpoint.size, leaf, receipt.proof)
        return tree.draw(tree.Node((receipt.index, receipt.index + 1), leaf), steps, receipt.checkpoint.root)


def judge(name: str, data: bytes, volumes: Iterable[Volume]) -> Judgement:
    """Return what the receipt `data`, which its sender calls `name`, proves against the bundles that are open."""
    try:
        text = data.decode("utf-8")
        origin = verify.parse_receipt(text).checkpoint.origin
    except (UnicodeDecodeError, Unproven) as error:
        why = str(error) if isinstance(error, Unproven) else "it is not text"
        return Judgement(name, fault=f"not a receipt (a .tlog-proof file): {why}")
    for volume in volumes:
        checked = volume.state.checked
        if checked is not None and checked.policy and verify.parse_policy(checked.policy).log.name == origin:
            return _against(name, text, volume, checked)
    return Judgement(name, fault=f"it is of log {origin}, and no bundle of that log is open whose files hold")


def _against(name: str, text: str, volume: Volume, checked: Checked) -> Judgement:
    receipt = verify.parse_receipt(text)
    with Index.open(checked.path) as index:
        held = index.raw(receipt.index) if receipt.index < checked.entries else None
    try:
        found = proved(text, verify.parse_policy(checked.policy), held, map(verify.parse_vkey, checked.witnesses))
    except Unproven as error:
        return Judgement(name, None, volume, str(error))
    if found.entry.raw != held:
        fault = f"it proves entry {receipt.index}, which the bundle's log does not hold: the log was cut or rewritten"
        return Judgement(name, found, volume, fault)
    return Judgement(name, found, volume)
