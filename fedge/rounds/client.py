"""The client: it belongs to the owner of the data, and judges every order before it touches a record.

    order → admit (the spend is durable) → learn → settle → answer

Order of effect 1, consent before touch: only `learning.loader.Loader` reads records, and it asks the permission
store at that moment. Order of effect 2, spend before send: nothing computed from data exists before `admit` has
reserved its spend. The answer is the client's own log entry, durable before it is sent.
"""

from __future__ import annotations

import traceback
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedge import params as parameters
from fedge.audit.leaves import decode
from fedge.encoding import digest
from fedge.errors import DataError, FedgeError, RoundError
from fedge.learning.loader import Loader
from fedge.learning.scoring import correct
from fedge.learning.training import train
from fedge.params import Params
from fedge.rounds.admission import Admitted, Refused, admit
from fedge.rounds.job import COUNT_SENSITIVITY, Job
from fedge.rounds.lineage import includes, known_models
from fedge.rounds.memory import Answer, indices
from fedge.rounds.messages import (
    PUBLIC_SIZE,
    Enrolment,
    Hello,
    Kind,
    Parcel,
    WorkOrder,
    only_statement,
    read,
    sign,
)
from fedge.rounds.site import Site
from fedge.rounds.statement import (
    MODELS_NAMED,
    Begun,
    Result,
    data_use,
    erasure,
    rotation,
    size_in_bytes,
    subject_commitment,
    withdrawal,
)
from fedge.rounds.vouch import lay_out_receipts, vouch


def answer(site: Site, kind: Kind, parcel: Parcel) -> Parcel:
    """Return the client's answer to a parcel of the server.

    Raises SignatureError, ParseError or RoundError for what is not an order of this client's server at all: such
    a message deserves no statement, and the carrier turns it into silence. Why is in the client's own faults file.
    """
    try:
        return _answered(site, kind, parcel)
    except Exception:
        _keep_traceback(site)
        raise


def _answered(site: Site, kind: Kind, parcel: Parcel) -> Parcel:
    if kind == "hello":
        hello = read(Hello, only_statement(parcel), site.server.key)
        lay_out_receipts(site, hello.run, site.memory.receipts(hello.run))  # a power cut may have taken some away
        return Parcel((sign(_enrolment(site, hello), site.key),))
    if kind == "seal":
        return vouch(site, parcel)
    order = read(WorkOrder, only_statement(parcel), site.server.key)
    if order.client != site.client:
        raise RoundError(f"the order is for {order.client}, this is {site.client}")
    if order.model != parameters.digest(parcel.tensors):
        raise RoundError("the model beside the order is not the one that the order names")
    return _again(site, order) or _work(site, order, parcel.tensors)


def _enrolment(site: Site, hello: Hello) -> Enrolment:
    pin = site.witness.pinned(site.server.log_of(hello.run).name)
    return Enrolment(
        client=site.client,
        key=site.key.public.text,
        witness_key=site.witness.vkey.text,
        organisation=site.organisation,
        pinned=pin.note if pin else None,
    )


def _again(site: Site, order: WorkOrder) -> Parcel | None:
    """Return the answer already given to this very order, unless somebody in it has withdrawn since.

    Sending the same bytes twice discloses nothing new, so it costs nothing and touches nothing.
    """
    known = site.memory.answer_to(order.run, order.substance)
    if known is None or known.tensors is None:  # a refusal is judged anew: its reason may be gone
        return None
    tensors = site.memory.tensors_of(known)
    if tensors is None or not _still_permitted(site, order, indices(known.used)):
        return None
    return _parcel(site, order, tensors)


def _work(site: Site, order: WorkOrder, model: Params) -> Parcel:
    begun = Begun(site.machine.clock(), site.machine.cpu_seconds(), size_in_bytes(model))
    _change_key(site, order, begun)
    _state_withdrawals(site, order, begun)
    _state_erasures(site, order, begun)
    try:
        admitted = admit(site, order, begun.at)
    except Refused as refusal:
        if refusal.detail:
            _keep_fault(site, refusal.detail)
        said = Result("refused", refusal.reason, verdicts=refusal.verdicts)
        return _say(site, order, said, begun)[1]
    site.reached("reserved")
    result = _settled(site, order, _learn(site, order, model, admitted))
    site.reached("learned")
    statement, parcel = _say(site, order, result, begun)
    site.ledger.commit(admitted.reservation, digest(statement.leaf_bytes), site.machine.clock())
    site.reached("committed")
    return parcel


# ---- learn: from permitted records to what may leave ------------------------------------------------------------


def _learn(site: Site, order: WorkOrder, model: Params, admitted: Admitted) -> Result:
    """Carry out the job; a fault in the task's own code is an outcome, not a crash of the client.

    Its traceback may quote data, so it stays with the client.
    """
    loader = _loader(site, order, admitted)
    try:
        tensors = _finite(_compute(site, order, admitted.job, model, loader))
    except FedgeError as error:
        return _failed(site, admitted, loader, type(error).__name__.removesuffix("Error").lower())
    except Exception:  # noqa: BLE001 - a Task is the user's code and may raise anything
        return _failed(site, admitted, loader, "task_error")
    if site.policy.public_size and order.work == "train":
        tensors[PUBLIC_SIZE] = np.asarray([len(admitted.eligible)], dtype=np.float64)
    update = parameters.digest(tensors)
    return replace(_outcome(admitted, loader), outcome="submitted", tensors=tensors, update=update)


def _loader(site: Site, order: WorkOrder, admitted: Admitted) -> Loader:
    records = admitted.holding.records
    gate = site.permissions.gate(records.subjects, admitted.holding.request(order.purpose), site.machine.clock)
    return Loader(records, admitted.eligible, gate, site.on_read)


def _compute(site: Site, order: WorkOrder, job: Job, model: Params, loader: Loader) -> Params:
    dice = site.dice(order.work, order.round)
    if job.recipe is not None:
        return train(site.task, model, loader, job.recipe, dice).delta
    hits, total = correct(site.task, model, loader)
    noise = dice.discrete_gaussian((2,), job.noise_multiplier * COUNT_SENSITIVITY, 1.0)
    return {"correct": np.asarray([hits + noise[0]]), "total": np.asarray([total + noise[1]])}


def _finite(tensors: Params) -> dict[str, NDArray[np.floating]]:
    if not all(np.isfinite(array).all() for array in tensors.values()):
        raise DataError("the result holds numbers that are not finite")
    return dict(tensors)


def _failed(site: Site, admitted: Admitted, loader: Loader, reason: str) -> Result:
    _keep_traceback(site)
    return replace(_outcome(admitted, loader), reason=reason)


def _keep_traceback(site: Site) -> None:
    _keep_fault(site, traceback.format_exc())


def _keep_fault(site: Site, text: str) -> None:
    site.faults.parent.mkdir(parents=True, exist_ok=True)
    with site.faults.open("a", encoding="utf-8") as file:
        file.write(f"{site.machine.clock().isoformat()}\n{text}\n")


# ---- settle: look once more, state it, remember it, send it -----------------------------------------------------


def _settled(site: Site, order: WorkOrder, result: Result) -> Result:
    """Return `result`, without its tensors if somebody in it has withdrawn while it was computed."""
    if result.outcome != "submitted" or _still_permitted(site, order, result.used):
        return result
    return replace(result, outcome="skipped", reason="withdrawn_in_flight", tensors=None, update=None)


def _say(site: Site, order: WorkOrder, result: Result, begun: Begun) -> tuple[Answer, Parcel]:
    statement = data_use(site, order, result, begun)
    site.memory.keep(statement, result.tensors)
    site.reached("kept")
    return statement, _parcel(site, order, result.tensors or {})


def _parcel(site: Site, order: WorkOrder, tensors: Params) -> Parcel:
    """Return all statements that the server has not yet proved to have logged, and the tensors of the last."""
    return Parcel(tuple(a.leaf_bytes for a in site.memory.unreceipted(order.run)), tensors)


def _change_key(site: Site, order: WorkOrder, begun: Begun) -> None:
    """Change to the key that the owner wants, if any: stated in every run first (see `rounds.keys`), then in place."""
    fresh = site.keys.wanted()
    if fresh is None:
        return
    for run in dict.fromkeys([*site.memory.runs(), order.run]):
        if site.memory.answer_to(run, fresh.public.text) is None:
            round_ = order.round if run == order.run else site.memory.answers(run)[-1].round
            site.memory.keep(rotation(site, run, round_, fresh.public, begun.at), None)
    site.reached("rotated")
    site.keys.switch()


def _state_withdrawals(site: Site, order: WorkOrder, begun: Begun) -> None:
    """State every withdrawal since the client's first statement in this run, once."""
    answers = site.memory.answers(order.run)
    if not answers:
        return
    first = decode(answers[0].leaf_bytes)[0].at
    everyone = {*site.training.records.subjects, *site.evaluation.records.subjects}
    people = everyone - site.subjects.gone()  # of an erased person only the erasure is stated
    for event in site.permissions.withdrawals():
        if event.subject not in people or event.recorded_at < first:
            continue
        if site.memory.answer_to(order.run, subject_commitment(site, order.run, event)) is None:
            site.memory.keep(withdrawal(site, order, event, begun.at), None)


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


def _still_permitted(site: Site, order: WorkOrder, used: NDArray[np.int64]) -> bool:
    if site.policy.withdrawn_in_flight == "finish":
        return True
    holding = site.holding(order.work)
    now = site.permissions.judge(holding.records.subjects, holding.request(order.purpose), site.machine.clock())
    return bool(now.admitted[used].all())


def _outcome(admitted: Admitted, loader: Loader) -> Result:
    """Return what is true of a job whatever came of it; the caller says the rest with `replace`."""
    unusable = int(np.count_nonzero(admitted.verdicts.admitted & ~admitted.holding.records.usable))
    return Result(
        outcome="failed",
        reason=None,
        verdicts=admitted.verdicts,
        unusable=unusable,
        pool=admitted.eligible,
        used=loader.touched,
        job=admitted.job,
        snapshot=admitted.snapshot,
    )
