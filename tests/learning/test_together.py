"""A cohort trained at once against each of its clients trained alone: the same draws, and models that agree."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedge.learning import models
from fedge.learning.loader import Loader
from fedge.learning.recipe import Adaptive, Poisson, Recipe, RecordLevel, Shuffled
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
from fedge.learning.together import TOLERANCE, train_together, why_not_together
from fedge.learning.training import Learned, train
from fedge.privacy.noise import Dice, seeded

SIZES = (1, 3, 40, 17, 8)
"""Clients with so many records: one alone, and two whose last batches are short."""
PLAIN = Recipe(7, 0.2, Shuffled(8), momentum=0.9, weight_decay=0.01, proximal_mu=0.1)
SPARSE = Recipe(6, 0.2, Poisson(0.1, 4.0), momentum=0.5, weight_decay=0.1)
PRIVATE = Recipe(6, 0.2, Poisson(0.3, 6.0), RecordLevel(0.8, 0.5), momentum=0.5, weight_decay=0.01, proximal_mu=0.1)
ADAPTIVE = replace(PRIVATE, privacy=RecordLevel(0.8, 0.5, adaptive=Adaptive(0.5, 0.4, 2.0, 5.0)))


def task(build: object = lambda: models.mlp(6, 8, 3), loss: object = cross_entropy) -> Task:
    return Task("made up", lambda: Data(records(1, ()), records(1, ())), build, loss, {"accuracy": accuracy})  # type: ignore[arg-type]


def records(count: int, shape: tuple[int, ...], seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, *shape)).astype(np.float32)
    return Records(features, rng.integers(0, 3, count), tuple(f"p{i}" for i in range(count)))


def clients(shape: tuple[int, ...], poison: bool = False) -> list[tuple[Loader, Dice]]:
    found = []
    for number, size in enumerate(SIZES):
        held = records(size, shape, number)
        if poison and number == 2:
            held.features[::3] = 3e38  # finite, and their gradients are not
        yes = np.ones(size, dtype=np.bool_)
        loader = Loader(held, np.arange(size), lambda i, yes=yes: yes[i])  # type: ignore[misc]
        found.append((loader, seeded(7, "client", number)))
    return found


def both(made: Task, recipe: Recipe, shape: tuple[int, ...], poison: bool = False) -> None:
    """Train alone and at once, and compare changes, records read and records left out."""
    start = models.initial(made.model, 3)
    apart, cohort = clients(shape, poison), clients(shape, poison)
    alone = [train(made, start, loader, recipe, dice) for loader, dice in apart]
    together = train_together(made, start, cohort, recipe)
    for one, other, (loader, dice), (shared, theirs) in zip(alone, together, apart, cohort, strict=True):
        assert isinstance(other, Learned)
        np.testing.assert_array_equal(one.used, other.used)
        assert loader.dropped == shared.dropped
        assert dice.draw(8) == theirs.draw(8), "the dice have been rolled differently"
        largest = max(float(np.abs(change).max()) for change in one.delta.values())
        for name, change in one.delta.items():
            assert other.delta[name].dtype == change.dtype
            np.testing.assert_allclose(other.delta[name], change, rtol=0, atol=TOLERANCE * max(largest, 1e-6))


@pytest.mark.parametrize("recipe", [PLAIN, SPARSE, PRIVATE, ADAPTIVE], ids=["plain", "sparse", "private", "adaptive"])
def test_a_small_network(recipe: Recipe) -> None:
    both(task(), recipe, (6,))


@pytest.mark.parametrize("recipe", [PLAIN, PRIVATE], ids=["plain", "private"])
def test_a_convolutional_network(recipe: Recipe) -> None:
    both(task(lambda: models.small_cnn(8, 4, 3)), replace(recipe, steps=2), (1, 8, 8))


def test_a_record_whose_gradient_is_not_finite_adds_nothing() -> None:
    both(task(lambda: models.linear(6, 3)), PRIVATE, (6,), poison=True)


def test_cohorts_that_are_too_large_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge.learning.together.AT_ONCE", 1)
    both(task(), PRIVATE, (6,))


def test_nobody_is_nothing() -> None:
    assert train_together(task(), models.initial(task().model, 1), [], PLAIN) == []


def test_torchs_own_generator_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_together(task(), models.initial(task().model, 3), clients((6,)), PLAIN)
    assert torch.equal(torch.get_rng_state(), before)


class Choosy(nn.Module):
    """Goes another way for some records, which a mapped function cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features) if float(features.sum()) > 0 else self.layer(-features)


@pytest.mark.parametrize(
    ("build", "recipe", "why"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.1), nn.Linear(6, 3)), PLAIN, "Dropout draws"),
        (Choosy, PLAIN, "cannot be mapped over clients"),
        (Choosy, PRIVATE, "cannot be mapped over clients"),
        (lambda: models.linear(6, 3), replace(PRIVATE, privacy=RecordLevel(1.0, 1.0, "subject")), "of one person"),
    ],
)
def test_what_cannot_be_taken_at_once_is_known_beforehand(build: object, recipe: Recipe, why: str) -> None:
    assert why in (why_not_together(task(build), recipe, (6,)) or "")


def test_what_can_has_no_objection() -> None:
    assert why_not_together(task(), PRIVATE, (6,)) is None
    assert why_not_together(task(lambda: models.small_cnn(8, 4, 3)), PRIVATE, (1, 8, 8)) is None
