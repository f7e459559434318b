"""What one client does in one round, as data: an order carries a recipe, never code."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from fedge.encoding import canonical, decimal
from fedge.errors import ParseError
from fedge.learning import compression
from fedge.learning.compression import Compression
from fedge.privacy.events import Event, NonPrivate, SampledGaussian

Method = Literal["auto", "hooks", "ghost"]
"""How clipped sums are computed; auto is ghost where `clipping.why_no_ghost` has no objection, else hooks."""


@dataclass(frozen=True)
class Poisson:
    """Each record is in a batch with probability `sample_rate`, independently; sums are divided by `normaliser`.

    Both are fixed and public. Opacus derives them from the private number of records, which then leaks through them.
    """

    sample_rate: float
    normaliser: float

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1 or self.normaliser <= 0:
            raise ValueError("sample_rate lies in (0, 1] and normaliser is above 0")


@dataclass(frozen=True)
class Shuffled:
    """Batches of `batch_size` from shuffled passes over the records; not accountable, so never with privacy."""

    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError("batch_size is at least 1")


@dataclass(frozen=True)
class Adaptive:
    """A clip norm that follows the share `quantile` of units within it, never above `largest`.

    The count of units within has Gaussian noise of standard deviation `count_noise`; the clip norm moves by the factor
    exp(-learning_rate * (share - quantile)) a step. Andrew et al. 2021, https://arxiv.org/abs/1905.03871.
    """

    quantile: float
    learning_rate: float
    count_noise: float
    largest: float

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1 or not 0 < self.learning_rate <= 10 or not 0 < self.largest < math.inf:
            raise ValueError("quantile lies in (0, 1), learning_rate in (0, 10], and largest is above 0")


@dataclass(frozen=True)
class RecordLevel:
    """Clipping per unit to `clip_norm` and Gaussian noise of standard deviation `noise_multiplier * clip_norm`.

    The unit is a record, or a subject: then batches are samples of people, and the summed gradient of all records of
    one is clipped as one. With `adaptive`, `clip_norm` is where the clip norm begins in each job, and
    `noise_multiplier` that of sum and count together.
    """

    noise_multiplier: float
    clip_norm: float
    unit: Literal["record", "subject"] = "record"
    adaptive: Adaptive | None = None

    def __post_init__(self) -> None:
        if not (self.noise_multiplier > 0 and self.clip_norm > 0):
            raise ValueError("noise_multiplier and clip_norm are above 0")
        if self.unit not in {"record", "subject"}:
            raise ValueError(f"unknown unit {self.unit!r}")
        if self.adaptive is not None:
            if not self.adaptive.count_noise > self.noise_multiplier / 2:
                raise ValueError("count_noise is above half the noise_multiplier: else the count alone costs more")
            if self.clip_norm > self.adaptive.largest:
                raise ValueError("clip_norm begins at most at largest")

    @property
    def largest_clip_norm(self) -> float:
        """The most that a unit's contribution may be shortened to, in any step."""
        return self.clip_norm if self.adaptive is None else self.adaptive.largest


@dataclass(frozen=True)
class Recipe:
    """`steps` of SGD. `proximal_mu` adds FedProx's pull towards the model that was sent.

    `clipping` says how clipped sums are computed (`learning.clipping`): it changes how fast, and the last bits.
    `compression` says in which form the change travels (`learning.compression`).
    """

    steps: int
    learning_rate: float
    batching: Poisson | Shuffled
    privacy: RecordLevel | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal_mu: float = 0.0
    clipping: Method = "auto"
    compression: Compression | None = None

    def __post_init__(self) -> None:
        if self.clipping not in get_args(Method):
            raise ValueError(f"clipping is one of {', '.join(get_args(Method))}")
        if not 1 <= self.steps <= 1_000_000 or not 0 < self.learning_rate < 1e6:
            raise ValueError("steps is at least 1 and learning_rate above 0")
        if self.privacy is not None and not isinstance(self.batching, Poisson):
            raise ValueError("privacy needs Poisson sampling: shuffled batches are not what the accountant assumes")


def event(recipe: Recipe) -> Event:
    """Return what carrying out `recipe` once does to the privacy of a record, or of a person."""
    if recipe.privacy is None or not isinstance(recipe.batching, Poisson):
        return NonPrivate()
    privacy = recipe.privacy
    return SampledGaussian(recipe.batching.sample_rate, privacy.noise_multiplier, recipe.steps, privacy.unit)


def to_record(recipe: Recipe) -> dict[str, Any]:
    """Return `recipe` as plain data with decimal strings, as an order carries it."""
    batching: dict[str, Any]
    match recipe.batching:
        case Poisson(sample_rate, normaliser):
            batching = {"sample_rate": decimal(sample_rate), "normaliser": decimal(normaliser)}
        case Shuffled(batch_size):
            batching = {"batch_size": batch_size}
    said: dict[str, Any] = {
        "steps": recipe.steps,
        "learning_rate": decimal(recipe.learning_rate),
        "momentum": decimal(recipe.momentum),
        "weight_decay": decimal(recipe.weight_decay),
        "proximal_mu": decimal(recipe.proximal_mu),
        "batching": batching,
        "privacy": None if recipe.privacy is None else _privacy_record(recipe.privacy),
    }
    if recipe.clipping != "auto":
        said["clipping"] = recipe.clipping
    if recipe.compression is not None:
        said["compression"] = compression.to_record(recipe.compression)
    return said


def _privacy_record(privacy: RecordLevel) -> dict[str, Any]:
    said: dict[str, Any] = {
        "noise_multiplier": decimal(privacy.noise_multiplier),
        "clip_norm": decimal(privacy.clip_norm),
    }
    if privacy.unit != "record":
        said["unit"] = privacy.unit
    if privacy.adaptive is not None:
        said["adaptive"] = {name: decimal(value) for name, value in asdict(privacy.adaptive).items()}
    return said


def from_record(record: dict[str, Any]) -> Recipe:
    """Return the recipe of `record`; the strict inverse of `to_record`. Raises ParseError."""
    try:
        recipe = _read(record)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ParseError(f"not a recipe: {error}") from error
    if canonical(to_record(recipe)) != canonical(record):  # bytes, for True == 1 and 1.0 == 1
        raise ParseError("the recipe is not in canonical form")
    return recipe


def _read(record: dict[str, Any]) -> Recipe:
    batching, privacy = record["batching"], record["privacy"]
    return Recipe(
        steps=int(record["steps"]),
        learning_rate=float(record["learning_rate"]),
        momentum=float(record["momentum"]),
        weight_decay=float(record["weight_decay"]),
        proximal_mu=float(record["proximal_mu"]),
        batching=Shuffled(int(batching["batch_size"]))
        if "batch_size" in batching
        else Poisson(float(batching["sample_rate"]), float(batching["normaliser"])),
        privacy=None if privacy is None else _privacy(privacy),
        clipping=record.get("clipping", "auto"),
        compression=compression.from_record(record["compression"]) if "compression" in record else None,
    )


def _privacy(record: dict[str, Any]) -> RecordLevel:
    adaptive = record.get("adaptive")
    return RecordLevel(
        noise_multiplier=float(record["noise_multiplier"]),
        clip_norm=float(record["clip_norm"]),
        unit=record.get("unit", "record"),
        adaptive=None if adaptive is None else Adaptive(**{name: float(value) for name, value in adaptive.items()}),
    )
