"""The dice: exact in distribution, independent, never the same stream twice."""

import os

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fedge.privacy import noise


def pmf(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return the exact probabilities of the discrete Gaussian (Canonne et al. 2020, Definition 1)."""
    support = np.arange(-int(20 * sigma) - 20, int(20 * sigma) + 21)
    weights = np.exp(-np.square(values) / (2 * sigma**2))
    return np.asarray(weights / np.exp(-np.square(support) / (2 * sigma**2)).sum())


def fits(draws: NDArray[np.float64], sigma: float) -> float:
    """Return the p-value of a chi-square test of whole-numbered `draws` against the exact distribution."""
    reach = max(2, int(3 * sigma))
    inner = np.arange(-reach, reach + 1)
    observed = np.asarray([*(np.sum(draws == k) for k in inner), np.sum(np.abs(draws) > reach)])
    expected = pmf(inner.astype(float), sigma) * len(draws)
    expected = np.append(expected, len(draws) - expected.sum())
    if expected[-1] < 5:
        observed[-2] += observed[-1]
        expected[-2] += expected[-1]
        observed, expected = observed[:-1], expected[:-1]
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.mark.parametrize("sigma", [0.4, 0.9, 1.0, 2.5, 17.3])
def test_the_discrete_gaussian_is_exact(sigma: float) -> None:
    draws = noise.seeded(1, "pmf").discrete_gaussian((100_000,), sigma, 1.0)
    assert fits(draws, sigma) > 1e-4


@pytest.mark.parametrize("planted", ["wider", "two zeros"])
def test_the_test_sees_a_wrong_distribution(planted: str) -> None:
    draws = noise.seeded(1, "pmf").discrete_gaussian((100_000,), 1.0, 1.0)
    if planted == "wider":
        wrong = noise.seeded(1, "pmf").discrete_gaussian((100_000,), 1.03, 1.0)
    else:
        wrong = np.where(noise.seeded(2).bernoulli(len(draws), 0.02), 0.0, draws)
    assert fits(wrong, 1.0) < 1e-4


def test_noise_lies_on_its_grid_and_has_its_spread() -> None:
    grid = noise.grid_for(3.0)
    draws = noise.seeded(5, "grid").discrete_gaussian((200, 500), 3.0, grid)
    assert draws.shape == (200, 500)
    assert np.array_equal(draws / grid, np.round(draws / grid))
    assert np.std(draws) == pytest.approx(3.0, rel=0.01)
    assert abs(np.mean(draws)) < 5 * 3.0 / np.sqrt(draws.size)
    assert stats.kstest(draws.ravel() / 3.0, "norm").pvalue > 1e-4


def test_the_grid_is_far_finer_than_the_noise() -> None:
    for std in (1e-3, 0.5, 1.0, 80.0):
        grid = noise.grid_for(std)
        assert 2**-23 < grid / std <= 2**-22
        assert noise.rounding_slack(grid, 1_000_000) < 1e-3 * std


def test_draws_are_independent_of_their_neighbours() -> None:
    draws = noise.seeded(3).discrete_gaussian((100_000,), 1.0, noise.grid_for(1.0))
    for lag in (1, 2, 16):
        assert abs(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) < 5 / np.sqrt(len(draws))


def test_coins_and_orders_are_fair() -> None:
    dice = noise.seeded(4)
    assert np.mean(dice.bernoulli(100_000, 0.2)) == pytest.approx(0.2, abs=5 * 0.4 / np.sqrt(100_000))
    first = np.bincount([dice.permutation(5)[0] for _ in range(5_000)], minlength=5)
    assert stats.chisquare(first).pvalue > 1e-4
    assert sorted(dice.permutation(100)) == list(range(100))


def test_uniform_stays_inside() -> None:
    draws = noise.seeded(6).uniform(100_000)
    assert 0 < draws.min() < draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 1e-4


def test_a_seed_repeats_and_every_label_counts() -> None:
    assert noise.seeded(7, "a", 1).draw(32) == noise.seeded(7, "a", 1).draw(32)
    streams = {
        noise.seeded(*given).draw(32)
        for given in [(7, "a", 1), (7, "a", 2), (8, "a", 1), (7, "a1"), (7, "a"), (7, "b", 1), (7,)]
    }
    assert len(streams) == 7
    assert not noise.seeded(7).secure


def test_a_stream_does_not_repeat_itself() -> None:
    dice = noise.seeded(7)
    assert dice.draw(32) != dice.draw(32)


def test_the_operating_systems_dice_never_repeat() -> None:
    assert noise.secure().secure
    assert noise.secure().draw(32) != noise.secure().draw(32)


def test_a_fork_draws_from_a_new_key() -> None:
    """A forked child would otherwise repeat its parent's noise, and the difference of two updates would have none."""
    dice = noise.secure()
    dice.draw(16)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, dice.draw(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 32) != dice.draw(32)
    os.close(read)
    os.close(write)


def test_a_fork_repeats_seeded_dice() -> None:
    """The counterpart, which proves the test above: a simulation's stream survives a fork."""
    dice = noise.seeded(1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, dice.draw(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 32) == dice.draw(32)
    os.close(read)
    os.close(write)


def test_nothing_asked_nothing_drawn() -> None:
    assert noise.seeded(1).discrete_gaussian((0, 3), 1.0, 1.0).shape == (0, 3)
    assert noise.seeded(1).permutation(0).size == 0
