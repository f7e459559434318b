"""A clip norm that follows the data: what it costs is inside the one multiplier that the ledger counts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedge.learning import mechanism
from fedge.learning.clipping import Clipped, nothing
from fedge.learning.mechanism import COUNT_GRID, FINENESS, Mechanism, sum_multiplier
from fedge.learning.recipe import Adaptive, Poisson, Recipe, RecordLevel
from fedge.privacy import noise
from fedge.privacy.noise import Dice
from tests.learning.test_mechanism import CLIP, Noiseless, drawn, loader, moved_by_one, outliers, task, trained, zeros

FOLLOWS = Adaptive(quantile=0.5, learning_rate=0.3, count_noise=4.0, largest=5.0)
PRIVACY = RecordLevel(2.0, 1.0, adaptive=FOLLOWS)
DIMENSION = 40


class Watched(Dice):
    """Dice that remember the standard deviations they were asked for, in steps of the grid and in units."""

    def __init__(self) -> None:
        super().__init__(bytes(32), "watched", secure=False)
        self.asked: list[tuple[tuple[int, ...], float, float]] = []

    def discrete_gaussian(self, shape: tuple[int, ...], std: float, grid: float) -> NDArray[np.float64]:
        self.asked.append((shape, std, grid))
        return super().discrete_gaussian(shape, std, grid)


def clipped(units: int, within: int, dimension: int = DIMENSION) -> Clipped:
    return replace(nothing(dimension), units=units, within=within)


def joint(privacy: RecordLevel) -> float:
    """Return the multiplier of sum and count together, from the noise that is really drawn and what one unit adds."""
    dice = Watched()
    running = Mechanism(privacy, 10.0, DIMENSION, 1, dice)
    step = running._grid  # what one unit of the drawn noise stands for
    sum_std = np.std(np.concatenate([Mechanism(privacy, 1.0, 5000, 1, noise.seeded(s)).release(nothing(5000))
                                     for s in range(4)]))  # fmt: skip
    running.release(clipped(10, 5))
    (_, drawn_std, _), (_, count_std, _) = dice.asked
    assert drawn_std * step == pytest.approx(sum_std, rel=0.03)  # 20,000 draws: one standard error is 0.5 %
    return float(((privacy.clip_norm / (drawn_std * step)) ** 2 + (0.5 / count_std) ** 2) ** -0.5)


def test_sum_and_count_together_cost_what_the_recipe_says() -> None:
    assert joint(PRIVACY) == pytest.approx(PRIVACY.noise_multiplier, rel=1e-9)


def test_forgetting_what_the_count_costs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mechanism, "sum_multiplier", lambda multiplier, _count: multiplier)
    assert joint(PRIVACY) < 0.98 * PRIVACY.noise_multiplier


def moved_count(units: int, within: int) -> float:
    """Return how far one more unit moves the count that the noise hides, inside or outside of the clip norm."""

    def halves(*counts: int) -> float:
        running = Mechanism(PRIVACY, 1.0, DIMENSION, 1, Noiseless(bytes(32), "none", secure=False))
        running.release(clipped(*counts))
        return -math.log(running.claimed) / FOLLOWS.learning_rate

    return max(abs(halves(units + 1, within + i) - halves(units, within)) for i in (0, 1))


def test_one_unit_moves_the_count_by_exactly_a_half() -> None:
    assert moved_count(6, 3) == pytest.approx(0.5)
    assert COUNT_GRID < 0.5


def test_counting_from_zero_would_move_it_by_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Mechanism._follow

    def from_zero(self: Mechanism, adaptive: Adaptive, found: Clipped) -> None:
        right(self, adaptive, replace(found, units=0))

    monkeypatch.setattr(Mechanism, "_follow", from_zero)
    assert moved_count(6, 3) == pytest.approx(1.0)


@given(st.floats(0.1, 50), st.floats(0.51, 100))
def test_the_formula_of_the_paper(multiplier: float, ratio: float) -> None:
    count = multiplier * ratio
    of_sum = sum_multiplier(multiplier, count)
    assert of_sum > multiplier
    assert of_sum**-2 + (2 * count) ** -2 == pytest.approx(multiplier**-2)


def test_the_clip_norm_goes_to_the_quantile() -> None:
    norms = np.random.default_rng(1).lognormal(0.5, 0.7, 400)
    running = Mechanism(replace(PRIVACY, clip_norm=0.1), 400.0, DIMENSION, 300, noise.seeded(2))
    for _ in range(300):
        running.release(clipped(len(norms), int((norms <= running.claimed).sum())))
    assert running.claimed == pytest.approx(np.median(norms), rel=0.15)


def test_it_stays_below_the_largest_and_above_nothing() -> None:
    for within, bound in ((0, FOLLOWS.largest), (50, FOLLOWS.largest * mechanism.LEAST_SHARE)):
        running = Mechanism(PRIVACY, 50.0, DIMENSION, 400, noise.seeded(2))
        for _ in range(400):
            running.release(clipped(50, within))
        assert running.claimed == bound


def test_empty_batches_are_counts_like_any_other() -> None:
    running = Mechanism(PRIVACY, 5.0, DIMENSION, 50, noise.seeded(2))
    norms = []
    for _ in range(50):
        assert np.isfinite(running.release(nothing(DIMENSION))).all()
        norms.append(running.claimed)
    assert len(set(norms)) > 40
    assert all(np.isfinite(norms))


def test_noise_follows_the_clip_norm() -> None:
    """Noise that stays what it was while the clip norm grows would be too little."""
    running = Mechanism(PRIVACY, 1.0, 5000, 30, noise.seeded(2))
    for _ in range(20):
        running.release(clipped(40, 0, 5000))
    claimed = running.claimed
    assert claimed > 3
    spread = float(np.std(running.release(nothing(5000))))
    assert spread == pytest.approx(sum_multiplier(2.0, 4.0) * claimed, rel=0.05)
    assert running._grid * FINENESS == pytest.approx(sum_multiplier(2.0, 4.0) * running.claimed)


def test_records_are_clipped_to_the_norm_of_their_step() -> None:
    recipe = Recipe(1, 1.0, Poisson(1.0, 1.0), RecordLevel(1.0, CLIP, adaptive=replace(FOLLOWS, count_noise=1.0)))
    quiet = Noiseless(bytes(32), "none", secure=False)
    held = outliers()
    fewer = held.take(np.arange(len(held) - 1, dtype=np.int64))
    moved = [trained(h, recipe, quiet) for h in (held, fewer)]
    assert math.sqrt(sum(float(np.sum((moved[0][n] - moved[1][n]) ** 2)) for n in moved[0])) <= CLIP
    assert moved_by_one(held) <= CLIP


def test_seeded_training_repeats() -> None:
    recipe = Recipe(5, 0.1, Poisson(0.5, 5.0), PRIVACY)
    torch.manual_seed(1)
    first, second = (train_once(recipe) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def train_once(recipe: Recipe) -> dict[str, NDArray[np.floating]]:
    from fedge.learning.training import train

    what = task()
    return dict(train(what, zeros(what), loader(drawn(12)), recipe, noise.seeded(9)).delta)


@pytest.mark.parametrize(
    "wrong",
    [{"count_noise": 1.0}, {"count_noise": float("nan")}, {"largest": 0.5}, {"quantile": 0.0}, {"learning_rate": 0.0},
     {"largest": float("inf")}],
    ids=str,
)  # fmt: skip
def test_what_costs_more_than_it_says_cannot_be_said(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"count_noise|largest|quantile"):
        RecordLevel(2.0, 1.0, adaptive=replace(FOLLOWS, **wrong))
