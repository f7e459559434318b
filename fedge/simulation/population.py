"""A simulated client: a folder of its own, with keys, permissions, a ledger and records.

What a client is does not depend on the run: its folder may outlive it (`population.home`), and then its keys, the
permissions given to it and the budget spent are those of the runs before. What is drawn is drawn from the seed: who
holds which record, who refused. What must be secret is not: keys and pseudonyms come from the operating system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedge.audit.leaves import Dataset
from fedge.audit.witness import Witness
from fedge.consent.store import PermissionStore
from fedge.encoding import Clock, timestamp
from fedge.errors import StorageError
from fedge.files import write_atomically
from fedge.ids import ClientId, Lineage, SubjectId, client_id
from fedge.journal import Journal
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
from fedge.rounds.folder import ClientFolder, PackedFolder
from fedge.rounds.keys import ClientKey, DerivedKey
from fedge.rounds.secure.sessions import Sessions
from fedge.rounds.site import Holding, Machine, Reached, Server, Site, passed
from fedge.signing import PrivateKey, RandomBytes, generate, load_private, save_private
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
    """What all simulated clients share: the task, the server they work for, the seeds, and a machine for each.

    `passphrase` opens their key files.
    """

    task: Task
    server: Server
    machine: Callable[[str], Machine]
    rng: Callable[[str, str], Generator]
    dice: Callable[[ClientId, str, int], Dice]
    reached: Callable[[ClientId], Reached] = lambda _client: passed
    on_read: Callable[[ClientId], OnRead | None] = lambda _client: None
    passphrase: str | None = field(default=None, repr=False)

    @cached_property
    def task_digest(self) -> str:
        """The digest of the task that all clients have approved."""
        return self.task.digest()


@dataclass(frozen=True)
class Introduced:
    """What of a simulated client the server sees, without the rest of it (`rounds.site.Face`)."""

    client: ClientId
    organisation: str
    key: PrivateKey
    witness: Witness
    server: Server


def introduced(world: World, name: str, organisation: str, folder: PackedFolder) -> Introduced:
    """Return the face of client `name` of a packed population."""
    keys, witness = _keys(world, world.machine(name), name, folder, folder.journal("pins"))
    return Introduced(client_id(name), organisation, keys.current, witness, world.server)


def site(
    world: World,
    owner: Owner,
    name: str,
    organisation: str,
    records: Records,
    folder: ClientFolder,
    receipts: Path | None,
) -> Site:
    """Return client `name`, which holds `records`; what its folder already holds is kept.

    An erasure that a crash has cut off is finished first. Whoever is erased stays out, though the public data still
    hold them; their records are left out after the split, so that everybody else is where they were.
    """
    client = client_id(name)
    machine = world.machine(name)
    stores = erasure.open_stores(folder, _secret(folder, machine.random_bytes), machine.random_bytes)
    erasure.finish(stores, machine.clock)
    known = dict(zip(records.subjects, stores.subjects.enrol(records.subjects), strict=True))
    parts = held_back(records, owner.evaluation_share, world.rng("evaluation", name))
    training, evaluation = (_present(part, known) for part in parts)
    everyone = _present(records, known).subjects
    holdings = [
        _holding(world, machine.clock, lineage, part, stores, owner.facts)
        for lineage, part in ((_lineage(world.task, client), training), (_evaluation(world.task, client), evaluation))
    ]
    keys, witness = _keys(world, machine, name, folder, stores.pins)
    return Site(
        client=client,
        organisation=organisation,
        keys=keys,
        subjects=stores.subjects,
        approvals=stores.approvals,
        witness=witness,
        server=world.server,
        task=world.task,
        task_digest=world.task_digest,
        training=holdings[0],
        evaluation=holdings[1],
        permissions=_permissions(world, owner, name, everyone, stores, machine.clock()),
        ledger=_ledger(world, owner, client, folder, machine.clock()),
        policy=owner.policy,
        memory=stores.memory,
        sessions=Sessions(folder.sessions),
        findings=Findings(stores.pins.beside("findings")),
        dice=lambda work, round_: world.dice(client, work, round_),
        machine=machine,
        receipts=receipts,
        faults=folder.faults,
        reached=world.reached(client),
        on_read=world.on_read(client),
    )


def held_back(records: Records, share: float, rng: Generator) -> tuple[Records, Records]:
    """Return the records to train on, and those that are only ever evaluated on; nobody has records in both."""
    people = {name: number for number, name in enumerate(dict.fromkeys(records.subjects))}
    order: NDArray[np.int64] = rng.permutation(len(people)).astype(np.int64)
    chosen = np.zeros(len(people), dtype=np.bool_)
    chosen[order[: round(share * len(people))]] = True
    held = chosen[np.asarray([people[name] for name in records.subjects], dtype=np.int64)]
    return records.take(np.flatnonzero(~held)), records.take(np.flatnonzero(held))


def _present(records: Records, known: Mapping[str, SubjectId | None]) -> Records:
    """Return the records of people who are not erased, under their pseudonyms."""
    names = [known[person] for person in records.subjects]
    here = records.take(np.asarray([i for i, name in enumerate(names) if name is not None], dtype=np.int64))
    return replace(here, subjects=tuple(name for name in names if name is not None))


def _holding(
    world: World, clock: Clock, lineage: Lineage, records: Records, stores: Stores, facts: frozenset[str]
) -> Holding:
    """Return a data set; simulated owners approve it when they first see it, and never again."""
    found = cohort(lineage, records, stores.subjects)
    if stores.approvals.approved(lineage) is None:
        stores.approvals.approve(found, timestamp(clock()))
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


def _permissions(
    world: World, owner: Owner, name: str, everyone: tuple[str, ...], stores: Stores, now: datetime
) -> PermissionStore:
    if stores.events.size() == 0:
        rng = world.rng("consent", name)
        stores.permissions.append(permissions.drawn(everyone, owner.ground, owner.shares, owner.purpose, now, rng))
    return stores.permissions


def _ledger(world: World, owner: Owner, client: ClientId, folder: ClientFolder, now: datetime) -> Ledger:
    ledger = Ledger(folder.journal("spends"))
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


def _keys(world: World, machine: Machine, name: str, folder: ClientFolder, pins: Journal) -> tuple[ClientKey, Witness]:
    """Return the client's own key and its witness; new keys are made where none lie."""
    if isinstance(folder, PackedFolder):
        keys: ClientKey = DerivedKey(PrivateKey(folder.derived("client")))
        witness_key = PrivateKey(folder.derived("witness"))
    else:
        keys = ClientKey(_kept_key(folder.key, machine.random_bytes, world.passphrase), world.passphrase)
        kept = _kept_key(folder.witness_key, machine.random_bytes, world.passphrase)
        witness_key = load_private(kept, world.passphrase)
    return keys, Witness(f"{name}-witness", witness_key, pins, machine.clock)


def _kept_key(path: Path, random_bytes: RandomBytes, passphrase: str | None) -> Path:
    if not path.exists():
        save_private(generate(random_bytes), path, passphrase)
    return path


def _secret(folder: ClientFolder, random_bytes: RandomBytes) -> bytes:
    if not isinstance(folder, PackedFolder) and not folder.secret.exists():
        write_atomically(folder.secret, random_bytes(32), mode=0o600)
    secret = folder.read_secret()
    if len(secret) != 32:
        raise StorageError(
            f"{folder.secret} is damaged: a pseudonym key has 32 bytes; restore it, pseudonyms depend on it"
        )
    return secret
