"""Mechanisms as data: what was done, said once, judged later by any accountant.

All events state their noise in units of the L2 sensitivity under *add/remove* adjacency: a `noise_multiplier` is the
standard deviation of the noise divided by the most that one unit (a record, or a client's whole update) can add.
Replace-one adjacency is a judgement of the same event: one unit out and another in moves the sum by up to twice that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from fedge.encoding import canonical, decimal
from fedge.errors import ParseError

Unit = Literal["record", "subject", "client"]
"""What one clipped contribution belongs to: one record, one person with all records, or one client with all it holds.

From the smallest to the largest: each holds those before it."""


@dataclass(frozen=True)
class SampledGaussian:
    """`steps` releases of a Gaussian mechanism, each on a Poisson sample of rate `sample_rate`.

    The sampling is of units: of records or people in a batch, or of clients in a round. The product of two rates is no
    rate of either. Abadi et al. 2016, https://arxiv.org/abs/1607.00133; McMahan et al. 2018, https://arxiv.org/abs/1710.06963.
    """

    sample_rate: float
    noise_multiplier: float
    steps: int
    unit: Unit = "record"

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample_rate {self.sample_rate} is not in (0, 1]")
        _check(self)


@dataclass(frozen=True)
class Gaussian:
    """`steps` releases of a Gaussian mechanism on all the data, or on a sample that is not Poisson."""

    noise_multiplier: float
    steps: int = 1
    unit: Unit = "record"

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class NonPrivate:
    """A release that hides nothing: its epsilon is infinite, for ever."""


Event = SampledGaussian | Gaussian | NonPrivate


def to_record(event: Event) -> dict[str, Any]:
    """Return `event` as plain data with decimal strings; the unit is named where it is not a record."""
    match event:
        case SampledGaussian(sample_rate, noise_multiplier, steps):
            said: dict[str, Any] = {
                "mechanism": "sampled_gaussian",
                "sample_rate": decimal(sample_rate),
                "noise_multiplier": decimal(noise_multiplier),
                "steps": steps,
            }
        case Gaussian(noise_multiplier, steps):
            said = {"mechanism": "gaussian", "noise_multiplier": decimal(noise_multiplier), "steps": steps}
        case NonPrivate():
            return {"mechanism": "non_private"}
    return said if event.unit == "record" else said | {"unit": event.unit}


def from_record(record: dict[str, Any]) -> Event:
    """Return the event of `record`; the inverse of `to_record`. Raises ParseError."""
    try:
        event = _read(record)
    except (KeyError, ValueError, TypeError) as error:
        raise ParseError(f"not a privacy event: {error}") from error
    if canonical(to_record(event)) != canonical(record):  # bytes, for True == 1 and 1.0 == 1
        raise ParseError("privacy event is not in canonical form")
    return event


def _read(record: dict[str, Any]) -> Event:
    unit: Unit = record.get("unit", "record")
    match record["mechanism"]:
        case "sampled_gaussian":
            rate, noise = float(record["sample_rate"]), float(record["noise_multiplier"])
            return SampledGaussian(rate, noise, int(record["steps"]), unit)
        case "gaussian":
            return Gaussian(float(record["noise_multiplier"]), int(record["steps"]), unit)
        case "non_private":
            return NonPrivate()
        case unknown:
            raise ValueError(f"unknown mechanism {unknown!r}")  # unknown means unsupported, never free


def _check(event: SampledGaussian | Gaussian) -> None:
    if not event.noise_multiplier > 0 or event.steps < 1:
        raise ValueError("noise_multiplier is above 0 and steps at least 1")
    if event.unit not in get_args(Unit):
        raise ValueError(f"unknown unit {event.unit!r}")
