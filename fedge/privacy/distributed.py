"""Noise that several parties add, none of them enough: what their sum is worth.

The sum of n independent discrete Gaussians is not a discrete Gaussian, but so close to one that on a fine grid no
experiment tells them apart: the largest ratio of probabilities is at most exp(`excess`) in each coordinate (Kairouz,
Liu, Steinke 2021, https://arxiv.org/abs/2102.06387, Theorem 10 and Corollary 12). On the grids used here, 2**22 steps
to a standard deviation, the exponent is so small that it is 0 in floating point; a coarser grid is refused.
"""

from __future__ import annotations

import math

from fedge.errors import UnsoundError

NEGLIGIBLE = 1e-30


def excess(std: float, shares: int) -> float:
    """Return the largest log-ratio between the sum of `shares` discrete Gaussians and one discrete Gaussian.

    `std` is the standard deviation of each share in steps of the grid, at least 1/2.
    """
    if std < 0.5:
        raise UnsoundError("a share of noise narrower than half a step of its grid hides nothing")
    return 10 * sum(math.exp(-2 * math.pi**2 * std**2 * k / (k + 1)) for k in range(1, shares))


def check_sum_is_gaussian(std: float, grid: float, shares: int, dimension: int) -> None:
    """Raise UnsoundError unless `shares` of standard deviation `std` sum to a discrete Gaussian for all purposes."""
    found = dimension * excess(std / grid, shares)
    if found > NEGLIGIBLE:
        raise UnsoundError(
            f"{shares} shares of noise of {std / grid:.3g} steps of the grid differ from a Gaussian by {found:.3g}; "
            "use a finer grid"
        )
