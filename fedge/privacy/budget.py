"""A budget, and whether one more event fits in it: decided before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedge.privacy.accountant import epsilon
from fedge.privacy.events import Event


@dataclass(frozen=True)
class Budget:
    """The most that may ever be learned of one record: `epsilon` at `delta`, over all runs."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not self.epsilon > 0 or not 0 < self.delta < 1:  # NaN is not above 0 either
            raise ValueError("a budget has epsilon above 0 and delta in (0, 1)")


@dataclass(frozen=True)
class Admission:
    """Whether an event fits, with the totals before and after it."""

    admitted: bool
    before: float
    after: float


def admits(budget: Budget, spent: Sequence[Event], event: Event) -> Admission:
    """Return whether `event` fits into `budget` after `spent`."""
    after = epsilon([*spent, event], budget.delta)
    return Admission(after <= budget.epsilon, epsilon(spent, budget.delta), after)


def rounds_left(budget: Budget, spent: Sequence[Event], event: Event, most: int = 100_000) -> int:
    """Return how many more times `event` fits, at most `most`."""
    low, high = 0, 1
    while high <= most and epsilon([*spent, *[event] * high], budget.delta) <= budget.epsilon:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        fits = middle <= most and epsilon([*spent, *[event] * middle], budget.delta) <= budget.epsilon
        low, high = (middle, high) if fits else (low, middle)
    return low
