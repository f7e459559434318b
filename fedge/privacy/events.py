"""Mechanisms as data: what was done, said once, judged later by any accountant.

All events speak of add/remove adjacency and of sensitivity 1 in units of the noise: a `noise_multiplier` is the
standard deviation of the noise divided by the L2 sensitivity of what it hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedge.encoding import canonical, decimal
from fedge.errors import ParseError


@dataclass(frozen=True)
class SampledGaussian:
    """`steps` releases of a Gaussian mechanism, each on a Poisson sample of rate `sample_rate`.

    Abadi et al. 2016, https://arxiv.org/abs/1607.00133.
    """

    sample_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample_rate {self.sample_rate} is not in (0, 1]")
        if self.noise_multiplier <= 0 or self.steps < 1:
            raise ValueError("noise_multiplier is above 0 and steps at least 1")


@dataclass(frozen=True)
class Gaussian:
    """`steps` releases of a Gaussian mechanism on all the data."""

    noise_multiplier: float
    steps: int = 1

    def __post_init__(self) -> None:
        if self.noise_multiplier <= 0 or self.steps < 1:
            raise ValueError("noise_multiplier is above 0 and steps at least 1")


@dataclass(frozen=True)
class NonPrivate:
    """A release that hides nothing: its epsilon is infinite, for ever."""


Event = SampledGaussian | Gaussian | NonPrivate


def to_record(event: Event) -> dict[str, Any]:
    """Return `event` as plain data with decimal strings."""
    match event:
        case SampledGaussian(sample_rate, noise_multiplier, steps):
            return {
                "mechanism": "sampled_gaussian",
                "sample_rate": decimal(sample_rate),
                "noise_multiplier": decimal(noise_multiplier),
                "steps": steps,
            }
        case Gaussian(noise_multiplier, steps):
            return {"mechanism": "gaussian", "noise_multiplier": decimal(noise_multiplier), "steps": steps}
        case NonPrivate():
            return {"mechanism": "non_private"}


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
    match record["mechanism"]:
        case "sampled_gaussian":
            return SampledGaussian(
                float(record["sample_rate"]), float(record["noise_multiplier"]), int(record["steps"])
            )
        case "gaussian":
            return Gaussian(float(record["noise_multiplier"]), int(record["steps"]))
        case "non_private":
            return NonPrivate()
        case unknown:
            raise ValueError(f"unknown mechanism {unknown!r}")  # unknown means unsupported, never free
