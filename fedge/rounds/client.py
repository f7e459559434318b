"""The client: it belongs to the owner of the data, and judges every order before it touches a record.

    order → judge → admit → [reserve: the spend is durable] → learn → settle → answer

Order of effect 1, consent before touch: only `learning.loader.Loader` reads records, and it asks the permission
store at that moment. Order of effect 2, spend before send: the ledger reserves before learning begins, so that a
crash at any later line counts as spent. The answer is the client's own log entry, durable before it is sent.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedge import params as parameters
from fedge import policy as policies
from fedge.audit.witness import Witness
from fedge.consent.grants import Verdicts
from fedge.consent.store import PermissionStore
from fedge.encoding import Clock, canonical, digest, moment
from fedge.errors import BudgetError, FedgeError, PrivacyError, RoundError
from fedge.ids import ClientId, Lineage
from fedge.learning.loader import Loader
from fedge.learning.task import Records, Task
from fedge.params import Params
from fedge.policy import ClientPolicy
from fedge.privacy.budget import Budget
from fedge.privacy.ledger import Ledger, Reservation
from fedge.privacy.noise import Dice
from fedge.rounds import statement
from fedge.rounds.job import Job, job_of
from fedge.rounds.memory import Answer, Memory, bitmap, indices
from fedge.rounds.messages import Enrolment, Hello, Kind, Parcel, WorkOrder, only_statement, read, sign
from fedge.rounds.statement import Refused
from fedge.rounds.vouch import vouch
from fedge.signing import PrivateKey, PublicKey

Reached = Callable[[str], None]
"""Called at the lines where a crash matters, with their name; does nothing unless a test wants to die there."""


def passed(_step: str) -> None:
    """Do nothing: the Reached of everyone but a crash test."""


@dataclass(frozen=True)
class Site:
    """Everything that the owner of the data holds and decides; handed in, never looked up.

    `dice` makes the source of all randomness of one job from its labels; `server` is the one server it works for.
    """

    client: ClientId
    organisation: str
    key: PrivateKey
    witness: Witness
    server: PublicKey
    task: Task
    task_digest: str
    training: Records
    evaluation: Records
    lineage: Lineage
    commitment: str
    permissions: PermissionStore
    ledger: Ledger
    budget: Budget
    policy: ClientPolicy
    memory: Memory
    dice: Callable[[str, int], Dice]
    clock: Clock
    receipts: Path
    faults: Path
    reached: Reached = passed


@dataclass(frozen=True)
class Admitted:
    """An order that may be carried out: on which records, at what spend, which is durable already."""

    job: Job
    eligible: NDArray[np.int64]
    verdicts: Verdicts
    snapshot: str
    reservation: Reservation
    started: datetime


def answer(site: Site, kind: Kind, parcel: Parcel) -> Parcel:
    """Return the client's answer to a parcel of the server.

    Raises SignatureError, ParseError or RoundError for what is not an order of this client's server at all: such
    a message deserves no statement, and the carrier turns it into silence.
    """
    if kind == "hello":
        return _introduce(site, read(Hello, only_statement(parcel), site.server))
    if kind == "seal":
        return vouch(site.witness, site.memory, site.client, site.key, site.server, site.receipts, parcel)
    order = read(WorkOrder, only_statement(parcel), site.server)
    if order.client != site.client:
        raise RoundError(f"the order is for {order.client}, this is {site.client}")
    if order.model != parameters.digest(parcel.tensors):
        raise RoundError("the model beside the order is not the one that the order names")
    return _again(site, order) or _work(site, order, parcel.tensors)


def _introduce(site: Site, hello: Hello) -> Parcel:
    del hello
    enrolment = Enrolment(site.client, site.key.public.text, site.witness.vkey, site.organisation)
    return Parcel((sign(enrolment, site.key),))


def _again(site: Site, order: WorkOrder) -> Parcel | None:
    """Return the answer already given to this very order, unless somebody in it has withdrawn since.

    Sending the same bytes twice discloses nothing new, so it costs nothing and touches nothing.
    """
    known = site.memory.answer_to(order.run, order.substance)
    if known is None:
        return None
    tensors = site.memory.tensors_of(known)
    if tensors is None or not _still_permitted(site, order, indices(known.used)):
        return None
    return Parcel(_unlogged(site, order), tensors)


def _work(site: Site, order: WorkOrder, model: Params) -> Parcel:
    started = site.clock()
    try:
        admitted = admit(site, order, started)
    except Refused as refusal:
        return _settle_refusal(site, order, refusal, started)
    site.reached("reserved")
    return _settle(site, order, admitted, *_learn(site, order, model, admitted))


# ---- judge and admit -------------------------------------------------------------------------------------------


def admit(site: Site, order: WorkOrder, now: datetime) -> Admitted:
    """Return what the order may do, with its spend reserved; raise Refused with the reason otherwise.

    The order of the checks: freshness and replay, task, purpose and consent, budget, policy, reservation.
    """
    _check_fresh(site, order, now)
    job = job_of(order.work, order.recipe, site.training, site.evaluation, site.lineage, site.task)
    state = site.permissions.state()
    verdicts = state.judge(job.records.subjects, order.purpose, now)
    eligible = np.flatnonzero(verdicts.admitted & job.records.usable)
    if len(eligible) < max(1, site.policy.minimum_records):
        raise Refused("no_permitted_record", verdicts)
    event, spent = job.event, site.ledger.spent(job.lineage)
    _check_policy(site, order, job, spent)
    snapshot = site.permissions.snapshot_digest()
    # A repeat of the same job on the same data with the same dice is the same release: it is spent once.
    key = digest(canonical([order.substance, snapshot, site.commitment, digest(eligible.tobytes())]))
    dice = site.dice(order.work, order.round)
    try:
        reservation = site.ledger.reserve(
            job.lineage, key, event, now, randomness=dice.name if not dice.secure else None, budget=site.budget
        )
    except BudgetError as error:
        raise Refused("budget_exhausted", verdicts) from error
    return Admitted(job, eligible, verdicts, snapshot, reservation, now)
