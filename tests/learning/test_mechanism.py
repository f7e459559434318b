"""What the ledger accounts for, measured on the running `train`: sensitivity, noise, sampling, hostile records.

Each measure is also taken on a mechanism with a planted bug, and must see it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from torch import nn

from fedge import params as parameters
from fedge.errors import UnsoundError
from fedge.learning import training
from fedge.learning.loader import Loader
from fedge.learning.recipe import Poisson, Recipe, RecordLevel, Shuffled
from fedge.learning.task import Records, Task, accuracy, cross_entropy
from fedge.learning.training import GridGaussianOptimizer, check_private, train
from fedge.params import Params
from fedge.privacy import noise
from fedge.privacy.noise import Dice

FEATURES, CLASSES = 6, 3
CLIP = 0.7
ONE_STEP = Recipe(1, 1.0, Poisson(1.0, 1.0), RecordLevel(1.0, CLIP))
"""One step of length 1 over all records, divided by 1: the model's change is the noised sum, negated."""


class Noiseless(Dice):
    """Dice whose noise is zero: what is left of the mechanism is the sum that the noise has to hide."""

    def discrete_gaussian(self, shape: tuple[int, ...], std: float, grid: float) -> NDArray[np.float64]:
        del std, grid
        return np.zeros(shape)


def task(
    model: Callable[[], nn.Module] = lambda: nn.Linear(FEATURES, CLASSES),
    loss: Callable[..., torch.Tensor] = cross_entropy,
) -> Task:
    return Task("test", lambda: pytest.fail("nothing is loaded"), model, loss, {"accuracy": accuracy})


def records(features: NDArray[np.floating], targets: NDArray[np.integer]) -> Records:
    names = tuple(f"p{i}" for i in range(len(targets)))
    return Records(features.astype(np.float32), targets.astype(np.int64), names)


def drawn(count: int, seed: int = 0, scale: float = 1.0) -> Records:
    rng = np.random.default_rng(seed)
    return records(scale * rng.normal(size=(count, FEATURES)), rng.integers(0, CLASSES, count))


def loader(held: Records, on_read: Callable[[NDArray[np.int64]], None] | None = None) -> Loader:
    return Loader(held, np.arange(len(held), dtype=np.int64), lambda asked: np.ones(len(asked), np.bool_), on_read)


def zeros(what: Task) -> Params:
    return {name: np.zeros(p.shape, np.float32) for name, p in what.model().named_parameters()}


def trained(held: Records, recipe: Recipe = ONE_STEP, dice: Dice | None = None, what: Task | None = None) -> Params:
    what = what or task()
    return train(what, zeros(what), loader(held), recipe, dice or noise.seeded(1)).delta


def flat(params: Params) -> NDArray[np.float64]:
    return np.concatenate([params[name].ravel().astype(np.float64) for name in sorted(params)])


def clipped_sum(held: Records) -> NDArray[np.float64]:
    return -flat(trained(held, dice=Noiseless(bytes(32), "none", secure=False)))


# ---- sensitivity ------------------------------------------------------------------------------------------------


def moved_by_one(held: Records) -> float:
    """Return by how much the last record moves the un-noised sum."""
    without = held.take(np.arange(len(held) - 1, dtype=np.int64))
    return float(np.linalg.norm(clipped_sum(held) - clipped_sum(without)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([1e-3, 1.0, 30.0, 1e6, 1e18]))
def test_one_record_moves_the_sum_by_at_most_the_clip_norm(seed: int, others: int, scale: float) -> None:
    crowd, last = drawn(others, seed), drawn(1, seed + 1, scale)
    both = records(np.concatenate([crowd.features, last.features]), np.concatenate([crowd.targets, last.targets]))
    assert moved_by_one(both) <= CLIP


def test_a_large_record_moves_it_by_nearly_all_of_it() -> None:
    """The claim is tight: noise made for less would be too small."""
    assert moved_by_one(drawn(5, scale=100.0)) > 0.99 * CLIP


def _no_clipping(optimizer: DPOptimizer) -> None:
    for p in optimizer.params:
        p.summed_grad = p.grad_sample.sum(dim=0)


def _batch_clipping(optimizer: DPOptimizer) -> None:
    _no_clipping(optimizer)
    total = torch.sqrt(sum(p.summed_grad.square().sum() for p in optimizer.params))  # type: ignore[arg-type]
    for p in optimizer.params:
        p.summed_grad = p.summed_grad * min(1.0, optimizer.max_grad_norm / float(total))


def _each_parameter_clipped_alone(optimizer: DPOptimizer) -> None:
    for p in optimizer.params:
        norms = p.grad_sample.reshape(len(p.grad_sample), -1).norm(dim=1)
        factors = (optimizer.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        p.summed_grad = torch.einsum("i,i...->...", factors, p.grad_sample)


def outliers() -> Records:
    """Return records of which the last points against the crowd."""
    crowd = np.tile(np.eye(1, FEATURES), (6, 1))
    return records(np.concatenate([crowd, [[-9.0] * FEATURES]]), np.asarray([0] * 6 + [1]))


@pytest.mark.parametrize("bug", [_no_clipping, _batch_clipping, _each_parameter_clipped_alone])
def test_wrong_clipping_is_seen(monkeypatch: pytest.MonkeyPatch, bug: Callable[[DPOptimizer], None]) -> None:
    assert moved_by_one(outliers()) <= CLIP
    monkeypatch.setattr(GridGaussianOptimizer, "clip_and_accumulate", bug)
    assert moved_by_one(outliers()) > CLIP


def test_the_divisor_is_fixed_and_public() -> None:
    """Dividing by the number of records in the batch would make everybody's share depend on one record's presence."""
    held = drawn(8)
    halved = replace(ONE_STEP, batching=Poisson(1.0, 2.0))
    quiet = Noiseless(bytes(32), "none", secure=False)
    np.testing.assert_allclose(2 * flat(trained(held, halved, quiet)), -clipped_sum(held), rtol=1e-6)


# ---- noise ------------------------------------------------------------------------------------------------------

WIDE = task(lambda: nn.Linear(60, 50))
NOBODY = records(np.zeros((0, 60)), np.zeros(0))


def noise_of(dice: Dice, recipe: Recipe = ONE_STEP) -> NDArray[np.float64]:
    """Return what a step adds when no record is in it."""
    return flat(trained(NOBODY, recipe, dice, WIDE))


def relative_spread(recipe: Recipe) -> float:
    """Return the measured standard deviation of the noise over the one that the ledger is told."""
    assert recipe.privacy is not None
    assert isinstance(recipe.batching, Poisson)
    claimed = recipe.privacy.noise_multiplier * recipe.privacy.clip_norm / recipe.batching.normaliser
    return float(np.std([noise_of(noise.seeded(s), recipe) for s in range(3)])) / claimed


RECIPES = [
    replace(ONE_STEP, privacy=RecordLevel(sigma, clip), batching=Poisson(1.0, divisor))
    for sigma, clip, divisor in [(1.0, 1.0, 1.0), (0.5, 3.0, 20.0), (4.0, 0.1, 7.5)]
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_noise_has_the_spread_that_is_accounted_for(recipe: Recipe) -> None:
    assert relative_spread(recipe) == pytest.approx(1, abs=0.05)  # 9,150 draws: one standard error is 0.7 %


@pytest.mark.parametrize("bug", ["not scaled by the clip norm", "divided once more"])
def test_wrong_noise_is_seen(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    right = Dice.discrete_gaussian
    factor = 1 / 3.0 if bug == "not scaled by the clip norm" else 1 / 20.0

    def wrong(self: Dice, shape: tuple[int, ...], std: float, grid: float) -> NDArray[np.float64]:
        return right(self, shape, std * factor, grid)

    monkeypatch.setattr(Dice, "discrete_gaussian", wrong)
    assert relative_spread(RECIPES[1]) != pytest.approx(1, abs=0.05)


def alike(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    return abs(float(np.corrcoef(one, two)[0, 1]))


def test_noise_does_not_come_from_torch() -> None:
    torch.manual_seed(1)
    first = noise_of(noise.secure())
    torch.manual_seed(1)
    second = noise_of(noise.secure())
    assert alike(first, second) < 0.1  # 3,050 numbers: independent ones correlate by about 0.02


def test_a_step_does_not_repeat_the_noise_of_the_step_before() -> None:
    one = noise_of(noise.seeded(1))
    two = noise_of(noise.seeded(1), replace(ONE_STEP, steps=2))
    assert alike(one, two - one) < 0.1


def test_noise_from_torch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_torch(_self: Dice, shape: tuple[int, ...], std: float, _grid: float) -> NDArray[np.float64]:
        return std * torch.randn(shape, dtype=torch.float64).numpy()

    monkeypatch.setattr(Dice, "discrete_gaussian", from_torch)
    monkeypatch.setattr(torch, "manual_seed", lambda _seed: torch.default_generator.manual_seed(1))
    assert alike(noise_of(noise.secure()), noise_of(noise.secure())) > 0.9


def test_seeded_training_repeats_and_leaves_torch_as_it_was() -> None:
    what, recipe = task(), replace(ONE_STEP, steps=3)
    start = zeros(what)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = train(what, start, loader(drawn(20)), recipe, noise.seeded(1)).delta
    drawn_since = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        what.model()  # building a model draws its first weights
        assert not torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn_since, before)
    torch.manual_seed(4)
    assert parameters.digest(trained(drawn(20), replace(ONE_STEP, steps=3))) == parameters.digest(first)


# ---- sampling ---------------------------------------------------------------------------------------------------


def batch_sizes(rate: float, count: int, steps: int) -> Iterator[int]:
    sizes: list[int] = []
    recipe = Recipe(steps, 0.1, Poisson(rate, 10.0), RecordLevel(1.0, 1.0))
    what = task(lambda: nn.Linear(FEATURES, CLASSES))
    train(what, zeros(what), loader(drawn(count), lambda read: sizes.append(len(read))), recipe, noise.seeded(2))
    yield from sizes


def spread_of_sizes() -> float:
    """Return the variance of the batch size over that of independent coins."""
    sizes = list(batch_sizes(0.2, 60, 300))
    assert np.mean(sizes) == pytest.approx(12, abs=5 * np.sqrt(60 * 0.16 / 300))
    return float(np.var(sizes)) / (60 * 0.2 * 0.8)


def test_batches_are_a_poisson_sample() -> None:
    assert spread_of_sizes() == pytest.approx(1, abs=0.35)  # 300 sizes: one standard error is 8 %


def test_batches_of_fixed_size_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fixed(self: Dice, count: int, probability: float) -> NDArray[np.bool_]:
        return np.asarray(self.permutation(count) < round(probability * count))

    monkeypatch.setattr(Dice, "bernoulli", fixed)
    assert spread_of_sizes() < 0.1


def test_each_record_is_drawn_as_often_as_chance_has_it() -> None:
    seen = np.zeros(60)
    recipe = Recipe(300, 0.1, Poisson(0.2, 10.0), RecordLevel(1.0, 1.0))

    def count(read: NDArray[np.int64]) -> None:
        seen[read] += 1

    train(task(), zeros(task()), loader(drawn(60), count), recipe, noise.seeded(2))
    assert np.var(seen) == pytest.approx(300 * 0.16, rel=0.7)  # shuffled passes would give about 0
    assert seen.min() > 0


def test_empty_batches_are_steps_like_any_other() -> None:
    assert 0 in set(batch_sizes(0.01, 20, 30))


def test_shuffled_passes_read_everything_once() -> None:
    seen: list[int] = []
    recipe = Recipe(6, 0.1, Shuffled(10))
    train(task(), zeros(task()), loader(drawn(30), seen.extend), recipe, noise.seeded(1))
    assert sorted(seen[:30]) == list(range(30)) == sorted(seen[30:])
    assert seen[:30] != seen[30:]


# ---- hostile records --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38])
def test_one_poisoned_record_leaves_the_model_finite_and_bounded(value: float) -> None:
    held = drawn(9)
    features = held.features.copy()
    features[4, 2] = value
    poisoned = records(features, held.targets)
    assert np.isfinite(flat(trained(poisoned, replace(ONE_STEP, steps=4)))).all()
    others = held.take(np.asarray([i for i in range(9) if i != 4]))
    assert np.linalg.norm(clipped_sum(poisoned) - clipped_sum(others)) <= CLIP


def test_without_the_guard_it_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GridGaussianOptimizer, "clip_and_accumulate", DPOptimizer.clip_and_accumulate)
    held = drawn(9)
    held.features[4, 2] = np.nan
    assert not np.isfinite(flat(trained(held))).all()


# ---- models and losses that mix records -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.InstanceNorm1d(4), nn.InstanceNorm2d(4, track_running_stats=True),
     nn.SyncBatchNorm(4)],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_layers_that_mix_records_are_refused_and_the_replacement_named(layer: nn.Module) -> None:
    with pytest.raises(UnsoundError, match=r"use nn\.GroupNorm instead"):
        check_private(nn.Sequential(nn.Linear(4, 4), layer))


def test_other_layers_pass() -> None:
    check_private(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.LayerNorm(4)))


def weighted(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A class-weighted mean, spread over the records again: the shape is right, the meaning is not."""
    weights = 1.0 + targets.double()
    return cross_entropy(outputs, targets) * weights / weights.sum()


class Centred(nn.Module):
    """Subtracts the mean of the batch: what BatchNorm does, without its name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.linear(x)
        return scores - scores.mean(dim=0)


MIXING = {
    "one number": task(loss=nn.functional.cross_entropy),
    "sum": task(loss=lambda o, t: cross_entropy(o, t).sum()),
    "weighted": task(loss=weighted),
    "centred": task(Centred),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_loss_that_mixes_records_is_refused_and_the_replacement_named(name: str) -> None:
    what = MIXING[name]
    start = {n: p.detach().numpy() for n, p in what.model().named_parameters()}
    with pytest.raises(UnsoundError, match="reduction='none'"):
        train(what, start, loader(drawn(12)), ONE_STEP, noise.seeded(1))


def test_a_check_that_looks_at_the_shape_alone_would_not_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "check_apart", lambda *_: None)
    trained(drawn(12), what=MIXING["weighted"])


def test_dropout_is_no_mixing() -> None:
    what = task(lambda: nn.Sequential(nn.Linear(FEATURES, 8), nn.Dropout(0.5), nn.Linear(8, CLASSES)))
    start = {n: p.detach().numpy() for n, p in what.model().named_parameters()}
    train(what, start, loader(drawn(12)), ONE_STEP, noise.seeded(1))


def test_privacy_without_poisson_sampling_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="Poisson"):
        replace(ONE_STEP, batching=Shuffled(4))
