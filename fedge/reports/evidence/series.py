"""A curve of however many points, kept in a few: what a plot can show, and the first and the last exactly."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 120
"""Points of one curve; a plot is 640 units wide."""


class Series(Generic[T]):
    """Points (x, y) in the order in which they came; every n-th is kept, n doubling as they become too many."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, T]] = []
        self._step, self._seen = 1, 0
        self._last: tuple[int, T] | None = None

    def add(self, x: int, y: T) -> None:
        """Take one more point."""
        self._last = (x, y)
        if self._seen % self._step == 0:
            self._kept.append((x, y))
        self._seen += 1
        if len(self._kept) > MOST:
            self._kept, self._step = self._kept[::2], 2 * self._step

    @property
    def points(self) -> tuple[tuple[int, T], ...]:
        """The points kept, the last always among them."""
        missing = [self._last] if self._last is not None and self._kept[-1] != self._last else []
        return (*self._kept, *missing)
