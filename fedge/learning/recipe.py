"""What one client does in one round, as data: an order carries a recipe, never code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedge.encoding import canonical, decimal
from fedge.errors import ParseError
from fedge.privacy.events import Event, NonPrivate, SampledGaussian


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
class RecordLevel:
    """Per-record clipping to `clip_norm` and Gaussian noise of standard deviation `noise_multiplier * clip_norm`."""

    noise_multiplier: float
    clip_norm: float

    def __post_init__(self) -> None:
        if self.noise_multiplier <= 0 or self.clip_norm <= 0:
            raise ValueError("noise_multiplier and clip_norm are above 0")


@dataclass(frozen=True)
class Recipe:
    """`steps` of SGD. `proximal_mu` adds FedProx's pull towards the model that was sent."""

    steps: int
    learning_rate: float
    batching: Poisson | Shuffled
    privacy: RecordLevel | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1_000_000 or not 0 < self.learning_rate < 1e6:
            raise ValueError("steps is at least 1 and learning_rate above 0")
        if self.privacy is not None and not isinstance(self.batching, Poisson):
            raise ValueError("privacy needs Poisson sampling: shuffled batches are not what the accountant assumes")


def event(recipe: Recipe) -> Event:
    """Return what carrying out `recipe` once does to a record's privacy."""
    if recipe.privacy is None or not isinstance(recipe.batching, Poisson):
        return NonPrivate()
    return SampledGaussian(recipe.batching.sample_rate, recipe.privacy.noise_multiplier, recipe.steps)


def to_record(recipe: Recipe) -> dict[str, Any]:
    """Return `recipe` as plain data with decimal strings, as an order carries it."""
    batching: dict[str, Any]
    match recipe.batching:
        case Poisson(sample_rate, normaliser):
            batching = {"sample_rate": decimal(sample_rate), "normaliser": decimal(normaliser)}
        case Shuffled(batch_size):
            batching = {"batch_size": batch_size}
    privacy = recipe.privacy
    return {
        "steps": recipe.steps,
        "learning_rate": decimal(recipe.learning_rate),
        "momentum": decimal(recipe.momentum),
        "weight_decay": decimal(recipe.weight_decay),
        "proximal_mu": decimal(recipe.proximal_mu),
        "batching": batching,
        "privacy": None
        if privacy is None
        else {"noise_multiplier": decimal(privacy.noise_multiplier), "clip_norm": decimal(privacy.clip_norm)},
    }


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
        privacy=None
        if privacy is None
        else RecordLevel(float(privacy["noise_multiplier"]), float(privacy["clip_norm"])),
    )
