"""What a client says of one order, as its own log entry: signed, chained, and free of any raw value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from fedge.audit.counts import NONCE_BYTES
from fedge.audit.leaves import (
    DataUse,
    Digests,
    ErasureEffective,
    ExactCounts,
    KeyRotate,
    Permission,
    PrivacySpend,
    RepeatedSubjects,
    Resources,
    WithdrawalEffective,
    encode,
    publish,
)
from fedge.audit.parts import NoiseAt, Outcome
from fedge.consent.events import PermissionEvent
from fedge.consent.subjects import Erasure
from fedge.consent.verdicts import Verdicts
from fedge.encoding import b64encode, canonical, decimal, digest, timestamp, to_plain
from fedge.learning.recipe import ClientLevel
from fedge.params import Params
from fedge.policy import policy_digest
from fedge.privacy.accountant import STATEMENT
from fedge.privacy.budget import Budget, Schedule
from fedge.privacy.events import Gaussian, NonPrivate, SampledGaussian
from fedge.rounds.admission import secure_noise
from fedge.rounds.job import Job
from fedge.rounds.memory import Answer, bitmap
from fedge.rounds.messages import WorkOrder
from fedge.rounds.packing import format_of
from fedge.rounds.site import Holding, Site
from fedge.signing import PublicKey

ENGINE = "fedge-permissions/1"
_ACCOUNTANTS: dict[Schedule, str] = {"fixed": "dp-accounting-pld", "adaptive": "rdp-filter"}
MODELS_NAMED = 600
"""As many model versions as fit into one entry of the log; if there are more, the newest are named."""


def _nobody() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Result:
    """How an order ended at the client; `tensors` are what leaves, if anything.

    `pool` are the records that batches were drawn from, `used` those that were read; `sent` is how many bytes left
    before, if the tensors left one by one.
    """

    outcome: Outcome
    reason: str | None
    verdicts: Verdicts | None
    unusable: int = 0
    pool: NDArray[np.int64] = field(default_factory=_nobody)
    used: NDArray[np.int64] = field(default_factory=_nobody)
    tensors: Params | None = None
    update: str | None = None
    job: Job | None = None
    snapshot: str | None = None
    sent: int | None = None


@dataclass(frozen=True)
class Begun:
    """When the client took up an order, at what processor time, and how many bytes of tensors came with it."""

    at: datetime
    cpu_seconds: float
    bytes_in: int


class _Heading(TypedDict):
    """What every statement of a client begins with."""

    run: str
    at: str
    client: str
    key: str
    seq: int
    previous: str | None


def _heading(site: Site, run: str, at: datetime) -> _Heading:
    """Return the beginning of the client's next statement in `run`: whose it is, and where in the chain it stands."""
    return _Heading(
        run=run,
        at=timestamp(at),
        client=site.client,
        key=site.key.public.key_id,
        seq=site.memory.count(run),
        previous=site.memory.previous(run),
    )


def data_use(site: Site, order: WorkOrder, result: Result, begun: Begun) -> Answer:
    """Return the client's answer to `order`: a signed `data_use` entry and what opens its commitments."""
    holding, ended = site.holding(order.work), site.machine.clock()
    counts = _exact(holding, result)
    nonce = site.machine.random_bytes(NONCE_BYTES)
    head = site.ledger.head()
    leaf = DataUse(
        **_heading(site, order.run, ended),
        work=order.work,
        round=order.round,
        attempt=order.attempt,
        dataset=holding.dataset,
        counts=publish(counts, nonce),
        purpose=order.purpose,
        legal_bases=result.verdicts.legal_bases if result.verdicts is not None else (),
        permission=_permission(site, result, begun.at),
        model_in=order.model,
        update=result.update,
        format=format_of(order),
        privacy=_spend(site, order, holding, result, head.digest),
        secure_aggregation=order.terms is not None,
        digests=Digests(site.machine.code, order.config_digest),
        started=timestamp(begun.at),
        ended=timestamp(ended),
        resources=_resources(site, result, begun, ended),
        outcome=result.outcome,
        reason=result.reason,
        order=order.substance,
    )
    return Answer(
        run=order.run,
        work=order.work,
        round=order.round,
        seq=leaf.seq,
        substance=order.substance,
        leaf=b64encode(encode(leaf, site.key)),
        tensors=result.update,
        pool=bitmap(result.pool, len(holding.records)),
        used=bitmap(result.used, len(holding.records)),
        opening=b64encode(canonical({"counts": to_plain(counts), "nonce": b64encode(nonce)})),
        ledger=head.text,
    )


def withdrawal(site: Site, order: WorkOrder, event: PermissionEvent, now: datetime) -> Answer:
    """Return the client's entry that a withdrawal has taken effect, naming nobody."""
    commitment = subject_commitment(site, order.run, event)
    leaf = WithdrawalEffective(
        **_heading(site, order.run, now),
        subject_commitment=commitment,
        withdrawn_at=event.recorded_at,
        effective_at=timestamp(now),
        round=order.round,
    )
    return Answer(order.run, "withdrawal", order.round, leaf.seq, commitment, b64encode(encode(leaf, site.key)))


def repeated_subjects(site: Site, order: WorkOrder, now: datetime) -> Answer:
    """Return the client's entry that people own several of the records whose epsilon is that of one record."""
    lineage = site.holding(order.work).lineage
    leaf = RepeatedSubjects(**_heading(site, order.run, now), lineage=lineage, unit="record", round=order.round)
    mark = repeated_mark(lineage)
    return Answer(order.run, "repeated_subjects", order.round, leaf.seq, mark, b64encode(encode(leaf, site.key)))


def repeated_mark(lineage: str) -> str:
    """Return what the entry of `repeated_subjects` is remembered by, so that it is made once in a run."""
    return digest(canonical(["repeated_subjects", lineage]))


def erasure(site: Site, order: WorkOrder, done: Erasure, models: tuple[str, ...], now: datetime) -> Answer:
    """Return the client's entry that a person was erased, naming nobody, and the models that include them."""
    leaf = ErasureEffective(
        **_heading(site, order.run, now),
        subject_commitment=done.commitment,
        requested_at=done.requested_at,
        effective_at=done.effective_at,
        models=models,
    )
    return Answer(order.run, "erasure", order.round, leaf.seq, done.commitment, b64encode(encode(leaf, site.key)))


def rotation(site: Site, run: str, round_: int, fresh: PublicKey, now: datetime) -> Answer:
    """Return the client's last entry under its present key: `fresh` speaks for it from the next one on."""
    leaf = KeyRotate(
        **_heading(site, run, now),
        new_key=fresh.text,
        reason="owner",
    )
    return Answer(run, "rotation", round_, leaf.seq, fresh.text, b64encode(encode(leaf, site.key)))


def subject_commitment(site: Site, run: str, event: PermissionEvent) -> str:
    """Return a keyed digest of one withdrawal: unlinkable to a person once their own key is destroyed."""
    return site.subjects.commit(event.subject, f"withdrawal\n{run}\n{event.recorded_at}")


def _exact(holding: Holding, result: Result) -> ExactCounts:
    excluded = dict(result.verdicts.counts()) if result.verdicts is not None else {}
    if result.unusable:
        excluded["quality"] = result.unusable
    return ExactCounts(len(result.pool), len(result.used), excluded)


def _permission(site: Site, result: Result, started: datetime) -> Permission:
    snapshot = result.snapshot or site.permissions.last_digest
    return Permission(snapshot, timestamp(started), policy_digest(site.policy), ENGINE)


def _spend(site: Site, order: WorkOrder, holding: Holding, result: Result, ledger_head: str) -> PrivacySpend:
    """Return what this order cost and what its data set has cost in all; a refusal costs nothing."""
    budget = site.ledger.budget(holding.lineage)
    total = budget.cost(site.ledger.spent(holding.lineage)) if budget else None
    blank = PrivacySpend(
        mechanism="none",
        unit="none",
        adjacency=STATEMENT.adjacency.replace("/", "-"),
        accountant=_ACCOUNTANTS[budget.schedule if budget else "fixed"],
        sampling="none",
        sample_rate=None,
        noise_multiplier=None,
        clip_norm=None,
        steps=0,
        delta=decimal(budget.delta) if budget else None,
        epsilon_round=None,
        epsilon_total=decimal(total) if total is not None else None,
        budget_epsilon=decimal(budget.for_ever) if budget else None,
        secure_noise=False,
        noise_at="none",
        ledger_head=ledger_head,
    )
    if result.job is None or isinstance(result.job.event, NonPrivate):
        return blank
    return _with_mechanism(site, order, result.job, blank, budget)


def _with_mechanism(site: Site, order: WorkOrder, job: Job, blank: PrivacySpend, budget: Budget | None) -> PrivacySpend:
    return replace(
        blank,
        mechanism=_mechanism(job),
        unit=job.event.unit if isinstance(job.event, SampledGaussian | Gaussian) else "none",
        sampling="poisson" if isinstance(job.event, SampledGaussian) else "none",
        sample_rate=decimal(job.event.sample_rate) if isinstance(job.event, SampledGaussian) else None,
        noise_multiplier=decimal(job.noise_multiplier),
        clip_norm=decimal(job.clip_norm),
        steps=job.event.steps if isinstance(job.event, SampledGaussian | Gaussian) else 0,
        epsilon_round=decimal(budget.cost([job.event])) if budget else None,
        secure_noise=secure_noise(site, order, job),
        noise_at=_noise_at(order, job),
    )


def _noise_at(order: WorkOrder, job: Job) -> NoiseAt:
    if job.server_noise:
        return "server"
    return "distributed" if order.terms is not None and order.terms.noise == "distributed" else "client"


def _mechanism(job: Job) -> str:
    """Return the mechanism's name; with a clip norm that follows the data, `clip_norm` is the largest allowed."""
    sampled = "discrete-gaussian-sampled" if isinstance(job.event, SampledGaussian) else "discrete-gaussian"
    privacy = job.recipe.privacy or job.recipe.client if job.recipe is not None else None
    if isinstance(privacy, ClientLevel) and privacy.separation > 1:
        return f"{sampled}-banded"
    return sampled if privacy is None or privacy.adaptive is None else f"{sampled}-adaptive-clipping"


def _resources(site: Site, result: Result, begun: Begun, ended: datetime) -> Resources:
    return Resources(
        wall_ms=max(0, round((ended - begun.at).total_seconds() * 1000)),
        cpu_ms=max(0, round((site.machine.cpu_seconds() - begun.cpu_seconds) * 1000)),
        bytes_in=begun.bytes_in,
        bytes_out=size_in_bytes(result.tensors or {}) + (result.sent or 0),
        energy_mj=None,
        energy_source="none",
        device=site.machine.device,
    )


def size_in_bytes(tensors: Params) -> int:
    """Return the bytes of all arrays."""
    return sum(array.nbytes for array in tensors.values())
