"""References: the numbers of the log entries that a figure came from, short however many they are.

    7              one entry
    7-12           every entry from 7 to 12
    12+101x1000    1,000 entries, every 101st from 12: what one client has said in a thousand rounds
    7,9-12,30      several of these

There is one spelling for each set: ascending, and taken from the left as long as it goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fedge.errors import ParseError

ITEM = re.compile(r"(0|[1-9]\d{0,15})(?:-([1-9]\d{0,15})|\+([1-9]\d{0,15})x([1-9]\d{0,15}))?", re.ASCII)
SHORTEST = 3
"""Fewer entries at equal distances are written one by one."""


@dataclass(frozen=True)
class Refs:
    """A set of entry numbers, as ranges with a step, ascending."""

    parts: tuple[range, ...] = ()

    def __iter__(self) -> Iterator[int]:
        """Yield every number, ascending."""
        for part in self.parts:
            yield from part

    def __contains__(self, index: object) -> bool:
        """Return whether `index` is among them."""
        return any(index in part for part in self.parts)

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(map(len, self.parts))

    @property
    def text(self) -> str:
        """The one spelling; the inverse of `parse_refs`."""
        return ",".join(_item(part) for part in self.parts)


def refs(numbers: Iterable[int]) -> Refs:
    """Return the references to `numbers`, which may come in any order and twice."""
    return Refs(tuple(_runs(sorted(set(numbers)))))


def parse_refs(text: str) -> Refs:
    """Return the references that `text` spells. Raises ParseError for any spelling that `Refs.text` does not print."""
    found = [ITEM.fullmatch(item) for item in text.split(",")] if text else []
    parts = tuple(_range(m) for m in found if m)
    if len(parts) != len(found) or any(not part for part in parts) or not _canonical(Refs(parts), text):
        raise ParseError(f"{text[:60]!r} are not references to entries such as 7,9-12,30+101x10")
    return Refs(parts)


def _canonical(found: Refs, text: str) -> bool:
    if len(found) > 10_000_000:  # more than a log has; do not count that far
        return False
    return refs(found).text == text


def _range(match: re.Match[str]) -> range:
    first, last, step, count = match.groups()
    if last:
        return range(int(first), int(last) + 1)
    return range(int(first), int(first) + int(step or 1) * int(count or 1), int(step or 1))


def _runs(numbers: list[int]) -> Iterator[range]:
    """Yield the longest ranges of equal steps, from the left; what is too short goes one by one."""
    place = 0
    while place < len(numbers):
        stop = place + 1
        if stop < len(numbers):
            step = numbers[stop] - numbers[place]
            while stop < len(numbers) and numbers[stop] - numbers[stop - 1] == step:
                stop += 1
            if stop - place >= SHORTEST:
                yield range(numbers[place], numbers[stop - 1] + 1, step)
                place = stop
                continue
        yield range(numbers[place], numbers[place] + 1)
        place += 1


def _item(part: range) -> str:
    if len(part) == 1:
        return str(part[0])
    return f"{part[0]}-{part[-1]}" if part.step == 1 else f"{part[0]}+{part.step}x{len(part)}"
