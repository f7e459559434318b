"""Every way to spread records is disjoint and complete, and skewed as it says."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray

from fedge.errors import ConfigError
from fedge.simulation import partition
from fedge.simulation.partition import Parts

Targets = NDArray[np.int64]
WAYS: dict[str, Callable[[Targets, int, Generator], Parts]] = {
    "iid": lambda t, n, rng: partition.iid(len(t), n, rng),
    "shares": lambda t, n, rng: partition.shares(t, [1 / n] * n, 0.5, rng),
    "dirichlet": lambda t, n, rng: partition.dirichlet(t, n, 1.0, rng, least=1),
    "shards": lambda t, n, rng: partition.shards(t, n, 2, rng),
    "site": lambda t, n, rng: list(partition.by_site([f"s{i % n}" for i in range(len(t))]).values()),
}


def labels(count: int, classes: int = 4, seed: int = 0) -> Targets:
    return np.random.default_rng(seed).integers(0, classes, count)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(st.integers(60, 400), st.integers(1, 8), st.integers(1, 6), st.integers(0, 10**6))
def test_disjoint_complete_and_repeatable(way: str, count: int, clients: int, classes: int, seed: int) -> None:
    targets = labels(count, classes, seed)
    parts = WAYS[way](targets, clients, np.random.default_rng(seed))
    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert all((np.diff(part) > 0).all() and len(part) for part in parts)
    again = WAYS[way](targets, clients, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_iid_parts_are_of_equal_size() -> None:
    sizes = [len(p) for p in partition.iid(103, 10, np.random.default_rng(0))]
    assert max(sizes) - min(sizes) <= 1


def test_shares_are_kept() -> None:
    parts = partition.shares(labels(1000), [0.5, 0.3, 0.2], 0.0, np.random.default_rng(0))
    assert [len(p) for p in parts] == [500, 300, 200]


def positive(parts: Parts, targets: Targets) -> list[float]:
    return [float(targets[p].mean()) for p in parts]


def test_skew_goes_from_the_same_mix_to_labels_apart() -> None:
    targets = labels(2000, 2)
    spread = [
        np.ptp(positive(partition.shares(targets, [0.5, 0.5], skew, np.random.default_rng(0)), targets))
        for skew in (0.0, 0.3, 1.0)
    ]
    assert spread[0] < 0.1 < spread[1] < spread[2]
    assert spread[2] > 0.9


def test_a_small_alpha_is_more_skewed_than_a_large_one() -> None:
    targets = labels(4000, 2)
    small, large = (
        np.std(positive(partition.dirichlet(targets, 10, a, np.random.default_rng(0)), targets)) for a in (0.3, 100.0)
    )
    assert small > 3 * large


def test_shards_show_few_labels() -> None:
    targets = labels(1000, 10)
    parts = partition.shards(targets, 10, 2, np.random.default_rng(0))
    assert max(len(np.unique(targets[p])) for p in parts) <= 4


@pytest.mark.parametrize("shares", [[], [0.5, 0.4], [1.5, -0.5], [0.0, 1.0]])
def test_shares_that_make_no_whole(shares: list[float]) -> None:
    with pytest.raises(ConfigError, match="positive shares that sum to 1"):
        partition.shares(labels(100), shares, 0.0, np.random.default_rng(0))


@pytest.mark.parametrize("way", ["iid", "dirichlet", "shards", "shares"])
def test_more_clients_than_records(way: str) -> None:
    with pytest.raises(ConfigError, match="cannot be spread"):
        WAYS[way](labels(5), 20, np.random.default_rng(0))


def test_a_split_that_chance_does_not_give_names_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"raise population\.alpha"):
        partition.dirichlet(labels(120, 2), 10, 0.001, np.random.default_rng(0))
