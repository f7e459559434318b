"""From a configuration to the parts of a run: the one place that knows every room.

Nothing runs here. What is assembled are the sites (one per simulated client) and a function that makes the coordinator
once there is a fleet to hand it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedge import __version__, results, soundness
from fedge.audit.leaves import PrivacyStatement, RunOpen
from fedge.audit.log import AuditLog
from fedge.config import RunConfig, signable
from fedge.encoding import Clock, canonical, decimal, digest, timestamp, to_plain, utc_now
from fedge.errors import ConfigError, UnsoundError
from fedge.flower.strategy import aggregation
from fedge.ids import ClientId, RunId
from fedge.learning import models, scoring
from fedge.learning.aggregation import Aggregation
from fedge.learning.loader import OnRead
from fedge.learning.recipe import Adaptive, Poisson, Recipe, RecordLevel, Shuffled, to_record
from fedge.learning.task import Data, Records, Task
from fedge.params import digest as digest_of
from fedge.privacy import noise
from fedge.privacy.accountant import STATEMENT, noise_multiplier
from fedge.privacy.budget import Budget
from fedge.privacy.noise import Dice
from fedge.rounds.book import Book
from fedge.rounds.coordinator import Coordinator
from fedge.rounds.folder import ClientFolder, RunFolder
from fedge.rounds.messages import Fleet
from fedge.rounds.plan import Plan
from fedge.rounds.sealing import Sealer
from fedge.rounds.site import Machine, Reached, Server, Site, passed
from fedge.rounds.state import StateStore
from fedge.secagg.terms import Terms, noisy_terms, update_terms
from fedge.signing import PASSPHRASE, PrivateKey, generate, load_private, save_private
from fedge.simulation import partition
from fedge.simulation.permissions import Ground, Shares
from fedge.simulation.population import Owner, World, site
from fedge.storage import server_journal

COUNT_NOISE = 2.5
"""Noise of the adaptive clip norm's count, in units of the noise multiplier: it costs the sum 2 % more noise."""


@dataclass(frozen=True)
class Hooks:
    """What tests and benchmarks look through: lines where a crash matters, and the records that are read."""

    server: Reached = passed
    client: Callable[[ClientId], Reached] = lambda _client: passed
    on_read: Callable[[ClientId], OnRead | None] = lambda _client: None


@dataclass(frozen=True)
class Assembled:
    """A run, ready to start: `coordinator` makes it from a fleet."""

    config: RunConfig
    task: Task
    data: Data
    folder: RunFolder
    sites: Mapping[ClientId, Site]
    book: Book
    plan: Plan
    evaluation_noise: float | None
    coordinator: Callable[[Fleet], Coordinator]
    server_key: PrivateKey = field(repr=False)


def assemble(
    config: RunConfig, task: Task, run: RunId, folder: RunFolder, hooks: Hooks | None = None, clock: Clock = utc_now
) -> Assembled:
    """Return the parts of run `run` in `folder`, new or as a crash has left them.

    Raises ConfigError, UnsoundError or DataError for what cannot be run.
    """
    hooks = hooks or Hooks()
    soundness.check(config, task)
    data = task.load()
    soundness.check_data(config, task, data)
    parts = _parts(config, task, data.train)
    combine = aggregation(config.strategy)
    soundness.check_enough(config, len(parts), combine.needs)
    passphrase = os.environ.get(PASSPHRASE)
    server_key, log_key = (_kept(folder.server / name, passphrase) for name in ("server.key", "log.key"))
    machine = Machine(clock, time.process_time, os.urandom, code_digest())
    world = World(
        task=task,
        server=Server(server_key.public, log_key.public),
        machine=machine,
        rng=lambda label, name: _generator(config.seed, label, name),
        dice=_client_dice(config),
        reached=hooks.client,
        on_read=hooks.on_read,
        passphrase=passphrase,
    )
    homes = Path(config.population.home) if config.population.home else folder.clients
    owner = owner_of(config)
    sites = {
        s.client: s
        for name, records in parts.items()
        for s in [site(world, owner, name, records, ClientFolder(homes / name), folder.receipts_of(ClientId(name)))]
    }
    book = Book(AuditLog(server_journal(config.log, folder, run), f"fedge/{run}", log_key), server_key)
    book.log.check_not_behind(folder.audit)
    states = StateStore(folder.server, folder.root, config.keep_states)
    plan = _plan(config, task, run, book, states, server_key, clock, clients=len(parts))
    return Assembled(
        config=config,
        task=task,
        data=data,
        folder=folder,
        sites=sites,
        book=book,
        plan=plan,
        evaluation_noise=_evaluation_noise(config),
        coordinator=_coordinator(config, task, data, folder, states, book, plan, combine, server_key, hooks, clock),
        server_key=server_key,
    )


def recipe_of(config: RunConfig) -> Recipe:
    """Return what a client does in one round; noise is set so that all planned rounds together cost the epsilon."""
    training, privacy = config.training, config.privacy
    common: dict[str, Any] = {
        "steps": training.steps,
        "learning_rate": training.learning_rate,
        "momentum": training.momentum,
        "weight_decay": training.weight_decay,
        "proximal_mu": config.strategy.proximal_mu,
        "clipping": training.clipping,
        "compression": None if config.compression.nothing else config.compression,
    }
    if privacy.unit == "none":
        return Recipe(batching=Shuffled(training.batch_size), **common)
    total = training.steps * max(1, config.rounds)
    sigma = noise_multiplier(privacy.epsilon, privacy.delta, training.sample_rate, total)
    batching = Poisson(training.sample_rate, training.normaliser)
    unit: Literal["record", "subject"] = "subject" if privacy.unit == "subject" else "record"
    clipped = RecordLevel(sigma, privacy.clip_norm, unit, _adaptive(config, sigma))
    return Recipe(batching=batching, privacy=clipped, **common)


def _adaptive(config: RunConfig, noise_multiplier: float) -> Adaptive | None:
    """Return how the clip norm follows the data, if it does; see `config.Privacy`."""
    privacy = config.privacy
    if not privacy.adaptive_clipping:
        return None
    count_noise = COUNT_NOISE * noise_multiplier if privacy.count_noise is None else privacy.count_noise
    if count_noise <= noise_multiplier / 2:
        raise UnsoundError(
            f"privacy.count_noise={count_noise:g} is at most half the noise multiplier {noise_multiplier:g}: counting "
            "alone would cost more than the whole epsilon; leave it null, or raise it"
        )
    largest = 10 * privacy.clip_norm if privacy.largest_clip_norm is None else privacy.largest_clip_norm
    return Adaptive(privacy.clip_quantile, privacy.clip_learning_rate, count_noise, largest)


def config_bytes(config: RunConfig) -> bytes:
    """Return the canonical bytes of `config`: what `config.json` holds and the first log entry names by digest."""
    return canonical(signable(to_plain(config)))


def code_digest() -> str:
    """Return the digest of fedge's own source files: which code ran."""
    package = Path(__file__).parent
    files = sorted(package.rglob("*.py"))
    return digest(b"".join(digest(f.read_bytes()).encode() + str(f.relative_to(package)).encode() for f in files))


def _parts(config: RunConfig, task: Task, train: Records) -> dict[str, Records]:
    """Return each client's records, by the client's name."""
    population, rng = config.population, _generator(config.seed, "partition", "")
    if population.partition == "site":
        if train.sites is None:
            raise ConfigError(
                f"population.partition=site: task {task.name!r} has no sites; use iid, shares or dirichlet"
            )
        return {name: train.take(part) for name, part in partition.by_site(train.sites).items()}
    targets, count = train.targets, population.clients
    match population.partition:
        case "shares":
            parts = partition.shares(targets, population.shares, population.skew, rng)
        case "iid":
            parts = partition.iid(len(train), count, rng)
        case "dirichlet":
            parts = partition.dirichlet(targets, count, population.alpha, rng)
        case "shards":
            parts = partition.shards(targets, count, population.shards_per_client, rng)
    width = len(str(len(parts)))
    return {f"{population.prefix}-{i:0{width}d}": train.take(part) for i, part in enumerate(parts, start=1)}


def owner_of(config: RunConfig) -> Owner:
    """Return what the simulated owners have decided."""
    private = config.privacy.unit != "none"
    epsilon = config.privacy.epsilon if private else math.inf
    unit: Literal["record", "subject"] = "subject" if config.privacy.unit == "subject" else "record"
    consent = config.consent
    return Owner(
        policy=config.policy,
        budget=Budget(epsilon, config.privacy.delta, unit=unit),
        evaluation_budget=Budget(config.evaluation.epsilon, config.privacy.delta, unit=unit),
        budgets=config.population.budgets,
        purpose=config.purpose,
        ground=Ground(consent.basis, consent.number, consent.legal_bases),
        shares=Shares(consent.refused, consent.expired, consent.missing, consent.opted_out),
        facts=frozenset(consent.facts),
        evaluation_share=config.population.evaluation_share if config.evaluation.federated != "none" else 0.0,
    )


def _evaluation_noise(config: RunConfig) -> float | None:
    if config.evaluation.federated == "none" or config.continues is not None:
        return None  # rounds that are redone ask no second time: it would be a new spend
    return noise_multiplier(config.evaluation.epsilon, config.privacy.delta, 1.0, 1)


def _plan(
    config: RunConfig,
    task: Task,
    run: RunId,
    book: Book,
    states: StateStore,
    server_key: PrivateKey,
    clock: Clock,
    *,
    clients: int,
) -> Plan:
    recipe = recipe_of(config)  # once: its noise is searched for
    opening = book.opening or RunOpen(
        run=run,
        at=timestamp(clock()),
        config_digest=digest(config_bytes(config)),
        task=task.name,
        model_format="safetensors",
        purpose=config.purpose,
        rounds_planned=config.rounds,
        server_key=server_key.public.text,
        log_key=book.log.vkey.text,
        quorum=1,
        code_version=f"fedge {__version__}",
        packages_digest=digest(canonical(results.environment(config.seed)["packages"])),
        strategy=config.strategy.name,
        privacy_statement=_statement(config),
        initial_model=_first_model(config, task, states),
        continues=config.continues,
    )
    return Plan(
        opening=opening,
        task_digest=task.digest(),
        recipe=to_record(recipe),
        fraction=config.sampling.fraction,
        minimum_clients=config.sampling.minimum_clients,
        minimum_updates=config.sampling.minimum_updates,
        weighting=config.strategy.weighting,
        terms=_terms(config, clients, recipe),
    )


def _first_model(config: RunConfig, task: Task, states: StateStore) -> str:
    """Return the digest of the model that the run starts from: the seed's, or the state of the run it continues."""
    if config.continues is None:
        return digest_of(models.initial(task.model, config.seed))
    before = states.pending()
    if before is None or before.round != config.continues.round:
        raise ConfigError("continues: the state to start from is missing; it is `fedge unlearn` that starts such a run")
    return before.model


def _terms(config: RunConfig, clients: int, recipe: Recipe) -> Terms | None:
    """Return the terms of secure aggregation among up to `clients`, or None without it."""
    privacy = config.privacy
    if not privacy.secure_aggregation:
        return None
    if privacy.noise_at == "client" or recipe.privacy is None:
        return update_terms(clients, privacy.update_norm, privacy.colluding)
    std = recipe.privacy.noise_multiplier * privacy.clip_norm
    return noisy_terms(clients, std, privacy.clip_norm, privacy.colluding, privacy.dropouts, recipe.steps)


def _statement(config: RunConfig) -> PrivacyStatement:
    if config.privacy.unit == "none":
        return PrivacyStatement("none", "none", "none", "none", None, "none", "none")
    source = "os-aes-ctr" if config.privacy.noise == "secure" else "seeded-aes-ctr"
    adjacency = STATEMENT.adjacency.replace("/", "-")
    delta = decimal(config.privacy.delta)
    return PrivacyStatement(
        config.privacy.unit, adjacency, "dp-accounting-pld", STATEMENT.sampling, delta, source, config.privacy.noise_at
    )


def _coordinator(  # noqa: PLR0913, PLR0917 - the seam where all parts meet
    config: RunConfig,
    task: Task,
    data: Data,
    folder: RunFolder,
    states: StateStore,
    book: Book,
    plan: Plan,
    combine: Aggregation,
    server_key: PrivateKey,
    hooks: Hooks,
    clock: Clock,
) -> Callable[[Fleet], Coordinator]:
    def make(fleet: Fleet) -> Coordinator:
        return Coordinator(
            plan=plan,
            initial=models.initial(task.model, config.seed),
            book=book,
            sealer=Sealer(plan.run, book, server_key, folder.audit, clock, hooks.server),
            states=states,
            fleet=fleet,
            key=server_key,
            aggregation=combine,
            score=lambda params: scoring.score(task, params, data.test),
            dice=lambda round_: noise.seeded(config.seed, "cohort", round_),
            clock=clock,
            reached=hooks.server,
        )

    return make


def _client_dice(config: RunConfig) -> Callable[[ClientId, str, int], Dice]:
    """Return the source of a job's randomness: in production the operating system's, in a simulation the seed's.

    The run's name is no part of the seed's labels, so the same seed gives the same model in every run.
    """
    if config.privacy.noise == "secure":
        return lambda _client, _work, _round: noise.secure()
    return lambda client, work, round_: noise.seeded(config.seed, client, work, round_)


def _generator(seed: int, *labels: str) -> Generator:
    return np.random.default_rng(int.from_bytes(noise.seeded(seed, *labels).draw(16), "big"))


def _kept(path: Path, passphrase: str | None) -> PrivateKey:
    if not path.exists():
        save_private(generate(os.urandom), path, passphrase)
    return load_private(path, passphrase)


def permitted(site: Site, purpose: str) -> NDArray[np.int64]:
    """Return which of a site's training records may be read now, and can be learned from."""
    records = site.training.records
    verdicts = site.permissions.judge(records.subjects, purpose, site.machine.clock())
    return np.flatnonzero(verdicts.admitted & records.usable).astype(np.int64)
