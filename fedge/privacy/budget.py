"""A budget, and whether one more event fits in it: decided before anything is spent.

A budget may renew itself: what was spent longer ago than `period` no longer counts against `epsilon`. It is not
forgotten. What anybody can learn of a record is bounded by all that was ever released, so the total is what composes,
it is what the log states, and `total` may bound it. "1 a year" for ten years is not epsilon 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from fedge.privacy import accountant
from fedge.privacy import filter as privacy_filter
from fedge.privacy.accountant import STATEMENT, Adjacency, Statement
from fedge.privacy.events import Event, NonPrivate, Unit

_DAY = timedelta(days=1)
Schedule = Literal["fixed", "adaptive"]
"""Whether noise, sample rate and steps are independent of results, or may follow from them."""


@dataclass(frozen=True)
class Budget:
    """The most that may be learned of one `unit`: `epsilon` at `delta`, over all runs, within any `period`.

    Without a period that is for ever; `total` bounds what is spent for ever beside a period. `schedule` says what the
    owner assumes of those who ask: with "fixed" the settings of each run are fixed before its first result and events
    are judged tightly; with "adaptive" anything may depend on anything, and a privacy filter judges. A budget of
    people admits only what is noised for people: where one owns several records, noise made for a record hides nobody.
    """

    epsilon: float
    delta: float
    period: timedelta | None = None
    total: float = math.inf
    schedule: Schedule = "fixed"
    unit: Unit = "record"

    def __post_init__(self) -> None:
        if not self.epsilon > 0 or not 0 < self.delta < 1:  # NaN is not above 0 either
            raise ValueError("a budget has epsilon above 0 and delta in (0, 1)")
        if self.period is not None and not _DAY <= self.period <= 36_500 * _DAY:
            raise ValueError("the period of a budget is at least a day and at most 36,500")
        if not self.total >= self.epsilon:
            raise ValueError("the total of a budget is at least the epsilon of one period")

    @property
    def for_ever(self) -> float:
        """The most that may ever be spent: what holds for a record whatever the period."""
        return self.total if self.period else min(self.epsilon, self.total)

    @property
    def statement(self) -> Statement:
        """What the numbers of this budget are about."""
        said = replace(STATEMENT, unit=self.unit)
        return said if self.schedule == "fixed" else replace(said, accountant="RDP filter")

    def cost(self, events: Sequence[Event], adjacency: Adjacency = "add/remove") -> float:
        """Return the epsilon of `events` at this budget's delta, by the accountant that its schedule needs."""
        judge = accountant.epsilon if self.schedule == "fixed" else privacy_filter.epsilon
        return judge(events, self.delta, adjacency=adjacency, unit=self.unit)


@dataclass(frozen=True)
class Admission:
    """Whether an event fits, with what counts against the budget before and after it, and the total after it."""

    admitted: bool
    before: float
    after: float
    total: float


def admits(budget: Budget, spent: Sequence[Event], event: Event, recent: Sequence[Event] | None = None) -> Admission:
    """Return whether `event` fits into `budget` after `spent`, of which `recent` (all, if None) are of this period."""
    counted = spent if recent is None else recent
    before, after = budget.cost(counted), budget.cost([*counted, event])
    total = after if recent is None else budget.cost([*spent, event])
    return Admission(after <= budget.epsilon and total <= budget.for_ever, before, after, total)


def rounds_left(
    budget: Budget, spent: Sequence[Event], event: Event, most: int = 100_000, recent: Sequence[Event] | None = None
) -> int:
    """Return how many more times `event` fits now, at most `most`."""

    def fits(times: int) -> bool:
        return times <= most and admits(budget, spent, _repeated(event, times), recent).admitted

    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _repeated(event: Event, times: int) -> Event:
    return event if isinstance(event, NonPrivate) else replace(event, steps=event.steps * times)
