"""What one client does in one round, as data: an order carries a recipe, never code."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from fedge.encoding import canonical, decimal
from fedge.errors import ParseError
from fedge.learning import compression
from fedge.learning.compression import Compression
from fedge.privacy.events import Event, Gaussian, NonPrivate, SampledGaussian

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
        if self.unit not in {"record", "subject"}:
            raise ValueError(f"unknown unit {self.unit!r}")
        _check_clipping(self.noise_multiplier, self.clip_norm, self.adaptive)

    @property
    def largest_clip_norm(self) -> float:
        """The most that a unit's contribution may be shortened to, in any step."""
        return self.clip_norm if self.adaptive is None else self.adaptive.largest


@dataclass(frozen=True)
class ClientLevel:
    """Clipping of a client's whole update to `clip_norm`, and noise that the server adds to the sum of a round.

    An answer is in the sum with probability `sample_rate`, by a coin that the server alone knows. `bands` other than
    (1,) correlate the noise of rounds (`privacy.factorisation`): then nothing is sampled, and a client takes part at
    most once in as many rounds as there are bands. The noise, before it is correlated, has standard deviation
    `noise_multiplier * norm(bands) * clip_norm`: so one participation is a Gaussian mechanism of that multiplier.
    `secure` is the server's word that noise and coins come from the operating system. In a secure sum clients add the
    noise, in shares; then nothing is sampled or correlated, and each has its own dice.
    """

    noise_multiplier: float
    clip_norm: float
    sample_rate: float = 1.0
    bands: tuple[float, ...] = (1.0,)
    secure: bool = False
    adaptive: Adaptive | None = None

    def __post_init__(self) -> None:
        _check_clipping(self.noise_multiplier, self.clip_norm, self.adaptive)
        if not 0 < self.sample_rate <= 1 or not isinstance(self.secure, bool):
            raise ValueError("sample_rate lies in (0, 1] and secure is true or false")
        if not 1 <= len(self.bands) <= MOST_BANDS or self.bands[0] != 1 or not all(0 <= b <= 1 for b in self.bands):
            raise ValueError(f"bands are 1 to {MOST_BANDS} numbers from 0 to 1, of which the first is 1")
        if len(self.bands) > 1 and (self.sample_rate < 1 or self.adaptive is not None):
            raise ValueError("correlated noise is for clients that are not sampled, and for one clip norm")

    @property
    def separation(self) -> int:
        """A client takes part at most once in so many rounds."""
        return len(self.bands)

    @property
    def largest_clip_norm(self) -> float:
        """The most that a client's update may be shortened to, in any round."""
        return self.clip_norm if self.adaptive is None else self.adaptive.largest


MOST_BANDS = 4096


def _check_clipping(noise_multiplier: float, clip_norm: float, adaptive: Adaptive | None) -> None:
    if not (0 < noise_multiplier < math.inf and 0 < clip_norm < math.inf):
        raise ValueError("noise_multiplier and clip_norm are above 0")
    if adaptive is not None:
        if not adaptive.count_noise > noise_multiplier / 2:
            raise ValueError("count_noise is above half the noise_multiplier: else the count alone costs more")
        if clip_norm > adaptive.largest:
            raise ValueError("clip_norm begins at most at largest")


@dataclass(frozen=True)
class Recipe:
    """`steps` of SGD. `proximal_mu` adds FedProx's pull towards the model that was sent.

    `clipping` says how clipped sums are computed (`learning.clipping`): it changes how fast, and the last bits.
    `compression` says in which form the change travels (`learning.compression`). `privacy` is what the client does to
    its gradients, `client` what is done to its whole update; there is at most one of them.
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
    client: ClientLevel | None = None

    def __post_init__(self) -> None:
        if self.clipping not in get_args(Method):
            raise ValueError(f"clipping is one of {', '.join(get_args(Method))}")
        if not 1 <= self.steps <= 1_000_000 or not 0 < self.learning_rate < 1e6:
            raise ValueError("steps is at least 1 and learning_rate above 0")
        if self.privacy is not None and not isinstance(self.batching, Poisson):
            raise ValueError("privacy needs Poisson sampling: shuffled batches are not what the accountant assumes")
        if self.client is not None and isinstance(self.batching, Poisson):
            raise ValueError(
                "client-level privacy samples clients, never records: the product of two rates is the rate of nothing"
            )
        if self.client is not None and self.compression is not None:
            raise ValueError("an update of client-level privacy is clipped as it is, and travels as it is")


def event(recipe: Recipe) -> Event:
    """Return what carrying out `recipe` once does to the privacy of a record, of a person, or of the whole client."""
    if recipe.client is not None:
        whole = recipe.client
        if whole.separation > 1:
            return Gaussian(whole.noise_multiplier, 1, "client")
        return SampledGaussian(whole.sample_rate, whole.noise_multiplier, 1, "client")
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
    if recipe.client is not None:
        said["client"] = _client_record(recipe.client)
    return said


def _privacy_record(privacy: RecordLevel) -> dict[str, Any]:
    said: dict[str, Any] = {
        "noise_multiplier": decimal(privacy.noise_multiplier),
        "clip_norm": decimal(privacy.clip_norm),
    }
    if privacy.unit != "record":
        said["unit"] = privacy.unit
    if privacy.adaptive is not None:
        said["adaptive"] = _adaptive_record(privacy.adaptive)
    return said


def _client_record(whole: ClientLevel) -> dict[str, Any]:
    said: dict[str, Any] = {
        "noise_multiplier": decimal(whole.noise_multiplier),
        "clip_norm": decimal(whole.clip_norm),
        "sample_rate": decimal(whole.sample_rate),
        "bands": [decimal(band) for band in whole.bands],
        "secure": whole.secure,
    }
    return said if whole.adaptive is None else said | {"adaptive": _adaptive_record(whole.adaptive)}


def _adaptive_record(adaptive: Adaptive) -> dict[str, str]:
    return {name: decimal(value) for name, value in asdict(adaptive).items()}


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
        client=_client(record["client"]) if "client" in record else None,
    )


def _privacy(record: dict[str, Any]) -> RecordLevel:
    return RecordLevel(
        noise_multiplier=float(record["noise_multiplier"]),
        clip_norm=float(record["clip_norm"]),
        unit=record.get("unit", "record"),
        adaptive=_adaptive(record.get("adaptive")),
    )


def _client(record: dict[str, Any]) -> ClientLevel:
    return ClientLevel(
        noise_multiplier=float(record["noise_multiplier"]),
        clip_norm=float(record["clip_norm"]),
        sample_rate=float(record["sample_rate"]),
        bands=tuple(float(band) for band in record["bands"]),
        secure=record["secure"],
        adaptive=_adaptive(record.get("adaptive")),
    )


def _adaptive(record: dict[str, Any] | None) -> Adaptive | None:
    return None if record is None else Adaptive(**{name: float(value) for name, value in record.items()})
