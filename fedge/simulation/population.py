"""A simulated population: each client a folder of its own, with keys, permissions, a ledger and records.

What a client is does not depend on the run: its folder may outlive it (`population.home`), and then its keys, the
permissions given to it and the budget spent are those of the runs before. What is drawn is drawn from the seed: who
holds which record, who refused. What must be secret is not: keys and pseudonyms come from the operating system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedge.audit.leaves import Dataset
from fedge.audit.witness import Witness
from fedge.consent.store import PermissionStore
from fedge.consent.subjects import SubjectKeys
from fedge.encoding import timestamp
from fedge.errors import StorageError
from fedge.files import write_atomically
from fedge.ids import ClientId, Lineage, client_id
from fedge.journal import SqliteJournal
from fedge.learning.loader import OnRead
from fedge.learning.task import Records, Task
from fedge.policy import ClientPolicy
from fedge.privacy.budget import Budget
from fedge.privacy.ledger import Ledger
from fedge.privacy.noise import Dice
from fedge.rounds import erasure
from fedge.rounds.approval import cohort
from fedge.rounds.erasure import Stores
from fedge.rounds.findings import Findings
from fedge.rounds.folder import ClientFolder
from fedge.rounds.keys import ClientKey
from fedge.rounds.secure.sessions import Sessions
from fedge.rounds.site import Holding, Machine, Reached, Server, Site, passed
from fedge.signing import RandomBytes, generate, load_private, save_private
from fedge.simulation import permissions
from fedge.simulation.permissions import Ground, Shares


@dataclass(frozen=True)
class Owner:
    """What the owners of the data have decided, alike for all simulated clients but for `budgets`."""

    policy: ClientPolicy
    budget: Budget
    evaluation_budget: Budget
    budgets: Mapping[str, float]
    purpose: str
    ground: Ground
    shares: Shares
    facts: frozenset[str]
    evaluation_share: float


@dataclass(frozen=True)
class World:
    """What all simulated clients share: the task, the server they work for, the machine, the seeds.

    `passphrase` opens their key files.
    """

    task: Task
    server: Server
    machine: Machine
    rng: Callable[[str, str], Generator]
    dice: Callable[[ClientId, str, int], Dice]
    reached: Callable[[ClientId], Reached] = lambda _client: passed
    on_read: Callable[[ClientId], OnRead | None] = lambda _client: None
    passphrase: str | None = field(default=None, repr=False)


def site(world: World, owner: Owner, name: str, records: Records, folder: ClientFolder, receipts: Path) -> Site:
    """Return client `name`, which holds `records`; what its folder already holds is kept.

    An erasure that a crash has cut off is finished first. Whoever is erased stays out, though the public data still
    hold them; their records are left out after the split, so that everybody else is where they were.
    """
    client = client_id(name)
    random_bytes, clock = world.machine.random_bytes, world.machine.clock
    stores = erasure.open_stores(folder, _kept_secret(folder.secret, random_bytes), random_bytes)
    erasure.finish(stores, clock)
    training, evaluation = (
        _present(part, stores.subjects)
        for part in _held_back(records, owner.evaluation_share, world.rng("evaluation", name))
    )
    everyone = _present(records, stores.subjects).subjects
    holdings = [
        _holding(world, lineage, part, stores, owner.facts)
        for lineage, part in ((_lineage(world.task, client), training), (_evaluation(world.task, client), evaluation))
    ]
    witness_key = load_private(_kept_key(folder.witness_key, world), world.passphrase)
    return Site(
        client=client,
        organisation=name,
        keys=ClientKey(_kept_key(folder.key, world), world.passphrase),
        subjects=stores.subjects,
        approvals=stores.approvals,
        witness=Witness(f"{name}-witness", witness_key, stores.pins, clock),
        server=world.server,
        task=world.task,
        task_digest=world.task.digest(),
        training=holdings[0],
        evaluation=holdings[1],
        permissions=_permissions(world, owner, name, everyone, stores),
        ledger=_ledger(world, owner, client, folder),
        policy=owner.policy,
        memory=stores.memory,
        sessions=Sessions(folder.sessions),
        findings=Findings(stores.pins.beside("findings")),
        dice=lambda work, round_: world.dice(client, work, round_),
        machine=world.machine,
        receipts=receipts,
        faults=folder.faults,
        reached=world.reached(client),
        on_read=world.on_read(client),
    )


def _held_back(records: Records, share: float, rng: Generator) -> tuple[Records, Records]:
    """Return the records to train on, and those that are only ever evaluated on; nobody has records in both."""
    people = {name: number for number, name in enumerate(dict.fromkeys(records.subjects))}
    order: NDArray[np.int64] = rng.permutation(len(people)).astype(np.int64)
    chosen = np.zeros(len(people), dtype=np.bool_)
    chosen[order[: round(share * len(people))]] = True
    held = chosen[np.asarray([people[name] for name in records.subjects], dtype=np.int64)]
    return records.take(np.flatnonzero(~held)), records.take(np.flatnonzero(held))


def _present(records: Records, keys: SubjectKeys) -> Records:
    """Return the records of people who are not erased, under their pseudonyms."""
    names = keys.enrol(records.subjects)
    here = records.take(np.asarray([i for i, name in enumerate(names) if name is not None], dtype=np.int64))
    return replace(here, subjects=tuple(name for name in names if name is not None))


def _holding(world: World, lineage: Lineage, records: Records, stores: Stores, facts: frozenset[str]) -> Holding:
    """Return a data set; simulated owners approve it when they first see it, and never again."""
    found = cohort(lineage, records, stores.subjects)
    if stores.approvals.approved(lineage) is None:
        stores.approvals.approve(found, timestamp(world.machine.clock()))
    dataset = Dataset(
        lineage=lineage,
        commitment=found.root,
        version="1",
        schema_digest=records.schema_digest(),
        origin=f"simulation: a part of the public data set {world.task.name}",
        purpose_of_collection="care",
        period=None,
    )
    return Holding(records, found, dataset, facts=facts)


def _permissions(world: World, owner: Owner, name: str, everyone: tuple[str, ...], stores: Stores) -> PermissionStore:
    if stores.events.size() == 0:
        now, rng = world.machine.clock(), world.rng("consent", name)
        stores.permissions.append(permissions.drawn(everyone, owner.ground, owner.shares, owner.purpose, now, rng))
    return stores.permissions


def _ledger(world: World, owner: Owner, client: ClientId, folder: ClientFolder) -> Ledger:
    ledger = Ledger(SqliteJournal(folder.ledger, "spends"))
    now = world.machine.clock()
    own = owner.budgets.get(client)
    budget = owner.budget if own is None else replace(owner.budget, epsilon=own)
    for lineage, allowed in (
        (_lineage(world.task, client), budget),
        (_evaluation(world.task, client), owner.evaluation_budget),
    ):
        if ledger.budget(lineage) is None:
            ledger.set_budget(lineage, allowed, now)
    return ledger


def _lineage(task: Task, client: ClientId) -> Lineage:
    return Lineage(f"{task.name}/{client}")


def _evaluation(task: Task, client: ClientId) -> Lineage:
    return Lineage(f"{task.name}/{client}/evaluation")


def _kept_key(path: Path, world: World) -> Path:
    if not path.exists():
        save_private(generate(world.machine.random_bytes), path, world.passphrase)
    return path


def _kept_secret(path: Path, random_bytes: RandomBytes) -> bytes:
    if not path.exists():
        write_atomically(path, random_bytes(32), mode=0o600)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise StorageError(f"{path} is damaged: a pseudonym key has 32 bytes; restore it, pseudonyms depend on it")
    return secret
