"""What events cost, against the library used directly, against Opacus' two accountants, and against a closed form."""

import math
import random
import warnings
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld import privacy_loss_distribution as pld
from opacus.accountants import PRVAccountant, RDPAccountant

from fedge.errors import UnsoundError
from fedge.privacy import accountant
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


def by_the_library(event: SampledGaussian, relation: NeighboringRelation, delta: float) -> float:
    """Return epsilon by dp-accounting's own accountant, which shares no line with ours but the library."""
    accountant = PLDAccountant(relation, value_discretization_interval=1e-4)
    accountant.compose(PoissonSampledDpEvent(event.sample_rate, GaussianDpEvent(event.noise_multiplier)), event.steps)
    return float(accountant.get_epsilon(delta))


def drawn(count: int) -> list[tuple[SampledGaussian, float]]:
    """Return random settings that somebody would run: epsilon from hundredths to tens."""
    dice = random.Random(20261124)
    return [
        (
            SampledGaussian(
                10 ** dice.uniform(-2.5, -0.3), 10 ** dice.uniform(-0.1, 1), round(10 ** dice.uniform(0, 3))
            ),
            10 ** dice.uniform(-7, -3),
        )
        for _ in range(count)
    ]


def check_against_the_library(settings: list[tuple[SampledGaussian, float]]) -> None:
    for event, delta in settings:
        theirs, ours = by_the_library(event, NeighboringRelation.ADD_OR_REMOVE_ONE, delta), epsilon([event], delta)
        assert theirs * (1 - 1e-9) <= ours <= 1.01 * theirs, (event, delta)


def test_never_below_the_library_and_within_one_percent() -> None:
    check_against_the_library(drawn(10))


@pytest.mark.slow
def test_two_hundred_settings_against_the_library() -> None:
    check_against_the_library(drawn(200)[10:])


@pytest.mark.parametrize("event", [SampledGaussian(0.1, 2.0, 50), SampledGaussian(0.02, 1.0, 200)])
def test_replace_one_against_the_library(event: SampledGaussian) -> None:
    theirs = by_the_library(event, NeighboringRelation.REPLACE_ONE, DELTA)
    ours = epsilon([event], DELTA, adjacency="replace-one")
    assert theirs * (1 - 1e-9) <= ours <= 1.01 * theirs
    assert ours > 1.3 * epsilon([event], DELTA)


def test_one_run_under_both_adjacencies() -> None:
    """The same run has one number for a record more and twice it for another record: a reader must be told which."""
    run = [SampledGaussian(0.2, 2.65, 300)]
    assert epsilon(run, DELTA) == pytest.approx(6.41, abs=0.05)
    assert epsilon(run, DELTA, adjacency="replace-one") == pytest.approx(13.8, abs=0.2)
    whole = Gaussian(5.0, 20)
    assert epsilon([whole], DELTA, adjacency="replace-one") == pytest.approx(epsilon([Gaussian(2.5, 20)], DELTA))


def test_no_angle_between_two_contributions_is_worse_than_opposite_ones() -> None:
    """Replace-one of a sampled Gaussian in two dimensions, by quadrature: the pair that is judged is the worst one."""
    rate, sigma, eps = 0.3, 1.0, 0.4
    axis = np.linspace(-7, 7, 281)
    x, y = np.meshgrid(axis, axis)

    def density(angle: float, length: float) -> np.ndarray:
        def normal(cx: float, cy: float) -> np.ndarray:
            return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)

        return (1 - rate) * normal(0, 0) + rate * normal(length * np.cos(angle), length * np.sin(angle))

    def divergence(angle: float, length: float = 1.0) -> float:
        loss = density(0, 1.0) - np.exp(eps) * density(angle, length)
        return float(np.maximum(loss, 0).sum() * (axis[1] - axis[0]) ** 2)

    worst = divergence(np.pi)
    assert all(divergence(a) <= worst + 1e-9 for a in np.linspace(0, np.pi, 13))
    assert all(divergence(np.pi, length) <= worst + 1e-9 for length in (0.0, 0.5, 0.9))


def test_units_protect_each_other_as_far_as_they_do() -> None:
    client = SampledGaussian(0.1, 4.0, 30, unit="client")
    plain = SampledGaussian(0.1, 4.0, 30)
    assert epsilon([client], DELTA, unit="client") == epsilon([plain], DELTA)
    # Another record makes another update of its client, not none: for records the adjacency is replace-one.
    assert epsilon([client], DELTA) == epsilon([plain], DELTA, adjacency="replace-one")
    assert epsilon([plain], DELTA, unit="client") == math.inf
    assert epsilon([client, plain], DELTA, unit="client") == math.inf


def test_a_new_setting_costs_as_much_as_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every admission composes what is new with what was composed before; nothing grows but a logarithm."""
    composed = 0
    inner = pld.PrivacyLossDistribution.compose

    def counting(*given: Any, **named: Any) -> Any:
        nonlocal composed
        composed += 1
        return inner(*given, **named)

    monkeypatch.setattr(pld.PrivacyLossDistribution, "compose", counting)
    events, needed = [], []
    for n in range(40):
        events.append(Gaussian(30.0 + n / 7))
        before = composed
        epsilon(events, DELTA)
        needed.append(composed - before)
    assert max(needed) <= 6  # log2(40) and one
    assert sum(needed) <= 2 * len(needed)
    before = composed
    for n in range(40):
        epsilon([*events, *[Gaussian(60.0)] * n], DELTA)  # equal ones are counted, not composed
    assert composed - before <= 80


def test_the_number_does_not_depend_on_what_was_composed_before() -> None:
    events = [Gaussian(20.0 + n) for n in range(13)]
    grown = [epsilon(events[:n], DELTA) for n in range(1, 14)][-1]
    for kept in (accountant._epsilon, accountant._composed, accountant._kept, accountant._single):
        kept.cache_clear()
    assert epsilon(events, DELTA) == grown


@pytest.mark.parametrize(
    "events", [[event] for event, _ in GOLDEN[:2]] + [[GOLDEN[0][0], SampledGaussian(0.05, 2, 50)]]
)
def test_opacus_agrees(events: list[SampledGaussian]) -> None:
    rdp, prv = RDPAccountant(), PRVAccountant()
    for e in events:
        for theirs in (rdp, prv):
            theirs.history.append((e.noise_multiplier, e.sample_rate, e.steps))
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
    assert together == pytest.approx(epsilon([two, one], DELTA), rel=1e-9)
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
