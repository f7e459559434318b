"""What events cost: epsilon at a delta, for one record, person or client, under either adjacency.

The judge is the privacy loss distribution (PLD) of Google's dp-accounting (Doroshenko et al. 2022,
https://arxiv.org/abs/2207.04380), rounded so that it is never below the truth. Opacus' RDP and PRV accountants
stand beside it as cross-checks in tests. Gaussian DP (GDP) is not offered: it is up to 39 % too low.

A PLD is for schedules that are *fixed*: noise, sample rate and steps are known before the first result, or at least
do not depend on results. What may depend on them is judged by `privacy.filter`.

The events of a ledger only ever grow at their end, so what was composed before is kept. Equal settings are counted
together; different ones are composed along a binary tree, in the order in which they first came, and a new event
touches one path of it: the cost of an admission grows with the logarithm of the number of settings, not with the
number of rounds. The tree is a function of the events alone, so every process gets the same number, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, get_args

from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as pld

from fedge.errors import UnsoundError
from fedge.privacy.events import Event, Gaussian, NonPrivate, SampledGaussian, Unit

GRID, FINE = 1e-3, 1e-4
"""Discretisations of the privacy loss; pessimistic, so a coarser one only overstates, and is ten times as fast."""
SLIGHT = 4e-3
"""A mechanism whose loss in one step is typically below this would be overstated by over 1 % on the coarse one."""

Adjacency = Literal["add/remove", "replace-one"]
"""Which two data sets must be hard to tell apart: one with a unit more, or one with another unit in its place."""


@dataclass(frozen=True)
class Key:
    """One mechanism under one adjacency: what is counted together."""

    sample_rate: float
    noise_multiplier: float
    adjacency: Adjacency


UNITS = get_args(Unit)
Groups = tuple[tuple[Key, int], ...]
"""How often each mechanism was used, in the order in which they first came."""
Placed = tuple[tuple[Key, int, float], ...]
"""The same, each on the grid that all of them are composed on."""


@dataclass(frozen=True)
class Statement:
    """What an epsilon is about; printed beside every number."""

    unit: Unit = "record"
    adjacency: Adjacency = "add/remove"
    sampling: str = "poisson"
    accountant: str = "dp-accounting PLD"

    def describe(self, delta: float) -> str:
        """Return the words that belong beside an epsilon."""
        return f"{self.unit}-level, {self.adjacency}, delta {delta:g}, {self.sampling} sampling, {self.accountant}"


STATEMENT = Statement()


def epsilon(
    events: Iterable[Event], delta: float, *, adjacency: Adjacency = "add/remove", unit: Unit = "record"
) -> float:
    """Return the epsilon of all `events` together at `delta`; 0 for none, infinity if any hides nothing.

    Replace-one is the pair of dp-accounting's `REPLACE_ONE`: the unit's contribution against its opposite, which for a
    mechanism on all data is exactly the Gaussian of twice the sensitivity.
    """
    groups = grouped(events, adjacency, unit)
    return math.inf if groups is None else _epsilon(groups, delta)


def grouped(events: Iterable[Event], adjacency: Adjacency, unit: Unit) -> Groups | None:
    """Return how often each mechanism stands in `events`, None if one of them hides nothing of such a unit.

    Noise that is made for a client hides each person and each record in it too, but under replace-one: another record
    makes another update, not none. Noise that is made for one record hides no person who owns several, and no client.
    """
    steps: dict[Key, int] = {}
    for event in events:
        match event:
            case NonPrivate():
                return None
            case SampledGaussian(sample_rate, noise, count):
                rate = sample_rate
            case Gaussian(noise, count):
                rate = 1.0
        if UNITS.index(event.unit) < UNITS.index(unit):
            return None
        key = Key(rate, noise, adjacency if event.unit == unit else "replace-one")
        steps[key] = steps.get(key, 0) + count
    return tuple(steps.items())


def noise_multiplier(target: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the least noise multiplier (4 significant digits, rounded up) that keeps `steps` steps within `target`.

    Raises UnsoundError if no noise below 10,000 does.
    """
    low, high = 1e-2, 1.0
    while epsilon([SampledGaussian(sample_rate, high, steps)], delta) > target:
        low, high = high, high * 2
        if high > 1e4:
            raise UnsoundError(f"no noise keeps {steps} steps at rate {sample_rate:g} within epsilon {target:g}")
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        within = epsilon([SampledGaussian(sample_rate, middle, steps)], delta) <= target
        low, high = (low, middle) if within else (middle, high)
    return _round_up(high)


@lru_cache(maxsize=4096)
def _epsilon(groups: Groups, delta: float) -> float:
    grid = FINE if any(_typical_loss(key) < SLIGHT for key, _ in groups) else GRID
    placed = tuple((key, count, grid) for key, count in groups)
    return float(_composed(placed).get_epsilon_for_delta(delta)) if groups else 0.0


@lru_cache(maxsize=64)
def _composed(groups: Placed) -> Any:
    """Return the loss of all groups: the largest aligned block at the end, after all that comes before it."""
    size = len(groups) & -len(groups)
    before, last = groups[:-size], _kept(size)(groups[-size:])
    return _composed(before).compose(last) if before else last


def _block(groups: Placed) -> Any:
    """Return the loss of 1, 2, 4, 8 … groups."""
    if len(groups) == 1:
        (key, count, grid), *_ = groups
        return _single(key, grid).self_compose(count)
    half = len(groups) // 2
    return _kept(half)(groups[:half]).compose(_kept(half)(groups[half:]))


@cache
def _kept(size: int) -> Callable[[Placed], Any]:
    """Return `_block` for blocks of `size` with a memory of its own: the many small ones must not crowd out a large."""
    return lru_cache(maxsize=64 if size == 1 else 8)(_block)


@lru_cache(maxsize=256)
def _single(key: Key, grid: float) -> Any:
    relation = NeighboringRelation.REPLACE_ONE if key.adjacency == "replace-one" else _ADD_REMOVE
    return pld.from_gaussian_mechanism(
        standard_deviation=key.noise_multiplier,
        sampling_prob=key.sample_rate,
        value_discretization_interval=grid,
        neighboring_relation=relation,
    )


def _typical_loss(key: Key) -> float:
    """Return the root of the chi-square divergence of one step: the size of its usual privacy loss."""
    return key.sample_rate * math.sqrt(math.expm1(min(50.0, key.noise_multiplier**-2)))


_ADD_REMOVE = NeighboringRelation.ADD_OR_REMOVE_ONE


def _round_up(value: float) -> float:
    scale = 10 ** (3 - math.floor(math.log10(value)))
    return float(math.ceil(value * scale) / scale)
