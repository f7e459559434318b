"""Admission: a client judges an order before it touches a record, and makes the spend durable.

    freshness, replay → the server's log → task → cohort → purpose → consent → policy → budget and reservation

Order of effect 2, spend before send, begins here: `reserve` is durable before learning begins, so that a crash at any
later line counts as spent. Budget and reservation are one step, in one transaction, so that two processes cannot both
be told that there is enough; hence the policy comes before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fedge.consent.purposes import purpose
from fedge.consent.verdicts import Verdicts
from fedge.encoding import canonical, digest, moment, timestamp
from fedge.errors import (
    BudgetError,
    FedgeError,
    LedgerError,
    ParseError,
    PermissionRecordError,
    RoundError,
    ScheduleError,
    StorageError,
)
from fedge.policy import Facts, rule_of
from fedge.privacy.ledger import Head, Reservation
from fedge.rounds.approval import changes
from fedge.rounds.job import Job, job_of
from fedge.rounds.messages import WorkOrder
from fedge.rounds.site import Holding, Site

CLOCK_SKEW = timedelta(minutes=5)


class Refused(FedgeError):
    """The client will not carry out an order; `reason` is the code for the log, `detail` for the owner alone."""

    def __init__(self, reason: str, verdicts: Verdicts | None = None, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.verdicts, self.detail = reason, verdicts, detail


@dataclass(frozen=True)
class Admitted:
    """An order that may be carried out: on which records, at what spend, which is durable already."""

    job: Job
    holding: Holding
    eligible: NDArray[np.int64]
    verdicts: Verdicts
    snapshot: str
    reservation: Reservation


@dataclass(frozen=True)
class Examined:
    """An order that may be carried out as things stand; `key` names the very release, if that is `repeatable`."""

    job: Job
    holding: Holding
    eligible: NDArray[np.int64]
    verdicts: Verdicts
    snapshot: str
    key: str
    repeatable: bool


def admit(site: Site, order: WorkOrder, now: datetime) -> Admitted:
    """Return what the order may do, with its spend reserved; raise Refused with the reason otherwise."""
    found = examine(site, order, now)
    with _refusing(found.verdicts):
        lineage, event, repeatable = found.holding.lineage, found.job.event, found.repeatable
        reservation = site.ledger.reserve(lineage, found.key, event, now, repeatable=repeatable, plan=order.run)
    return Admitted(found.job, found.holding, found.eligible, found.verdicts, found.snapshot, reservation)


def examine(site: Site, order: WorkOrder, now: datetime) -> Examined:
    """Return what the order may do as things stand, nothing reserved yet; raise Refused with the reason otherwise."""
    _check_fresh(site, order, now)
    _check_log(site, order)
    holding, job = site.holding(order.work), _job(site, order)
    _check_cohort(site, holding, now)
    _check_rested(site, order, job)
    verdicts, snapshot = judged(site, order, holding, now)
    eligible = np.flatnonzero(verdicts.admitted & holding.records.usable).astype(np.int64)
    if len(eligible) == 0:
        raise Refused("no_permitted_record", verdicts)
    with _refusing(verdicts):
        _check_ledger_is_latest(site, order)
        _check_policy(site, order, job, holding, len(eligible), now)
        # The same job on the same data with the same dice is the same release: the key binds all of them.
        key = digest(canonical([order.substance, snapshot, holding.dataset.commitment, digest(eligible.tobytes())]))
        repeatable = not site.dice(order.work, order.round).secure
        site.ledger.check(holding.lineage, key, job.event, now, repeatable=repeatable, plan=order.run)
    return Examined(job, holding, eligible, verdicts, snapshot, key, repeatable)


@contextmanager
def _refusing(verdicts: Verdicts) -> Iterator[None]:
    """Turn what the ledger and the policy say into a Refused that knows the verdicts."""
    try:
        yield
    except Refused as refusal:
        raise Refused(refusal.reason, verdicts) from refusal
    except ScheduleError as error:
        raise Refused("schedule_changed", verdicts) from error
    except BudgetError as error:
        raise Refused("budget_exhausted", verdicts) from error
    except LedgerError as error:
        raise Refused("ledger_unreadable", verdicts) from error


def _check_fresh(site: Site, order: WorkOrder, now: datetime) -> None:
    if not moment(order.issued) - CLOCK_SKEW <= now <= moment(order.expires):
        raise Refused("order_expired")
    highest, answered = site.memory.latest(order.run, order.work)
    if highest > order.round:
        raise Refused("replayed_order")
    if highest == order.round and answered != {order.substance}:
        raise Refused("conflicting_order")


def secure_noise(site: Site, order: WorkOrder, job: Job) -> bool:
    """Return whether the noise comes from an operating system: this client's dice, or by the server's word its own."""
    if job.server_noise and job.recipe is not None and job.recipe.client is not None:
        return job.recipe.client.secure
    return site.dice(order.work, order.round).secure


def _check_rested(site: Site, order: WorkOrder, job: Job) -> None:
    """Refuse to take part sooner after the last time than the correlated noise is made for."""
    if job.recipe is None or job.recipe.client is None or job.recipe.client.separation == 1:
        return  # before all answers are read, which grow with the rounds
    gone = [a.round for a in site.memory.answers(order.run) if a.work == "train" and a.tensors is not None]
    if any(0 < order.round - round_ < job.recipe.client.separation for round_ in gone):
        raise Refused("asked_too_soon")


def _check_log(site: Site, order: WorkOrder) -> None:
    """Refuse to work for a server whose log was rewritten, or leaves out what this client has stated."""
    if site.findings.against(order.run):
        raise Refused("log_rewritten")
    if site.memory.overdue(order.run, order.round):
        raise Refused("statement_not_logged")


def _job(site: Site, order: WorkOrder) -> Job:
    if (order.task, order.task_digest) != (site.task.name, site.task_digest):
        raise Refused("task_mismatch")
    try:
        return job_of(order)
    except ParseError as error:
        raise Refused("unknown_recipe") from error


def _check_cohort(site: Site, holding: Holding, now: datetime) -> None:
    """Refuse if the records are not the ones that their owner has approved; what was found is kept for the owner."""
    found, approved = holding.cohort, site.approvals.approved(holding.lineage)
    if site.approvals.stands(found):
        return
    site.approvals.note(found, timestamp(now))
    differ = (
        "nothing was approved" if approved is None else f"{approved.root} was approved ({changes(approved, found)})"
    )
    raise Refused(
        "cohort_drift",
        detail=f"cohort_drift: the records of {holding.lineage} are {found.root}, {differ}; nothing is read until "
        f"their owner approves them anew: fedge approve {site.faults.parent}",
    )


def judged(site: Site, order: WorkOrder, holding: Holding, now: datetime) -> tuple[Verdicts, str]:
    """Return a verdict per record and the digest of the permission records that they rest on."""
    try:
        purpose(order.purpose)
    except PermissionRecordError as error:
        raise Refused("unknown_purpose") from error
    try:
        verdicts = site.permissions.judge(holding.records.subjects, holding.request(order.purpose), now)
    except (PermissionRecordError, StorageError, ParseError) as error:
        raise Refused("permission_unreadable") from error  # fail closed
    return verdicts, site.permissions.last_digest  # of what was judged; asking anew could find more than that


def _check_policy(site: Site, order: WorkOrder, job: Job, holding: Holding, records: int, now: datetime) -> None:
    budget, verdict = site.ledger.budget(holding.lineage), site.ledger.judge(holding.lineage, job.event, now)
    if budget is None or verdict is None:
        raise Refused("no_budget")
    facts = Facts(
        task=order.task,
        purpose=order.purpose,
        cohort=order.cohort,
        records=records,
        noise_multiplier=job.noise_multiplier,
        clip_norm=job.clip_norm,
        epsilon_round=budget.cost([job.event]),
        epsilon_after=verdict.after,
        secure_noise=secure_noise(site, order, job),
        server_noise=job.server_noise,
    )
    said = rule_of(site.policy)(facts)
    if not said.allowed:
        raise Refused(said.code)
    if order.work == "train" and records < site.policy.minimum_records:
        raise Refused("too_few_records")


def _check_ledger_is_latest(site: Site, order: WorkOrder) -> None:
    """Refuse if the ledger is older than the one that the client's last statement named: a copy was put back."""
    stated = site.memory.stated_ledger(order.run)
    if stated is None:
        return
    size, _, hashed = stated.partition("@")
    if not size.isdecimal():
        raise RoundError(f"the client's own record names a ledger head {stated!r}")
    site.ledger.check_contains(Head(int(size), hashed))
