"""Correlated noise: what one client can move, against brute force; what it wins, against the literature and algebra."""

import itertools
import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedge.privacy import accountant
from fedge.privacy.events import Gaussian
from fedge.privacy.factorisation import error, norm, participations, sensitivity, square_root


def matrix(coefficients: tuple[float, ...], rounds: int) -> NDArray[np.float64]:
    """Return C, written out."""
    found = np.zeros((rounds, rounds))
    for j, c in enumerate(coefficients[:rounds]):
        found += np.diag(np.full(rounds - j, c), -j)
    return found


def patterns(rounds: int, separation: int, most: int) -> list[tuple[int, ...]]:
    """Return every set of rounds in which one client may take part."""
    return [
        chosen
        for size in range(min(most, rounds) + 1)
        for chosen in itertools.combinations(range(rounds), size)
        if all(b - a >= separation for a, b in itertools.pairwise(chosen))
    ]


def test_the_square_root_is_one() -> None:
    """C C is the matrix of prefix sums, where nothing is cut off: 1, 1/2, 3/8, 5/16 (Fichtenberger et al. 2023)."""
    assert square_root(5) == (1.0, 1 / 2, 3 / 8, 5 / 16, 35 / 128)
    root = matrix(square_root(30), 30)
    np.testing.assert_allclose(root @ root, np.tril(np.ones((30, 30))), atol=1e-12)


SCHEMAS = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(0, 3), st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(SCHEMAS, st.integers(0, 1000))
def test_sensitivity_is_what_brute_force_finds(schema: tuple[int, int, int, int], seed: int) -> None:
    """Over every pattern of participations, and unit vectors that agree, oppose each other, or point anywhere."""
    rounds, bands, more, most = schema
    separation, coefficients = bands + more, square_root(bands)
    whole, rng = matrix(coefficients, rounds), np.random.default_rng(seed)
    found = 0.0
    for chosen in patterns(rounds, separation, most):
        for directions in (np.ones((rounds, 1)), rng.choice([-1.0, 1.0], (rounds, 1)), rng.normal(size=(rounds, 3))):
            moved = np.zeros_like(directions)
            for i in chosen:
                moved[i] = directions[i] / np.linalg.norm(directions[i])
            found = max(found, float(np.linalg.norm(whole @ moved)))
    assert sensitivity(coefficients, rounds, separation, most) == pytest.approx(found, rel=1e-12)


def test_bands_that_reach_the_next_participation_are_refused_and_would_cost_more() -> None:
    with pytest.raises(ValueError, match="reach the next participation"):
        sensitivity(square_root(4), 8, 3)
    together = np.zeros((8, 1))
    together[[0, 3, 6]] = 1.0
    apart = math.sqrt(sum(norm(square_root(4)[: 8 - i]) ** 2 for i in (0, 3, 6)))
    assert np.linalg.norm(matrix(square_root(4), 8) @ together) > 1.05 * apart


def test_participations_fit_into_the_rounds() -> None:
    for rounds, separation in itertools.product(range(1, 9), range(1, 5)):
        most = max(len(p) for p in patterns(rounds, separation, rounds))
        assert participations(rounds, separation) == most


@pytest.mark.parametrize(("bands", "rounds"), [(1, 7), (3, 7), (10, 50), (50, 50)])
def test_the_error_is_that_of_the_matrices(bands: int, rounds: int) -> None:
    whole = matrix(square_root(bands), rounds)
    released = np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(whole)
    assert error(square_root(bands), rounds) == pytest.approx(np.linalg.norm(released) / math.sqrt(rounds), rel=1e-12)


def test_independent_noise_adds_up_and_correlated_noise_hardly_does() -> None:
    """One participation: sqrt((n + 1) / 2) against less than 1 + ln(n) / pi (Fichtenberger et al. 2023)."""
    for rounds in (16, 256, 1024):
        root = square_root(rounds)
        assert error((1.0,), rounds) == pytest.approx(math.sqrt((rounds + 1) / 2))
        assert norm(root) * error(root, rounds) < 1 + math.log(rounds) / math.pi


@pytest.mark.parametrize(
    ("rounds", "bands", "best"), [(50, 5, 8.6824), (50, 10, 5.2627), (100, 10, 9.3177), (200, 20, 9.9815)]
)
def test_it_is_near_the_optimum_of_a_numerical_search(rounds: int, bands: int, best: float) -> None:
    """`best` was found by L-BFGS over all banded Toeplitz matrices, from this one on."""
    root = square_root(bands)
    costs = math.sqrt(participations(rounds, bands)) * norm(root) * error(root, rounds)
    assert best * (1 - 1e-4) <= costs <= 1.05 * best


@pytest.mark.parametrize(("rounds", "bands", "multiplier"), [(30, 10, 2.0), (64, 8, 4.0), (40, 40, 1.0)])
def test_participations_one_by_one_cost_what_the_whole_mechanism_does(
    rounds: int, bands: int, multiplier: float
) -> None:
    """The ledger's sum of Gaussians, against one Gaussian at the sensitivity of all rounds, by dp-accounting itself."""
    coefficients = square_root(bands)
    std = multiplier * norm(coefficients)
    whole = PLDAccountant(value_discretization_interval=1e-4)
    whole.compose(GaussianDpEvent(std / (norm(coefficients) * math.sqrt(participations(rounds, bands)))))
    events = [Gaussian(multiplier, 1, "client")] * participations(rounds, bands)
    ours, theirs = accountant.epsilon(events, 1e-5, unit="client"), whole.get_epsilon(1e-5)
    assert theirs <= ours <= 1.01 * theirs
    most = norm(coefficients) * math.sqrt(participations(rounds, bands))
    assert sensitivity(coefficients, rounds, bands) <= most * (1 + 1e-12)
