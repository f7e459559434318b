"""A privacy filter: what events cost when a later one may depend on what the earlier ones released.

Composition theorems ask for noise, rates and the number of steps to be fixed beforehand. If somebody looks at results
and then decides how much noise the next round gets, or whether there is a next round *with other settings*, their sum
is no bound. A filter (Rogers, Roth, Ullman, Vadhan 2016, https://arxiv.org/abs/1605.08294) is a rule for when to stop
that holds for every way of deciding. At one fixed order alpha, Renyi divergences may simply be added, fully adaptively
(Feldman and Zrnic 2021, https://arxiv.org/abs/2008.11193); with the conversion of Canonne, Kamath, Steinke
2020 (https://arxiv.org/abs/2004.00010, Proposition 12) that is a filter for (epsilon, delta).

The best order depends on the events, so it would itself be chosen by results. Ten orders therefore share the delta:
the run goes on while any of them allows it, each outcome ends under the order that allowed the most, and the chances
of failure add up to at most delta. That costs 10 to 30 % above a plain RDP accountant, and needs no foresight.

The number is the smallest epsilon whose filter would have admitted the events. What is promised is the filter's own
epsilon, the budget: a number read off in the middle, at a moment chosen by results, would be an odometer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from numpy.typing import NDArray

from fedge.privacy.accountant import Adjacency, Key, grouped
from fedge.privacy.events import Event, Unit

ORDERS = (2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 30.0, 70.0, 200.0)
"""Orders alpha, fixed for all time; whole numbers, for which the divergence is a finite sum."""


def epsilon(
    events: Iterable[Event], delta: float, *, adjacency: Adjacency = "add/remove", unit: Unit = "record"
) -> float:
    """Return the smallest epsilon at `delta` whose filter admits `events`, however they were chosen."""
    groups = grouped(events, adjacency, unit)
    if groups is None:
        return math.inf
    if not groups:
        return 0.0
    divergence = sum((count * _divergence(key) for key, count in groups), np.zeros(len(ORDERS)))
    return max(0.0, float(np.min(divergence + _conversion(delta))))


def _conversion(delta: float) -> NDArray[np.float64]:
    """Return what to add to the divergence of each order for epsilon, at each order's share of `delta`."""
    alpha, share = np.asarray(ORDERS), delta / len(ORDERS)
    converted: NDArray[np.float64] = np.log1p(-1 / alpha) - (math.log(share) + np.log(alpha)) / (alpha - 1)
    return converted


@lru_cache(maxsize=1024)
def _divergence(key: Key) -> NDArray[np.float64]:
    """Return the Renyi divergence of one step of `key` at each of ORDERS.

    Replace-one of a sample is bounded by the way over the data without the unit (Mironov 2017, Corollary 4,
    https://arxiv.org/abs/1702.07476); on all data it is exactly the Gaussian of twice the sensitivity.
    """
    alpha = np.asarray(ORDERS)
    if key.sample_rate == 1:
        distance = 1.0 if key.adjacency == "add/remove" else 2.0
        exact: NDArray[np.float64] = alpha * (distance / key.noise_multiplier) ** 2 / 2
        return exact
    if key.adjacency == "add/remove":
        return _sampled(key, ORDERS)
    away = _sampled(key, tuple(2 * alpha)) * (alpha - 0.5) / (alpha - 1)
    back: NDArray[np.float64] = away + _sampled(key, tuple(2 * alpha - 1))
    return back


def _sampled(key: Key, orders: tuple[float, ...]) -> NDArray[np.float64]:
    accountant = RdpAccountant(orders)
    accountant.compose(PoissonSampledDpEvent(key.sample_rate, GaussianDpEvent(key.noise_multiplier)))
    return np.asarray(accountant.rdp, dtype=np.float64)
