"""What events cost, against the library used directly, against Opacus' two accountants, and against a closed form."""

import math
import warnings
from statistics import NormalDist

import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from fedge.errors import UnsoundError
from fedge.privacy.accountant import epsilon, noise_multiplier
from fedge.privacy.events import Gaussian, NonPrivate, SampledGaussian

DELTA = 1e-5
GOLDEN = (
    (SampledGaussian(0.01, 1.0, 1_000), 1.83),
    (SampledGaussian(0.1, 1.1, 300), 10.43),
    (SampledGaussian(0.001, 0.6, 10_000), 2.46),
)
"""Settings at delta 1e-5 as dp-accounting 0.6's PLD gave them when it was chosen."""
PHI = NormalDist().cdf


@pytest.mark.parametrize(("event", "expected"), GOLDEN)
def test_golden_settings(event: SampledGaussian, expected: float) -> None:
    assert epsilon([event], DELTA) == pytest.approx(expected, abs=0.006)


def bounds(events: list[SampledGaussian], delta: float) -> tuple[float, float]:
    """Return epsilon from below and from above, on a grid five times finer than ours."""
    found = []
    for pessimistic in (False, True):
        parts = [
            pld.from_gaussian_mechanism(
                standard_deviation=e.noise_multiplier,
                sampling_prob=e.sample_rate,
                value_discretization_interval=2e-4,
                pessimistic_estimate=pessimistic,
            ).self_compose(e.steps)
            for e in events
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total.compose(part)
        found.append(total.get_epsilon_for_delta(delta))
    return found[0], found[1]


SETTINGS = st.builds(
    SampledGaussian, st.sampled_from([0.01, 0.05, 0.2, 0.5]), st.floats(0.8, 4.0), st.integers(20, 300)
)


@settings(max_examples=5, deadline=None)
@given(st.lists(SETTINGS, min_size=1, max_size=2), st.sampled_from([1e-5, 1e-3]))
def test_never_below_the_truth_and_within_one_percent(events: list[SampledGaussian], delta: float) -> None:
    low, high = bounds(events, delta)
    ours = epsilon(events, delta)
    assert low <= ours <= 1.01 * high + 1e-3


@pytest.mark.parametrize(
    "events", [[event] for event, _ in GOLDEN[:2]] + [[GOLDEN[0][0], SampledGaussian(0.05, 2, 50)]]
)
def test_opacus_agrees(events: list[SampledGaussian]) -> None:
    rdp, prv = RDPAccountant(), PRVAccountant()
    for e in events:
        for accountant in (rdp, prv):
            accountant.history.append((e.noise_multiplier, e.sample_rate, e.steps))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus on its own orders of alpha
        loose, tight = rdp.get_epsilon(delta=DELTA), prv.get_epsilon(delta=DELTA)
    ours = epsilon(events, DELTA)
    assert ours < loose  # Renyi accounting only ever overstates
    assert ours == pytest.approx(tight, rel=0.01, abs=0.01)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.0])
def test_the_plain_gaussian_has_a_closed_form(sigma: float) -> None:
    """Balle and Wang 2018, https://arxiv.org/abs/1805.06530, Theorem 5: delta of a Gaussian mechanism at epsilon."""
    ours = epsilon([Gaussian(sigma)], DELTA)

    def delta_at(eps: float) -> float:
        return PHI(0.5 / sigma - eps * sigma) - math.exp(eps) * PHI(-0.5 / sigma - eps * sigma)

    assert delta_at(ours) <= DELTA
    assert delta_at(0.99 * ours - 2e-3) > DELTA


def test_steps_and_repetitions_are_the_same() -> None:
    event = SampledGaussian(0.1, 1.5, 10)
    assert epsilon([event] * 3, DELTA) == epsilon([SampledGaussian(0.1, 1.5, 30)], DELTA)


def test_order_does_not_matter_and_more_costs_more() -> None:
    one, two = SampledGaussian(0.1, 1.5, 10), Gaussian(4.0, 2)
    together = epsilon([one, two], DELTA)
    assert together == epsilon([two, one], DELTA)
    assert together > max(epsilon([one], DELTA), epsilon([two], DELTA))
    assert epsilon([Gaussian(4.0, 2)], DELTA) == epsilon([SampledGaussian(1.0, 4.0, 2)], DELTA)


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert epsilon([], DELTA) == 0
    assert epsilon([SampledGaussian(0.1, 1.5, 10), NonPrivate()], DELTA) == math.inf


@pytest.mark.parametrize(("target", "rate", "steps"), [(1.0, 0.1, 100), (4.0, 0.2, 300), (0.1, 1.0, 1), (8.0, 0.5, 20)])
def test_noise_is_the_least_that_keeps_the_promise(target: float, rate: float, steps: int) -> None:
    sigma = noise_multiplier(target, DELTA, rate, steps)
    assert epsilon([SampledGaussian(rate, sigma, steps)], DELTA) <= target
    assert epsilon([SampledGaussian(rate, 0.998 * sigma, steps)], DELTA) > target
    assert sigma == float(f"{sigma:.4g}")


def test_a_promise_that_no_noise_keeps() -> None:
    with pytest.raises(UnsoundError, match="no noise keeps"):
        noise_multiplier(1e-3, DELTA, 0.2, 300)
