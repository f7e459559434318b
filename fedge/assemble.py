"""From a configuration to the parts of a run: the one place that knows every room.

Nothing runs here. What is assembled are the sites (one per simulated client) and a function that makes the coordinator
once there is a fleet to hand it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedge import __version__, calibration, results, soundness
from fedge.audit.leaves import RunOpen
from fedge.audit.log import AuditLog
from fedge.calibration import recipe_of, statement_of, terms_of
from fedge.config import RunConfig, signable
from fedge.encoding import Clock, canonical, digest, timestamp, to_plain, utc_now
from fedge.errors import ConfigError
from fedge.flower.strategy import aggregation
from fedge.ids import ClientId, RunId, client_id
from fedge.learning import models, scoring
from fedge.learning.aggregation import Aggregation
from fedge.learning.central import Central
from fedge.learning.loader import OnRead
from fedge.learning.recipe import from_record, to_record
from fedge.learning.task import Data, Records, Task
from fedge.params import digest as digest_of
from fedge.privacy import noise
from fedge.privacy.budget import Budget
from fedge.privacy.events import Unit
from fedge.privacy.noise import Dice
from fedge.rounds.book import Book
from fedge.rounds.coordinator import Coordinator
from fedge.rounds.folder import RunFolder
from fedge.rounds.messages import Fleet
from fedge.rounds.plan import Plan
from fedge.rounds.sealing import Sealer
from fedge.rounds.site import Machine, Reached, Server, Site, passed
from fedge.rounds.state import StateStore
from fedge.signing import PASSPHRASE, PrivateKey, RandomBytes, generate, load_private, save_private
from fedge.simulation import partition
from fedge.simulation.permissions import Ground, Shares
from fedge.simulation.population import Owner, World
from fedge.simulation.sites import Holders, Sites
from fedge.storage import server_journal

FOLDERS = 200
"""Up to so many simulated clients have a folder each; more share packs, unless the configuration says otherwise."""


@dataclass(frozen=True)
class Hooks:
    """What tests and benchmarks look through: lines where a crash matters, and the records that are read.

    With `random_bytes`, `cpu_seconds` and a clock that stands, two runs are the same to the last byte of their logs;
    keys are then nobody's secret.
    """

    server: Reached = passed
    client: Callable[[ClientId], Reached] = lambda _client: passed
    on_read: Callable[[ClientId], OnRead | None] = lambda _client: None
    random_bytes: Callable[[str], RandomBytes] = lambda _party: os.urandom
    cpu_seconds: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Assembled:
    """A run, ready to start: `coordinator` makes it from a fleet."""

    config: RunConfig
    task: Task
    data: Data
    folder: RunFolder
    sites: Sites
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
    server_key, log_key = (
        _kept(folder.server / name, passphrase, hooks.random_bytes(name)) for name in ("server.key", "log.key")
    )
    code = code_digest()
    world = World(
        task=task,
        server=Server(server_key.public, log_key.public),
        machine=lambda party: Machine(clock, hooks.cpu_seconds, hooks.random_bytes(party), code),
        rng=lambda label, name: _generator(config.seed, label, name),
        dice=_client_dice(config),
        reached=hooks.client,
        on_read=hooks.on_read,
        passphrase=passphrase,
    )
    holders = Holders(
        records=data.train,
        parts=parts,
        home=Path(config.population.home) if config.population.home else folder.clients,
        receipts=folder.receipts_of,
        organisations=config.population.organisations,
        packed=_packed(config, len(parts)),
    )
    book = Book(AuditLog(server_journal(config.log, folder, run), f"fedge/{run}", log_key), server_key)
    book.log.check_not_behind(folder.audit)
    states = StateStore(folder.server, folder.root, config.keep_states)
    plan = _plan(config, task, run, book, states, server_key, clock, clients=len(parts))
    central = calibration.central_of(config, len(parts), from_record(dict(plan.recipe)))
    return Assembled(
        config=config,
        task=task,
        data=data,
        folder=folder,
        sites=Sites(world, owner_of(config), holders),
        book=book,
        plan=plan,
        evaluation_noise=calibration.evaluation_noise(config),
        coordinator=_coordinator(
            config, task, data, folder, states, book, plan, combine, server_key, hooks, clock, central
        ),
        server_key=server_key,
    )


def config_bytes(config: RunConfig) -> bytes:
    """Return the canonical bytes of `config`: what `config.json` holds and the first log entry names by digest."""
    return canonical(signable(to_plain(config)))


def code_digest() -> str:
    """Return the digest of fedge's own source files: which code ran."""
    package = Path(__file__).parent
    files = sorted(package.rglob("*.py"))
    return digest(b"".join(digest(f.read_bytes()).encode() + str(f.relative_to(package)).encode() for f in files))


def _packed(config: RunConfig, clients: int) -> bool:
    return clients > FOLDERS if config.population.packed is None else config.population.packed


def _parts(config: RunConfig, task: Task, train: Records) -> dict[ClientId, NDArray[np.int64]]:
    """Return which records each client holds, by the client's name."""
    population, rng = config.population, _generator(config.seed, "partition", "")
    if population.partition == "site":
        if train.sites is None:
            raise ConfigError(
                f"population.partition=site: task {task.name!r} has no sites; use iid, shares or dirichlet"
            )
        return {client_id(name): part for name, part in partition.by_site(train.sites).items()}
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
    return {client_id(f"{population.prefix}-{i:0{width}d}"): part for i, part in enumerate(parts, start=1)}


def owner_of(config: RunConfig) -> Owner:
    """Return what the simulated owners have decided."""
    private = config.privacy.unit != "none"
    epsilon = config.privacy.epsilon if private else math.inf
    unit: Unit = "record" if config.privacy.unit == "none" else config.privacy.unit
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
        privacy_statement=statement_of(config),
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
        terms=terms_of(config, clients, recipe),
    )


def _first_model(config: RunConfig, task: Task, states: StateStore) -> str:
    """Return the digest of the model that the run starts from: the seed's, or the state of the run it continues."""
    if config.continues is None:
        return digest_of(models.initial(task.model, config.seed))
    before = states.pending()
    if before is None or before.round != config.continues.round:
        raise ConfigError("continues: the state to start from is missing; it is `fedge unlearn` that starts such a run")
    return before.model


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
    central: Central | None,
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
            central=central,
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


def _kept(path: Path, passphrase: str | None, random_bytes: RandomBytes) -> PrivateKey:
    if not path.exists():
        save_private(generate(random_bytes), path, passphrase)
    return load_private(path, passphrase)


def permitted(site: Site, purpose: str) -> NDArray[np.int64]:
    """Return which of a site's training records may be read now, and can be learned from."""
    records = site.training.records
    verdicts = site.permissions.judge(records.subjects, purpose, site.machine.clock())
    return np.flatnonzero(verdicts.admitted & records.usable).astype(np.int64)
