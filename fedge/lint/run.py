"""What is found in a run of fedge: its configuration, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedge import soundness
from fedge.config import RunConfig
from fedge.errors import UnsoundError
from fedge.lint.rules import (
    FEW_CLIENTS,
    INSECURE_NOISE,
    LARGE_DELTA,
    LEDGER_PER_RUN,
    NO_PRIVACY,
    REFUSED,
    SEVERAL_RECORDS,
    Finding,
)

LARGE = 1e-3


def check(config: RunConfig, summary: Mapping[str, Any]) -> Iterator[Finding]:
    """Find what `config` claims falsely or weakly; `summary` is what the run came to, empty if it has not run."""
    privacy = config.privacy
    if privacy.unit == "none":
        yield Finding(NO_PRIVACY, "privacy.unit", "none")
        return
    yield from _refused(config)
    if privacy.noise == "seeded":
        yield Finding(INSECURE_NOISE, "privacy.noise", "seeded: right for a simulation, and it protects nobody")
    elif config.population.home is None:
        yield Finding(LEDGER_PER_RUN, "population.home", "none")
    if privacy.delta >= LARGE:
        yield Finding(LARGE_DELTA, "privacy.delta", f"{privacy.delta:g}")
    if privacy.unit == "client" and config.population.clients < soundness.FEW_CLIENTS:
        yield Finding(FEW_CLIENTS, "population.clients", str(config.population.clients))
    repeated = summary.get("repeated_subjects") or 0
    if repeated and privacy.unit == "record":
        yield Finding(SEVERAL_RECORDS, "summary.json", f"{repeated} records belong to people who own another one")


def _refused(config: RunConfig) -> Iterator[Finding]:
    from fedge.learning.tasks import builtin  # here: only this question needs torch

    try:
        soundness.check(config, builtin(config.task.name, Path(config.task.folder) if config.task.folder else None))
    except UnsoundError as error:
        yield Finding(REFUSED, "configuration", str(error))
