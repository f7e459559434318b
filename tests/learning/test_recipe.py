"""A recipe is data: written, read back, and strict; what it costs is what it says."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import ParseError
from fedge.learning.loader import Loader
from fedge.learning.recipe import Poisson, Recipe, RecordLevel, Shuffled, event, from_record, to_record
from fedge.learning.task import Records
from fedge.privacy.events import NonPrivate, SampledGaussian

PRIVATE = st.builds(
    Recipe,
    st.integers(1, 10**6),
    st.floats(1e-6, 1e3),
    st.builds(Poisson, st.floats(0.001, 1), st.floats(0.1, 1e6)),
    st.builds(RecordLevel, st.floats(0.1, 100), st.floats(0.01, 100)),
    st.floats(0, 1),
)
PLAIN = st.builds(Recipe, st.integers(1, 100), st.floats(0.01, 1), st.builds(Shuffled, st.integers(1, 999)))


@given(PRIVATE | PLAIN)
def test_written_and_read_back(recipe: Recipe) -> None:
    assert from_record(to_record(recipe)) == recipe


@given(PRIVATE)
def test_it_costs_what_it_says(recipe: Recipe) -> None:
    assert isinstance(recipe.batching, Poisson)
    assert recipe.privacy is not None
    assert event(recipe) == SampledGaussian(recipe.batching.sample_rate, recipe.privacy.noise_multiplier, recipe.steps)


def test_without_noise_it_costs_everything() -> None:
    assert event(Recipe(1, 0.1, Shuffled(4))) == event(Recipe(1, 0.1, Poisson(0.5, 1.0))) == NonPrivate()


GOOD = to_record(Recipe(3, 0.1, Poisson(0.5, 10.0), RecordLevel(1.0, 1.0)))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0}, {"steps": "3"}, {"steps": 3.5}, {"steps": True}, {"steps": None}, {"steps": 10**9},
        {"learning_rate": "0"}, {"learning_rate": 0.1}, {"learning_rate": "0.10"}, {"learning_rate": "inf"},
        {"batching": {}}, {"batching": None}, {"batching": {"batch_size": 8}}, {"batching": {"batch_size": 0}},
        {"batching": {"sample_rate": "2", "normaliser": "1"}}, {"privacy": {"noise_multiplier": "1.0"}},
        {"privacy": {"noise_multiplier": "-1.0", "clip_norm": "1.0"}}, {"privacy": "yes"}, {"more": 1},
        {"privacy": {"noise_multiplier": "nan", "clip_norm": "1.0"}}, {"momentum": "x"},
    ],
)  # fmt: skip
def test_what_is_no_recipe(change: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        from_record(GOOD | change)


def test_the_loader_asks_at_every_read_and_remembers_what_it_read() -> None:
    held = Records(np.arange(10, dtype=np.float32)[:, None], np.arange(10), tuple("abcdefghij"))
    open_now = np.ones(10, np.bool_)
    told: list[list[int]] = []
    loader = Loader(held, np.arange(10), lambda asked: open_now[asked], lambda read: told.append(read.tolist()))
    assert loader.touched.tolist() == []
    assert loader.read(np.asarray([1, 3, 5]))[1].flatten().tolist() == [1, 3, 5]
    open_now[3] = False
    permitted, features, targets = loader.read(np.asarray([3, 4]))
    assert permitted.tolist() == [4]
    assert (features.flatten().tolist(), targets.tolist()) == ([4], [4])
    assert len(loader.read(np.asarray([3]))[2]) == 0
    assert len(loader.read(np.zeros(0, np.int64))[2]) == 0
    assert loader.touched.tolist() == [1, 3, 4, 5]
    assert told == [[1, 3, 5], [4], [], []]
