"""The mechanism that the ledger accounts for: a clipped sum, rounded to a grid, with discrete Gaussian noise.

The clip norm may follow the data (Andrew et al. 2021, https://arxiv.org/abs/1905.03871): each step also asks how many
units were within it, with noise of its own, and moves it towards a quantile. Both questions are one Gaussian mechanism
on the pair (sum / clip norm, count): a unit adds at most 1 to the first and, as the count is of +1/2 and -1/2, exactly
1/2 to the second. With noise z_sum and z_count their joint multiplier z is given by Theorem 1 there,

    z**-2 = z_sum**-2 + (2 * z_count)**-2

and it is z that the recipe names and the ledger counts, so the sum gets a little more noise than without.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedge.errors import UnsoundError
from fedge.learning.clipping import FLOAT32_MARGIN, Clipped
from fedge.learning.recipe import Adaptive, RecordLevel
from fedge.privacy.noise import Dice, rounding_slack

FINENESS = 2.0**22
"""Steps of the grid to one standard deviation of the noise: far finer than the noise, far coarser than float64."""
AT_ONCE = 2**16
"""So many numbers of noise are drawn together, for as many steps as they last."""
COUNT_GRID = 2.0**-10
"""Counts are sums of halves; their noise is a multiple of this."""
LEAST_SHARE = 1e-4
"""An adaptive clip norm stays above this share of the largest that it may become."""


def sum_multiplier(noise_multiplier: float, count_noise: float) -> float:
    """Return the multiplier of the sum's noise, if that of sum and count together is to be `noise_multiplier`."""
    return float((noise_multiplier**-2 - (2 * count_noise) ** -2) ** -0.5)


class Mechanism:
    """Turns the clipped sums of one job into noisy means, and remembers the clip norm between its steps."""

    def __init__(self, privacy: RecordLevel, normaliser: float, dimension: int, steps: int, dice: Dice) -> None:
        self.dimension, self._normaliser, self._dice = dimension, normaliser, dice
        self._adaptive, self._steps = privacy.adaptive, steps
        self._clip = privacy.clip_norm
        self._multiplier = privacy.noise_multiplier
        if self._adaptive is not None:
            self._multiplier = sum_multiplier(privacy.noise_multiplier, self._adaptive.count_noise)
        self._noise = np.zeros((0, dimension))

    @property
    def claimed(self) -> float:
        """The clip norm that the noise of the coming step is made for."""
        return self._clip

    @property
    def clip_norm(self) -> float:
        """What units are really clipped to: less by what rounding can add."""
        return clipped_to(self._clip, self._grid, self.dimension)

    def release(self, clipped: Clipped) -> NDArray[np.float64]:
        """Return the noisy mean gradient; the next step's clip norm may differ."""
        grid = self._grid
        noisy = (np.rint(clipped.total.numpy() / grid) + self._next_noise()) * grid
        if self._adaptive is not None:
            self._follow(self._adaptive, clipped)
        return np.asarray(noisy / self._normaliser)

    @property
    def _grid(self) -> float:
        return self._multiplier * self._clip / FINENESS

    def _next_noise(self) -> NDArray[np.float64]:
        """Return the next step's noise in steps of the grid: whole numbers, whatever the clip norm is."""
        if len(self._noise) == 0:
            ahead = max(1, min(self._steps, AT_ONCE // max(1, self.dimension)))
            self._noise = self._dice.discrete_gaussian((ahead, self.dimension), FINENESS, 1.0)
            self._steps -= ahead
        step: NDArray[np.float64] = self._noise[0]
        self._noise = self._noise[1:]
        return step

    def _follow(self, adaptive: Adaptive, clipped: Clipped) -> None:
        self._clip = followed(self._clip, adaptive, clipped.within, clipped.units, self._normaliser, self._dice)


def followed(clip: float, adaptive: Adaptive, within: int, units: int, normaliser: float, dice: Dice) -> float:
    """Return the clip norm, moved by the noised share of `units` that are `within` it; none are a count like any."""
    noise = dice.discrete_gaussian((1,), adaptive.count_noise, COUNT_GRID)[0]
    share = 0.5 + (within - units / 2 + noise) / normaliser
    moved = clip * math.exp(-adaptive.learning_rate * (share - adaptive.quantile))
    return min(adaptive.largest, max(adaptive.largest * LEAST_SHARE, moved))


def clipped_to(claimed: float, grid: float, dimension: int) -> float:
    """Return the norm to clip to, so that sums rounded to `grid` have sensitivity `claimed`.

    Raises UnsoundError for a grid so coarse that rounding alone could exceed it: whoever names it may be lying.
    """
    norm = claimed * FLOAT32_MARGIN - rounding_slack(grid, dimension)
    if not norm > 0:
        raise UnsoundError(
            f"a grid of {grid:.3g} for {dimension} numbers moves a sum by more than the clip norm {claimed:g}; "
            "use a finer grid"
        )
    return norm
