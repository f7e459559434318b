"""Private selection against the paper's formula, written out, and its number of tries against its distribution."""

import json
import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant

from fedge.privacy import accountant, noise, selection
from fedge.privacy.events import Gaussian, NonPrivate, SampledGaussian
from tests.conftest import Run

DELTA = 1e-5


def by_the_paper(divergence: dict[float, float], mean: float) -> float:
    """Return epsilon by Papernot and Steinke 2022, Theorem 2 with eta 1, and Canonne, Kamath, Steinke 2020, Prop. 12.

    For every order a and every order b of the base: R(a) + 2 (1 - 1/b) R(b) + 2 log(1/gamma) / b + log(E K) / (a - 1),
    where the geometric distribution of mean E K has gamma = 1 / E K.
    """
    extra = min(2 * (1 - 1 / b) * r + 2 * math.log(mean) / b for b, r in divergence.items())
    best = math.inf
    for a, r in divergence.items():
        total = r + extra + math.log(mean) / (a - 1)
        best = min(best, total + math.log1p(-1 / a) - (math.log(DELTA) + math.log(a)) / (a - 1))
    return best


@pytest.mark.parametrize("mean", [2.0, 10.0, 100.0])
@pytest.mark.parametrize("sigma", [3.0, 10.0])
def test_a_gaussian_by_the_paper(mean: float, sigma: float) -> None:
    orders = [*range(2, 64), 128, 256, 512]
    divergence = {float(a): a / (2 * sigma**2) for a in orders}
    assert selection.epsilon(Gaussian(sigma), DELTA, mean) == pytest.approx(by_the_paper(divergence, mean), rel=0.01)


def test_a_sampled_gaussian_by_the_paper() -> None:
    orders = [float(a) for a in range(2, 64)]
    plain = RdpAccountant(orders)
    plain.compose(PoissonSampledDpEvent(0.1, GaussianDpEvent(2.0)), 300)
    divergence = dict(zip(orders, map(float, plain.rdp), strict=True))
    ours = selection.epsilon(SampledGaussian(0.1, 2.0, 300), DELTA, 10)
    assert ours == pytest.approx(by_the_paper(divergence, 10), rel=0.01)


def test_between_one_try_and_all_of_them() -> None:
    """A ten-fold search: the best of a secret number lies between one try and ten that are seen."""
    one = SampledGaussian(0.1, 2.0, 300)
    single, chosen = accountant.epsilon([one], DELTA), selection.epsilon(one, DELTA, 10)
    seen = accountant.epsilon([one] * 10, DELTA)
    assert single < chosen < 0.6 * seen
    assert (round(single, 1), round(chosen, 1), round(seen, 1)) == (4.2, 8.3, 16.2)


def test_edges() -> None:
    assert selection.epsilon(NonPrivate(), DELTA, 3) == math.inf
    for mean in (0.5, math.nan):
        with pytest.raises(ValueError, match="at least 1"):
            selection.epsilon(Gaussian(1.0), DELTA, mean)


def test_tries_are_geometric() -> None:
    dice = noise.seeded(7, "selection")
    drawn = np.asarray([selection.tries(dice, 5.0) for _ in range(20_000)])
    assert drawn.min() == 1
    assert drawn.mean() == pytest.approx(5, rel=0.03)
    assert (drawn == 1).mean() == pytest.approx(1 / 5, rel=0.05)
    assert (drawn > 10).mean() == pytest.approx(0.8**10, rel=0.1)
    assert selection.tries(dice, 1.0) == 1


def test_the_commands_print_the_same(fedge: Run) -> None:
    settings = ["--sample-rate", "0.1", "--noise-multiplier", "2", "--steps", "300"]
    event = SampledGaussian(0.1, 2.0, 300)
    costs = json.loads(fedge("privacy", "selection", "--mean", "10", *settings, "--format", "json")[1])
    assert costs["best_of_secret_number"] == selection.epsilon(event, DELTA, 10)
    assert "only the best of a secret, geometric number" in fedge("privacy", "selection", "--mean", "10", *settings)[1]
    plain = json.loads(fedge("privacy", "epsilon", *settings, "--format", "json")[1])
    assert plain["replace_one"] == accountant.epsilon([event], DELTA, adjacency="replace-one")
    assert "record-level, add/remove" in fedge("privacy", "epsilon", *settings)[1]
    whole = fedge("privacy", "epsilon", "--noise-multiplier", "2", "--steps", "4", "--unit", "client")[1]
    assert "client-level, add/remove" in whole
    assert "no sampling" in whole
    assert "another client takes the place" in whole
    assert fedge("privacy", "epsilon", *settings, "--unit", "household")[0] == 2


@pytest.mark.parametrize(
    "options",
    [["--steps", "0"], ["--steps", "3", "--delta", "2"], ["--steps", "3", "--sample-rate", "0"]],
)
def test_what_has_no_cost(fedge: Run, options: list[str]) -> None:
    assert fedge("privacy", "epsilon", "--noise-multiplier", "1", *options)[0] == 2
    assert fedge("privacy", "selection", "--mean", "0", "--noise-multiplier", "1", "--steps", "3")[0] == 2
