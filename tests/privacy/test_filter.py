"""The filter: above every accountant that assumes a fixed schedule, and never beaten by one that looks at results."""

import math
import warnings
from statistics import NormalDist

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.privacy import accountant
from fedge.privacy.events import Gaussian, NonPrivate, SampledGaussian
from fedge.privacy.filter import ORDERS, epsilon

DELTA = 1e-5
PHI = NormalDist().cdf
EVENTS = st.builds(SampledGaussian, st.sampled_from([0.01, 0.1, 0.3]), st.floats(0.8, 6), st.integers(1, 200))


@settings(max_examples=8, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_never_below_what_a_fixed_schedule_costs(events: list[SampledGaussian]) -> None:
    plain = RdpAccountant()
    for e in events:
        plain.compose(PoissonSampledDpEvent(e.sample_rate, GaussianDpEvent(e.noise_multiplier)), e.steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library on its own orders of alpha
        assert plain.get_epsilon(DELTA) <= epsilon(events, DELTA) * (1 + 1e-9) + 1e-9
    assert accountant.epsilon(events, DELTA) <= epsilon(events, DELTA)


def test_a_gaussian_by_hand() -> None:
    """Divergence alpha / (2 sigma²); epsilon by Canonne, Kamath, Steinke 2020 at a tenth of the delta."""
    sigma, steps = 5.0, 10
    by_order = [
        steps * a / (2 * sigma**2) + math.log((a - 1) / a) - (math.log(DELTA / 10) + math.log(a)) / (a - 1)
        for a in ORDERS
    ]
    assert epsilon([Gaussian(sigma, steps)], DELTA) == pytest.approx(min(by_order), rel=1e-12)


def test_adaptive_choices_cannot_beat_the_filter() -> None:
    """After one Gaussian the adversary sees its output, and takes whichever continuation hurts most there.

    Exact, by quadrature over the first output x: the chance of failure of all that follows is that of a Gaussian at
    the epsilon that x has left. Every continuation fills the budget by the filter's own judgement.
    """
    sigma, budget, delta = 3.0, 2.0, 1e-3
    continuations = [least_noise(sigma, steps, budget, delta) / math.sqrt(steps) for steps in (1, 3, 10, 100)]
    x = np.linspace(-12 * sigma, 12 * sigma, 4001)
    density = np.exp(-((x - 1) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    loss = (2 * x - 1) / (2 * sigma**2)
    worst = [max(failure(s, budget - left) for s in (*continuations, math.inf)) for left in loss]
    assert float(np.trapezoid(density * np.asarray(worst), x)) <= delta


def least_noise(first: float, steps: int, budget: float, delta: float) -> float:
    """Return the least noise of `steps` Gaussians that the filter admits after one of noise `first`."""
    low, high = 0.1, 1e4
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        fits = epsilon([Gaussian(first), Gaussian(middle, steps)], delta) <= budget
        low, high = (low, middle) if fits else (middle, high)
    return high


def failure(sigma: float, eps: float) -> float:
    """Return delta of a Gaussian at `eps`, also below zero (Balle and Wang 2018, Theorem 5); infinite noise is none."""
    if sigma == math.inf:
        return max(0.0, 1 - math.exp(eps))
    return PHI(0.5 / sigma - eps * sigma) - math.exp(eps) * PHI(-0.5 / sigma - eps * sigma)


def test_replace_one_costs_more_and_is_exact_without_sampling() -> None:
    run = [SampledGaussian(0.1, 2.0, 50)]
    assert epsilon(run, DELTA, adjacency="replace-one") >= accountant.epsilon(run, DELTA, adjacency="replace-one")
    whole = [Gaussian(4.0, 3)]
    assert epsilon(whole, DELTA, adjacency="replace-one") == epsilon([Gaussian(2.0, 3)], DELTA)


def test_nothing_and_everything() -> None:
    assert epsilon([], DELTA) == 0
    assert epsilon([Gaussian(1.0), NonPrivate()], DELTA) == math.inf
    assert epsilon([Gaussian(3.0)], DELTA, unit="client") == math.inf
