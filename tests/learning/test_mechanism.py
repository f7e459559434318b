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
from torch import nn

from fedge import params as parameters
from fedge.errors import UnsoundError
from fedge.learning import clipping, training
from fedge.learning.checks import check_private, check_same_base
from fedge.learning.clipping import nothing, why_no_ghost
from fedge.learning.loader import Loader
from fedge.learning.mechanism import Mechanism
from fedge.learning.recipe import Method, Poisson, Recipe, RecordLevel, Shuffled
from fedge.learning.task import Records, Task, accuracy, cross_entropy
from fedge.learning.training import train
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


def clipped_sum(held: Records, method: Method = "auto", what: Task | None = None) -> NDArray[np.float64]:
    recipe = replace(ONE_STEP, clipping=method)
    return -flat(trained(held, recipe, Noiseless(bytes(32), "none", secure=False), what))


METHODS = pytest.mark.parametrize("method", ["hooks", "ghost"])


# ---- sensitivity ------------------------------------------------------------------------------------------------


def moved_by_one(held: Records, method: Method = "auto") -> float:
    """Return by how much the last record moves the un-noised sum."""
    without = held.take(np.arange(len(held) - 1, dtype=np.int64))
    return float(np.linalg.norm(clipped_sum(held, method) - clipped_sum(without, method)))


@METHODS
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([1e-3, 1.0, 30.0, 1e6, 1e18, 1e25]))
def test_one_record_moves_the_sum_by_at_most_the_clip_norm(
    method: Method, seed: int, others: int, scale: float
) -> None:
    crowd, last = drawn(others, seed), drawn(1, seed + 1, scale)
    both = records(np.concatenate([crowd.features, last.features]), np.concatenate([crowd.targets, last.targets]))
    assert moved_by_one(both, method) <= CLIP


@METHODS
def test_a_large_record_moves_it_by_nearly_all_of_it(method: Method) -> None:
    """The claim is tight: noise made for less would be too small."""
    assert moved_by_one(drawn(5, scale=100.0), method) > 0.99 * CLIP


def _no_clipping(norms: torch.Tensor, _clip_norm: float) -> torch.Tensor:
    return torch.ones_like(norms)


def _batch_clipping(norms: torch.Tensor, clip_norm: float) -> torch.Tensor:
    """All records are shortened alike, as far as their mean norm asks for."""
    return torch.full_like(norms, min(1.0, clip_norm / float(norms.mean())))


def _a_loose_clip_norm(norms: torch.Tensor, clip_norm: float) -> torch.Tensor:
    return (2 * clip_norm / norms).clamp(max=1.0)


def outliers() -> Records:
    """Return records of which the last points against the crowd."""
    crowd = np.tile(np.eye(1, FEATURES), (6, 1))
    return records(np.concatenate([crowd, [[-9.0] * FEATURES]]), np.asarray([0] * 6 + [1]))


@METHODS
@pytest.mark.parametrize("bug", [_no_clipping, _batch_clipping, _a_loose_clip_norm])
def test_wrong_clipping_is_seen(
    monkeypatch: pytest.MonkeyPatch, bug: Callable[..., torch.Tensor], method: Method
) -> None:
    assert moved_by_one(outliers(), method) <= CLIP
    monkeypatch.setattr(clipping, "_factors", bug)
    assert moved_by_one(outliers(), method) > CLIP


def test_a_norm_that_forgets_a_parameter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = clipping._norms
    monkeypatch.setattr(clipping, "_norms", lambda rows: right(rows[1:]))
    assert moved_by_one(outliers(), "hooks") > CLIP


# ---- two ways to the same sum -----------------------------------------------------------------------------------

DEEP = task(lambda: nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, CLASSES)))


def started(what: Task) -> Params:
    """Return the parameters of a model that is not all zeros, so that every layer learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return {n: p.detach().numpy().copy() for n, p in what.model().named_parameters() if p.requires_grad}


def sum_at(held: Records, what: Task, method: Method) -> NDArray[np.float64]:
    quiet = Noiseless(bytes(32), "none", secure=False)
    return flat(train(what, started(what), loader(held), replace(ONE_STEP, clipping=method), quiet).delta)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 20), st.sampled_from([0.01, 1.0, 100.0, 1e10]))
def test_ghost_and_hooks_give_the_same_sum(seed: int, count: int, scale: float) -> None:
    held = drawn(count, seed, scale)
    np.testing.assert_allclose(sum_at(held, DEEP, "ghost"), sum_at(held, DEEP, "hooks"), rtol=1e-4, atol=1e-6)


def _shared() -> nn.Module:
    first, second = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Linear(FEATURES, CLASSES))


class Twice(nn.Module):
    """Uses one layer two times."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.outer(self.inner(torch.tanh(self.inner(x))))
        return scores


class Sequence(nn.Module):
    """A linear layer over [batch, places, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 4), nn.Linear(FEATURES // 2 * 4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.outer(self.inner(x.reshape(-1, FEATURES // 2, 2)).flatten(1))
        return scores


class Convolved(nn.Module):
    """A convolution before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv1d(1, 2, 3, padding=1), nn.Linear(2 * FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.outer(self.inner(x[:, None]).flatten(1))
        return scores


@pytest.mark.parametrize("model", [_shared, Twice, Sequence, Convolved])
def test_ghost_is_refused_where_it_does_not_fit_and_hooks_clip_there(model: Callable[[], nn.Module]) -> None:
    assert why_no_ghost(model(), (FEATURES,), by_owner=False) is not None
    what, held = task(model), drawn(5, scale=3.0)
    with pytest.raises(UnsoundError, match=r"use training\.clipping=auto or hooks"):
        sum_at(held, what, "ghost")
    every = np.arange(5)
    moved = [
        np.linalg.norm(sum_at(held, what, "auto") - sum_at(held.take(every[every != i]), what, "auto")) for i in every
    ]
    assert 0.5 * CLIP < max(moved) <= CLIP


def test_auto_is_ghost_where_only_linear_layers_learn() -> None:
    assert why_no_ghost(DEEP.model(), (FEATURES,), by_owner=False) is None
    assert why_no_ghost(DEEP.model(), (FEATURES,), by_owner=True) is not None
    assert sum_at(drawn(9), DEEP, "auto").tobytes() == sum_at(drawn(9), DEEP, "ghost").tobytes()


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
    """Steps draw their noise together until it is used up; 20 of 5,000 numbers are two draws."""
    mechanism = Mechanism(RecordLevel(1.0, 1.0), 1.0, 5000, 20, noise.seeded(1))
    steps = [mechanism.release(nothing(5000)) for _ in range(20)]
    assert max(alike(one, other) for i, one in enumerate(steps) for other in steps[:i]) < 0.1


def test_noise_from_torch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_torch(_self: Dice, shape: tuple[int, ...], std: float, _grid: float) -> NDArray[np.float64]:
        return std * torch.randn(shape, dtype=torch.float64).numpy()

    monkeypatch.setattr(Dice, "discrete_gaussian", from_torch)
    monkeypatch.setattr("fedge.learning.training.seed_torch", lambda _dice: torch.default_generator.manual_seed(1))
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


@METHODS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38])
def test_one_poisoned_record_leaves_the_model_finite_and_bounded(value: float, method: Method) -> None:
    held = drawn(9)
    features = held.features.copy()
    features[4, 2] = value
    poisoned = records(features, held.targets)
    assert np.isfinite(flat(trained(poisoned, replace(ONE_STEP, steps=4, clipping=method)))).all()
    others = held.take(np.asarray([i for i in range(9) if i != 4]))
    assert np.linalg.norm(clipped_sum(poisoned, method) - clipped_sum(others, method)) <= CLIP


@METHODS
def test_without_the_guard_it_would_not_be(monkeypatch: pytest.MonkeyPatch, method: Method) -> None:
    monkeypatch.setattr(clipping, "_not_finite", lambda _norms: torch.zeros(0, dtype=torch.int64))
    held = drawn(9)
    held.features[4, 2] = np.nan
    assert not np.isfinite(flat(trained(held, replace(ONE_STEP, clipping=method)))).all()


@METHODS
def test_records_that_add_nothing_are_counted_once_and_privately(method: Method) -> None:
    held = drawn(9)
    held.features[4, 2], held.features[7, 0] = np.inf, np.nan
    reader = loader(held)
    train(task(), zeros(task()), reader, replace(ONE_STEP, steps=3, clipping=method), noise.seeded(1))
    assert reader.dropped == 2


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


@pytest.mark.parametrize(
    ("layer", "replacement"),
    [(nn.LSTM(4, 4), "DPLSTM"), (nn.GRU(4, 4), "DPGRU"), (nn.RNN(4, 4), "DPRNN"),
     (nn.MultiheadAttention(4, 2), "DPMultiheadAttention")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_layers_without_gradients_per_record_are_refused_and_the_replacement_named(
    layer: nn.Module, replacement: str
) -> None:
    with pytest.raises(UnsoundError, match=rf"use opacus\.layers\.{replacement} instead"):
        check_private(nn.ModuleList([layer]))


class Remembers(nn.Module):
    """Keeps a running mean of its inputs, as BatchNorm does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES)
        self.register_buffer("seen", torch.zeros(FEATURES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.copy_(0.9 * self.seen + 0.1 * x.detach().mean(dim=0))
        scores: torch.Tensor = self.linear(x - self.seen)
        return scores


class Shifted(nn.Module):
    """Has a buffer that never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES)
        self.register_buffer("shift", torch.ones(FEATURES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.linear(x - self.shift)
        return scores


def test_a_buffer_that_remembers_records_is_refused_and_one_that_does_not_is_fine() -> None:
    trained(drawn(5), what=task(Shifted))
    with pytest.raises(UnsoundError, match=r"buffer 'seen' changes"):
        trained(drawn(5), what=task(Remembers))


def frozen(seed: int | None) -> Callable[[], nn.Module]:
    """Return a model that learns its last layer on a base that is not trained: the same each time, or not."""

    def build() -> nn.Module:
        base, head = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for p in base.parameters():
                    p.copy_(torch.randn(p.shape, generator=generator))
        return nn.Sequential(base.requires_grad_(False), nn.Tanh(), head)

    return build


def test_only_what_is_trained_travels_and_the_rest_must_be_the_same_for_all() -> None:
    what = task(frozen(3))
    check_same_base(what)
    assert sorted(train(what, started(what), loader(drawn(5)), ONE_STEP, noise.seeded(1)).delta) == [
        "2.bias",
        "2.weight",
    ]
    with pytest.raises(UnsoundError, match="never sent"):
        check_same_base(task(frozen(None)))


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
