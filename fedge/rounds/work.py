"""What a client does with an order it has taken up: admit, learn, settle, state it; whatever it is that leaves.

    prepare → admit (the spend is durable) → compute → settle → say

Order of effect 1, consent before touch: only `learning.loader.Loader` reads records, and it asks the permission
store at that moment. Order of effect 2, spend before send: nothing computed from data exists before `admit` has
reserved its spend. What is said is the client's own log entry, durable before it is sent.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedge import params as parameters
from fedge.audit.leaves import decode
from fedge.encoding import digest
from fedge.errors import DataError, FedgeError, RoundError
from fedge.learning.loader import Loader
from fedge.params import Params
from fedge.privacy.events import NonPrivate
from fedge.rounds.admission import Admitted, Refused, admit
from fedge.rounds.job import Job
from fedge.rounds.lineage import includes, known_models
from fedge.rounds.memory import Answer, indices
from fedge.rounds.messages import Parcel, WorkOrder, only_statement, read
from fedge.rounds.site import Site
from fedge.rounds.statement import (
    MODELS_NAMED,
    Begun,
    Result,
    data_use,
    erasure,
    repeated_mark,
    repeated_subjects,
    rotation,
    size_in_bytes,
    subject_commitment,
    withdrawal,
)

Compute = Callable[[Job, Loader], Params]
"""From permitted records to the tensors that leave."""


@dataclass(frozen=True)
class Taken:
    """An order that a client has taken up: its spend is durable, and nothing is computed yet.

    `loader` is the way to the records that were admitted.
    """

    site: Site
    order: WorkOrder
    model: Params
    begun: Begun
    admitted: Admitted
    loader: Loader


def read_order(site: Site, parcel: Parcel) -> WorkOrder:
    """Return the order in `parcel`. Raises RoundError if it is not for this client, SignatureError, ParseError."""
    order = read(WorkOrder, only_statement(parcel), site.server.key)
    if order.client != site.client:
        raise RoundError(f"the order is for {order.client}, this is {site.client}")
    return order


def check_model(model: str, tensors: Params) -> None:
    """Raise RoundError unless `tensors` have the digest `model`."""
    if model != parameters.digest(tensors):
        raise RoundError("the model beside the order is not the one that the order names")


def again(site: Site, order: WorkOrder) -> Parcel | None:
    """Return the answer already given to this very order, unless somebody in it has withdrawn since.

    Sending the same bytes twice discloses nothing new, so it costs nothing and touches nothing.
    """
    known = site.memory.answer_to(order.run, order.substance)
    if known is None or known.tensors is None:  # a refusal is judged anew: its reason may be gone
        return None
    tensors = site.memory.tensors_of(known)
    if tensors is None or not still_permitted(site, order, indices(known.used)):
        return None
    return handed_in(site, order, tensors)


def attempt_of(answer: Answer) -> int:
    """Return which attempt at its round a statement about an order speaks of."""
    return int(getattr(decode(answer.leaf_bytes)[0], "attempt", 0))


def carry_out(site: Site, order: WorkOrder, model: Params, compute: Compute) -> Parcel:
    """Do what `order` asks, or refuse, and return the client's answer; `compute` makes what leaves, once admitted."""
    taken = take_up(site, order, model)
    return taken if isinstance(taken, Parcel) else settle(taken, learned(taken, compute))


def take_up(site: Site, order: WorkOrder, model: Params) -> Taken | Parcel:
    """Judge `order` and reserve its spend, or return the refusal. Whoever learns does so once this is durable."""
    begun = prepare(site, order, model)
    try:
        admitted = admit(site, order, begun.at)
    except Refused as refusal:
        return refused(site, order, begun, refusal)
    return Taken(site, order, model, begun, admitted, loader_for(site, order, admitted))


def settle(taken: Taken, result: Result) -> Parcel:
    """Look once more who permits it, state how the order ended, and return the answer."""
    site, order = taken.site, taken.order
    said = settled(site, order, result)
    site.reached("learned")
    return committed(site, order, taken.admitted, said, taken.begun)


def prepare(site: Site, order: WorkOrder, model: Params) -> Begun:
    """Note when work on an order begins, and state what has to be stated before it."""
    begun = Begun(site.machine.clock(), site.machine.cpu_seconds(), size_in_bytes(model))
    _change_key(site, order, begun)
    _state_withdrawals(site, order, begun)
    _state_erasures(site, order, begun)
    return begun


def refused(site: Site, order: WorkOrder, begun: Begun, refusal: Refused) -> Parcel:
    """State that the order is refused, and why."""
    if refusal.detail:
        keep_fault(site, refusal.detail)
    return _say(site, order, Result("refused", refusal.reason, verdicts=refusal.verdicts), begun)[1]


def committed(site: Site, order: WorkOrder, admitted: Admitted, result: Result, begun: Begun) -> Parcel:
    """State how the order ended, and note in the ledger that what was reserved is done."""
    _state_repeated_subjects(site, order, admitted, begun)
    statement, parcel = _say(site, order, result, begun)
    site.ledger.commit(admitted.reservation, digest(statement.leaf_bytes), site.machine.clock())
    site.reached("committed")
    return parcel


# ---- learn: from permitted records to what may leave ------------------------------------------------------------


def learned(taken: Taken, compute: Compute) -> Result:
    """Carry out the job; a fault in the task's own code is an outcome, not a crash of the client.

    Its traceback may quote data, so it stays with the client.
    """
    site, admitted, loader = taken.site, taken.admitted, taken.loader
    site.reached("reserved")
    try:
        tensors = _finite(compute(admitted.job, loader))
    except FedgeError as error:
        return _failed(site, admitted, loader, type(error).__name__.removesuffix("Error").lower())
    except Exception:  # noqa: BLE001 - a Task is the user's code and may raise anything
        return _failed(site, admitted, loader, "task_error")
    said = outcome(admitted, loader.touched, loader.dropped)
    return replace(said, outcome="submitted", tensors=tensors, update=parameters.digest(tensors))


def loader_for(site: Site, order: WorkOrder, admitted: Admitted) -> Loader:
    """Return the reader of the admitted records, which asks for permission at every read."""
    records = admitted.holding.records
    gate = site.permissions.gate(records.subjects, admitted.holding.request(order.purpose), site.machine.clock)
    return Loader(records, admitted.eligible, gate, site.on_read)


def _finite(tensors: Params) -> Params:
    if not all(np.isfinite(array).all() for array in tensors.values()):
        raise DataError("the result holds numbers that are not finite")
    return tensors


def _failed(site: Site, admitted: Admitted, loader: Loader, reason: str) -> Result:
    keep_traceback(site)
    return replace(outcome(admitted, loader.touched, loader.dropped), reason=reason)


def outcome(admitted: Admitted, used: NDArray[np.int64], dropped: int = 0) -> Result:
    """Return what is true of a job whatever came of it; the caller says the rest with `replace`.

    `dropped` of the records that were read added nothing, because their gradients were not finite.
    """
    unusable = dropped + int(np.count_nonzero(admitted.verdicts.admitted & ~admitted.holding.records.usable))
    return Result(
        outcome="failed",
        reason=None,
        verdicts=admitted.verdicts,
        unusable=unusable,
        pool=admitted.eligible,
        used=used,
        job=admitted.job,
        snapshot=admitted.snapshot,
    )


def keep_traceback(site: Site) -> None:
    """Keep the present traceback where only the owner of the data looks."""
    keep_fault(site, traceback.format_exc())


def keep_fault(site: Site, text: str) -> None:
    """Keep what went wrong where only the owner of the data looks."""
    site.faults.parent.mkdir(parents=True, exist_ok=True)
    with site.faults.open("a", encoding="utf-8") as file:
        file.write(f"{site.machine.clock().isoformat()}\n{text}\n")


# ---- settle: look once more, state it, remember it, send it -----------------------------------------------------


def settled(site: Site, order: WorkOrder, result: Result) -> Result:
    """Return `result`, without its tensors if somebody in it has withdrawn while it was computed."""
    if result.outcome != "submitted" or still_permitted(site, order, result.used):
        return result
    return replace(result, outcome="skipped", reason="withdrawn_in_flight", tensors=None, update=None)


def handed_in(site: Site, order: WorkOrder, tensors: Params) -> Parcel:
    """Return all statements that the server has not yet proved to have logged, and the tensors of the last."""
    return Parcel(tuple(a.leaf_bytes for a in site.memory.unreceipted(order.run)), tensors)


def _say(site: Site, order: WorkOrder, result: Result, begun: Begun) -> tuple[Answer, Parcel]:
    statement = data_use(site, order, result, begun)
    site.memory.keep(statement, result.tensors)
    site.reached("kept")
    return statement, handed_in(site, order, result.tensors or {})


def _change_key(site: Site, order: WorkOrder, begun: Begun) -> None:
    """Change to the key that the owner wants, if any: stated in every run first (see `rounds.keys`), then in place."""
    fresh = site.keys.wanted()
    if fresh is None:
        return
    for run in dict.fromkeys([*site.memory.runs(), order.run]):
        if site.memory.answer_to(run, fresh.public.text) is None:
            round_ = order.round if run == order.run else site.memory.statement(run, site.memory.count(run) - 1).round
            site.memory.keep(rotation(site, run, round_, fresh.public, begun.at), None)
    site.reached("rotated")
    site.keys.switch()


def _state_withdrawals(site: Site, order: WorkOrder, begun: Begun) -> None:
    """State every withdrawal since the client's first statement in this run, once."""
    if not site.memory.count(order.run):
        return
    withdrawals = site.permissions.withdrawals()
    if not withdrawals:
        return
    first = decode(site.memory.statement(order.run, 0).leaf_bytes)[0].at
    everyone = {*site.training.records.subjects, *site.evaluation.records.subjects}
    people = everyone - site.subjects.gone()  # of an erased person only the erasure is stated
    for event in withdrawals:
        if event.subject not in people or event.recorded_at < first:
            continue
        if site.memory.answer_to(order.run, subject_commitment(site, order.run, event)) is None:
            site.memory.keep(withdrawal(site, order, event, begun.at), None)


def _state_repeated_subjects(site: Site, order: WorkOrder, admitted: Admitted, begun: Begun) -> None:
    """State once in a run, beside the epsilons for a record, that people own several of the records they speak of."""
    event, holding = admitted.job.event, admitted.holding
    if isinstance(event, NonPrivate) or event.unit != "record":
        return
    owners = [holding.records.subjects[i] for i in admitted.eligible]
    if len(set(owners)) < len(owners) and site.memory.answer_to(order.run, repeated_mark(holding.lineage)) is None:
        site.memory.keep(repeated_subjects(site, order, begun.at), None)


def _state_erasures(site: Site, order: WorkOrder, begun: Begun) -> None:
    """State every erasure once in each run that used the person's records, or else in the next run that asks."""
    for done in site.subjects.erasures():
        stated = [run for run in site.memory.runs() if site.memory.answer_to(run, done.commitment)]
        if order.run in stated or (stated and order.run not in done.used):
            continue
        models = known_models(site.memory, done.used)
        first = done.used.get(order.run)
        if first is not None and includes(order.work, order.round, first):
            models = list(dict.fromkeys([*models, order.model]))
        site.memory.keep(erasure(site, order, done, tuple(models[-MODELS_NAMED:]), begun.at), None)


def still_permitted(site: Site, order: WorkOrder, used: NDArray[np.int64]) -> bool:
    """Return whether an update made of the records `used` may leave now."""
    if site.policy.withdrawn_in_flight == "finish":
        return True
    holding = site.holding(order.work)
    now = site.permissions.judge(holding.records.subjects, holding.request(order.purpose), site.machine.clock())
    return bool(now.admitted[used].all())
