"""Which clients a round asks: a seeded draw over the sorted roster, so that it can be repeated."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    known = sorted(roster)
    if len(known) < minimum:
        raise RoundError(f"{len(known)} clients can be reached, at least {minimum} are needed")
    size = max(minimum, math.ceil(fraction * len(known)))
    order = dice.permutation(len(known))
    return tuple(sorted(known[int(i)] for i in order[:size]))
