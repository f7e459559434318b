"""Combinations that would make a privacy statement false are refused before anything runs, with the reason.

Each rule is a sentence about the configuration; the first that fails is raised.
"""

from __future__ import annotations

import math

from fedge.calibration import bands_of
from fedge.config import RunConfig
from fedge.errors import ConfigError, UnsoundError
from fedge.learning.aggregation import ROBUST
from fedge.learning.checks import check_apart, check_private, check_same_base
from fedge.learning.clipping import why_no_ghost
from fedge.learning.task import Data, Task
from fedge.rounds.sampling import cohort_size

UNITS = frozenset({"record", "subject"})
"""Units that each client protects by itself, by clipping gradients."""

FEW_CLIENTS = 100
"""Below about so many clients, noise that hides a whole one leaves little to learn: it is said, not refused."""


def check(config: RunConfig, task: Task) -> None:
    """Raise UnsoundError for what would be dishonest, ConfigError for what is not to be had."""
    _weighting(config)
    _secure_aggregation(config)
    _noise_at(config)
    _client_level(config)
    _server_noise(config)
    _banded(config)
    _adaptive(config)
    _compression(config)
    if config.privacy.unit in UNITS:
        check_private(task.model())
    check_same_base(task)


def check_data(config: RunConfig, task: Task, data: Data) -> None:
    """Raise UnsoundError if the task's loss mixes records of the shape that `data` has."""
    if config.privacy.unit not in UNITS:
        return
    model, shape = task.model(), data.train.features.shape[1:]
    check_apart(task, model, shape)
    if config.training.clipping == "ghost":
        objection = why_no_ghost(model, shape, by_owner=config.privacy.unit == "subject")
        if objection is not None:
            raise UnsoundError(f"training.clipping=ghost: {objection}; use training.clipping=auto or hooks")


def check_enough(config: RunConfig, clients: int, needed: int) -> None:
    """Raise ConfigError if the strategy is not defined for so few clients, UnsoundError if their sum hides nobody."""
    _hidden(config, clients)
    _rested(config, clients)
    if clients < needed:
        raise ConfigError(
            f"strategy.name: {config.strategy.name} is defined for at least {needed} updates, and there are {clients} "
            "clients; raise population.clients or lower strategy.malicious"
        )


def _hidden(config: RunConfig, clients: int) -> None:
    privacy = config.privacy
    if not privacy.secure_aggregation:
        return
    asked = max(config.sampling.minimum_clients, math.ceil(config.sampling.fraction * clients))
    shared = privacy.noise_at == "distributed"
    least = privacy.colluding + (privacy.dropouts + 1 if shared else 2)
    if asked < least:
        raise UnsoundError(
            f"a round asks {asked} clients, of which {privacy.colluding} may collude with the server"
            + (f" and {privacy.dropouts} be missing" if shared else "")
            + f": it takes at least {least} to hide one; raise population.clients, or lower privacy.colluding"
        )


def _rested(config: RunConfig, clients: int) -> None:
    if config.privacy.mechanism != "banded":
        return
    asked = cohort_size(clients, config.sampling.fraction, config.sampling.minimum_clients)
    if asked * bands_of(config) > clients:
        raise ConfigError(
            f"privacy.mechanism=banded: {asked} of {clients} clients a round cannot each rest for {bands_of(config)} "
            "rounds; lower sampling.fraction or privacy.bands"
        )


def _weighting(config: RunConfig) -> None:
    if config.strategy.weighting != "examples":
        return
    if config.privacy.unit == "client":
        raise UnsoundError(
            "strategy.weighting=examples under client-level privacy: one client's weight, and so its influence, would "
            "grow with its number of records beyond what the noise is made for; use strategy.weighting=uniform"
        )
    if config.privacy.unit in UNITS and not config.policy.public_size:
        raise UnsoundError(
            "strategy.weighting=examples discloses how many records each client has, which record-level privacy hides; "
            "use strategy.weighting=uniform, or policy.public_size=true where the owners declare their size public"
        )
    if not config.policy.public_size:
        raise UnsoundError(
            "strategy.weighting=examples needs clients that state their size; set policy.public_size=true"
        )


def _secure_aggregation(config: RunConfig) -> None:
    if not config.privacy.secure_aggregation:
        return
    if config.strategy.name in ROBUST:
        raise UnsoundError(
            f"strategy.name={config.strategy.name} under secure aggregation: it compares single updates, and secure "
            "aggregation shows the server only their sum; use fedavg or one of the adaptive family"
        )
    if config.strategy.weighting == "examples":
        raise UnsoundError(
            "strategy.weighting=examples under secure aggregation: sizes would travel in clear beside what is hidden; "
            "use strategy.weighting=uniform"
        )


def _noise_at(config: RunConfig) -> None:
    privacy = config.privacy
    if privacy.noise_at != "distributed":
        return
    if privacy.unit == "subject":
        raise ConfigError(
            "privacy.unit=subject with privacy.noise_at=distributed: sums are clipped per record there; use "
            "privacy.noise_at=client"
        )
    if privacy.unit == "none":
        raise UnsoundError("privacy.noise_at=distributed without privacy: there is no noise to share; set privacy.unit")
    if not privacy.secure_aggregation:
        raise UnsoundError(
            "privacy.noise_at=distributed without secure aggregation: a client's share of the noise is too little for "
            "an update that is seen by itself; set privacy.secure_aggregation=true"
        )


def _client_level(config: RunConfig) -> None:
    privacy = config.privacy
    if privacy.unit != "client":
        return
    if privacy.secure_aggregation and privacy.noise_at != "distributed":
        raise UnsoundError(
            "privacy.unit=client with secure aggregation: the server cannot clip single updates that it does not see, "
            "nor leave out those that its secret sample leaves out, so its noise would be made for another sum; set "
            "privacy.noise_at=distributed, so that clients clip and share the noise, or "
            "privacy.secure_aggregation=false"
        )
    if privacy.noise_at == "client":
        raise UnsoundError(
            "privacy.unit=client with privacy.noise_at=client: the noise of a whole client is added to the sum of a "
            "round, by the server or by all clients together; set privacy.noise_at=server (privacy=client sets all of "
            "it) or distributed"
        )
    if privacy.noise_at == "distributed" and privacy.mechanism == "banded":
        raise UnsoundError(
            "privacy.mechanism=banded with privacy.noise_at=distributed: what later rounds take back, one party has to "
            "know; set privacy.noise_at=server, or privacy.mechanism=gaussian"
        )
    if config.strategy.name in ROBUST:
        raise UnsoundError(
            f"strategy.name={config.strategy.name} under client-level privacy: it compares single updates, and only "
            "their noisy mean is private; use fedavg or one of the adaptive family"
        )
    if config.evaluation.federated != "none":
        raise UnsoundError(
            "evaluation.federated under client-level privacy: a client's own count of correct answers would need noise "
            "for all its records at once, and say nothing; set evaluation.federated=none, and judge by public data"
        )


def _server_noise(config: RunConfig) -> None:
    if config.privacy.noise_at == "server" and config.privacy.unit != "client":
        raise UnsoundError(
            f"privacy.noise_at=server with privacy.unit={config.privacy.unit}: updates are clipped as a whole there, "
            "which protects clients; set privacy.unit=client, or privacy.noise_at=client"
        )


def _banded(config: RunConfig) -> None:
    if config.privacy.mechanism != "banded":
        return
    if config.privacy.unit != "client":
        raise UnsoundError(
            "privacy.mechanism=banded is for noise that the server adds over many rounds; set privacy.unit=client"
        )
    if config.privacy.adaptive_clipping:
        raise UnsoundError(
            "privacy.mechanism=banded with privacy.adaptive_clipping: noise that is taken back in later rounds must be "
            "made for the same clip norm; set privacy.adaptive_clipping=false"
        )
    if bands_of(config) < 2:
        raise ConfigError(
            f"privacy.mechanism=banded with sampling.fraction={config.sampling.fraction:g}: clients are asked in every "
            "round, so no noise can be correlated; ask at most half of them, e.g. sampling.fraction=0.1"
        )


def _adaptive(config: RunConfig) -> None:
    privacy = config.privacy
    if not privacy.adaptive_clipping:
        return
    if privacy.unit == "none":
        raise UnsoundError(
            "privacy.adaptive_clipping with privacy.unit=none: there is no clipping; set privacy.unit=record, subject "
            "or client"
        )
    if privacy.noise_at == "distributed":
        raise UnsoundError(
            "privacy.adaptive_clipping with privacy.noise_at=distributed: the noise that clients share is made for one "
            "clip norm that all know beforehand; set privacy.adaptive_clipping=false"
        )


def _compression(config: RunConfig) -> None:
    how, privacy = config.compression, config.privacy
    if how.nothing:
        return
    if privacy.noise_at == "distributed":
        raise UnsoundError(
            "compression with privacy.noise_at=distributed: a client would choose coordinates and scales from a sum "
            "that has not all of its noise yet, and so disclose something of its records; use compression=none"
        )
    if privacy.unit == "client":
        raise UnsoundError(
            "compression with privacy.unit=client: it comes before the noise there, and what it scales up is clipped "
            "away again; use compression=none"
        )
    if privacy.secure_aggregation:
        raise UnsoundError(
            "compression under secure aggregation: every client has scales and coordinates of its own, and masked "
            "vectors can be added only if all mean the same; use compression=none"
        )
    if config.strategy.name in ROBUST and how.share < 1:
        raise UnsoundError(
            f"strategy.name={config.strategy.name} with compression.share={how.share:g}: it compares updates "
            "coordinate by coordinate, and those of two clients would hold different ones; use compression.share=1"
        )
