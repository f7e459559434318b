"""The proof that an entry is in the log, drawn: the way from the entry up to the signed root, one hash a step.

On the way, each hash is computed from the two below it: one computed before, one given by the proof. If the last is
the root that the log has signed, the entry is in the log. Sources: RFC 9162, section 2.1.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedge.audit.merkle import Range, node_hash, siblings

WIDTH, STEP, BOX, TALL = 468, 84, 150, 44
"""Of the drawing: its width, the height of a step, the width and height of a box."""
MIDDLE = WIDTH / 2
FITS = 18
"""Characters that a box is wide enough for; more are drawn closer together."""


@dataclass(frozen=True)
class Node:
    """A subtree: which entries it holds (first, one after the last), and its hash."""

    entries: Range
    hash: bytes

    @property
    def label(self) -> str:
        """Which entries it holds."""
        first, stop = self.entries
        return f"entry {first:,}" if stop - first == 1 else f"{first:,} – {stop - 1:,}"


@dataclass(frozen=True)
class Step:
    """One step up: the node reached, computed from the one before and the `sibling` that the proof gives."""

    node: Node
    sibling: Node
    sibling_left: bool


def climb(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> list[Step]:
    """Return the steps from the entry at `index` to the root of a tree of `size` entries; `leaf` is the entry's hash.

    Raises ValueError for a proof of another length than the tree's height there.
    """
    steps: list[Step] = []
    inside, found = (index, index + 1), leaf
    for beside, given in zip(siblings(index, 0, size), proof, strict=True):
        left = beside[0] < inside[0]
        found = node_hash(given, found) if left else node_hash(found, given)
        inside = (min(inside[0], beside[0]), max(inside[1], beside[1]))
        steps.append(Step(Node(inside, found), Node(beside, given), left))
    return steps


def draw(leaf: Node, steps: Sequence[Step], root: bytes) -> Markup:
    """Return the drawing as inline SVG: the root above, the entry below, what the proof gives at the sides."""
    height = STEP * len(steps) + TALL + 2
    drawn: list[str] = []
    for number, step in enumerate(reversed(steps)):
        below = steps[-number - 2].node if number + 1 < len(steps) else leaf
        drawn += _step(number, step, below)
    top = steps[-1].node if steps else leaf
    holds = top.hash == root
    drawn.append(_box(MIDDLE, 0, top, "root" if holds else "broken", "root" if steps else "the only entry is the root"))
    said = f"{leaf.label.capitalize()} is hashed together with {len(steps)} hashes that the proof gives. " + (
        "The last is the signed root." if holds else "The last is NOT the signed root."
    )
    return Markup(
        f'<svg class="proof" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Proof of inclusion as a tree">'
        f"<desc>{said}</desc>{''.join(drawn)}</svg>"
    )


def _step(number: int, step: Step, below: Node) -> list[str]:
    top, bottom = STEP * number + TALL, STEP * (number + 1)
    side = BOX / 2 + 1 if step.sibling_left else WIDTH - BOX / 2 - 1
    kind, note = ("leaf", "this entry") if below.entries[1] - below.entries[0] == 1 else ("computed", "computed")
    return [
        f'<line class="way" x1="{MIDDLE}" y1="{top}" x2="{MIDDLE}" y2="{bottom}"/>',
        f'<line class="edge" x1="{MIDDLE}" y1="{top}" x2="{side}" y2="{bottom}"/>',
        _box(side, bottom, step.sibling, "given", "from the proof"),
        _box(MIDDLE, bottom, below, kind, note),
    ]


def _box(x: float, y: float, node: Node, kind: str, note: str) -> str:
    said = f"root, {node.label}" if kind == "root" else node.label
    closer = f' textLength="{BOX - 12}" lengthAdjust="spacingAndGlyphs"' if len(said) > FITS else ""
    return (
        f'<g class="{kind}"><title>{node.label} ({note}): {node.hash.hex()}</title>'
        f'<rect x="{x - BOX / 2}" y="{y + 1}" width="{BOX}" height="{TALL}" rx="6"/>'
        f'<text x="{x}" y="{y + 19}" text-anchor="middle"{closer}>{said}</text>'
        f'<text x="{x}" y="{y + 35}" text-anchor="middle" class="hash">{node.hash.hex()[:14]}…</text></g>'
    )
