"""Which clients a round asks: a seeded draw over the sorted roster, so that it can be repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedge.errors import RoundError
from fedge.ids import ClientId


class Permuter(Protocol):
    """A source of random permutations (see `privacy.noise.Dice`)."""

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Return a random order of 0 … n - 1."""
        ...


def cohort(roster: Sequence[ClientId], fraction: float, minimum: int, dice: Permuter) -> tuple[ClientId, ...]:
    """Return ceil(fraction * n) clients of the roster, sorted by name; at least `minimum`.

    Raises RoundError if fewer than `minimum` can be reached: waiting is the caller's decision, never ours.
    """
    return _drawn(sorted(roster), cohort_size(len(roster), fraction, minimum), minimum, dice)


def cohort_size(clients: int, fraction: float, minimum: int) -> int:
    """Return how many of `clients` that can be reached a round asks."""
    return max(minimum, math.ceil(fraction * clients))


def rested_cohort(
    roster: Sequence[ClientId],
    fraction: float,
    minimum: int,
    dice: Permuter,
    asked: Mapping[ClientId, int],
    round_: int,
    separation: int,
) -> tuple[ClientId, ...]:
    """Return a cohort of the same size, of those whom no round since `round_ - separation` has `asked`, or all of them.

    Raises RoundError if they are fewer than `minimum`.
    """
    rested = sorted(c for c in roster if c not in asked or round_ - asked[c] >= separation)
    return _drawn(rested, cohort_size(len(roster), fraction, minimum), minimum, dice)


def _drawn(known: Sequence[ClientId], size: int, minimum: int, dice: Permuter) -> tuple[ClientId, ...]:
    if len(known) < minimum:
        raise RoundError(f"{len(known)} clients can be reached and asked, at least {minimum} are needed")
    order = dice.permutation(len(known))
    return tuple(sorted(known[int(i)] for i in order[:size]))
