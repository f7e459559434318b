"""The client's side of a session of several steps: distributed DP-SGD, one noisy sum a step, one spend for all.

    StepRequest → (first step: admit) → clipped sum + share of the noise, masked → RevealRequest → own self mask

A client's sum has only its share of the noise, so it may be seen only in the sum of as many as the terms demand, and
only once. Pair masks are those of the very participants a step was asked with, and are never given up; the self mask is
revealed for one attempt at a step and no other. So the server gets the sum of all participants of that attempt or
nothing, whatever it tells whom; no confirmation is needed. If a participant stays silent, the step is tried again
without it, and what it had sent stays hidden for ever.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedge import params as parameters
from fedge.audit.parts import Outcome
from fedge.encoding import b64encode, canonical, digest, moment, timestamp
from fedge.errors import FedgeError, RoundError
from fedge.learning.sums import NoisySum, noisy_sum
from fedge.params import Params
from fedge.privacy.distributed import check_sum_is_gaussian
from fedge.rounds.admission import Admitted, Refused, admit, judged
from fedge.rounds.job import job_of
from fedge.rounds.memory import bitmap, indices
from fedge.rounds.messages import Parcel, WorkOrder, read, sign
from fedge.rounds.secure.messages import Masked, Revealed, RevealRequest, StepRequest
from fedge.rounds.secure.seat import Seat, on_wire
from fedge.rounds.secure.sessions import Progress, Session
from fedge.rounds.site import Site
from fedge.rounds.statement import size_in_bytes
from fedge.rounds.work import (
    attempt_of,
    check_model,
    committed,
    handed_in,
    keep_traceback,
    loader_for,
    outcome,
    prepare,
    refused,
    still_permitted,
)
from fedge.secagg.masking import add_pair_masks, add_self_mask
from fedge.secagg.ring import to_grid


def masked(seat: Seat, request: StepRequest, statement: bytes, model: Params) -> Parcel:
    """Answer a step: this client's noisy sum under masks; or a refusal, or that it failed."""
    site, progress = seat.site, seat.session.progress
    if seat.session.over:
        raise RoundError("this session is over")
    if progress is not None and (request.step, request.attempt) == (progress.step, progress.attempt):
        return _again(seat, statement, progress)
    _check_turn(seat, request, progress)
    seat.check_participants(request.participants, progress.participants if progress else tuple(seat.peers()))
    check_model(request.model, model)
    if progress is None:
        check_model(seat.order.model, model)
    try:
        admitted = _admitted(seat, progress)
    except Refused as refusal:
        parcel = refused(site, seat.order, prepare(site, seat.order, model), refusal)
        site.sessions.keep(seat.session.ended("step"))
        return parcel
    site.reached("reserved")
    before, cpu = progress or _first(seat, admitted), site.machine.cpu_seconds()
    try:
        summed = _sum(seat, admitted, request, model)
    except Exception as error:  # noqa: BLE001 - a Task is the user's code and may raise anything
        return _fail(seat, admitted, before, error)
    used = np.union1d(indices(before.used), summed.used).astype(np.int64)
    if not still_permitted(site, seat.order, summed.used):
        progress = replace(before, used=bitmap(used, _size(seat)))
        return _left(seat, _stated(seat, admitted, progress, "skipped", "withdrawn_in_flight"))
    vector = _mask(seat, request, summed)
    site.reached("learned")
    update = parameters.digest(vector)
    after = replace(
        before,
        step=request.step,
        attempt=request.attempt,
        participants=request.participants,
        revealed=False,
        updates=(*(before.updates if before.revealed or before.step == 0 else before.updates[:-1]), update),
        used=bitmap(used, _size(seat)),
        cpu_ms=before.cpu_ms + max(0, round(1000 * (site.machine.cpu_seconds() - cpu))),
        bytes_in=before.bytes_in + size_in_bytes(model),
        bytes_out=before.bytes_out + size_in_bytes(vector),
    )
    said = Masked(seat.session.session, site.client, request.step, request.attempt, update)
    answer = sign(said, seat.secrets.signing_key)
    session = replace(seat.session.saying("step", statement, (answer,)), progress=after)
    site.sessions.keep(session, vector)
    site.reached("kept")
    return Parcel((answer,), vector)


def revealed(seat: Seat, request: RevealRequest, statement: bytes, _tensors: Params) -> Parcel:
    """Reveal the self mask of the latest attempt; after the last step, state what the whole round was."""
    progress = seat.session.progress
    if seat.session.over or (progress is not None and progress.revealed):
        known = seat.session.answered("reveal", statement)
        if known is None:
            raise RoundError("this session is over")
        return Parcel(known)
    if progress is None or (request.step, request.attempt) != (progress.step, progress.attempt):
        raise RoundError("a self mask is revealed for the latest attempt at a step, and for no other")
    site, secrets = seat.site, seat.secrets
    seed = b64encode(secrets.step_self_mask(request.step, request.attempt))
    said = Revealed(seat.session.session, site.client, request.step, request.attempt, seed)
    answer, after = sign(said, secrets.signing_key), replace(progress, revealed=True)
    if request.step < seat.terms.steps:
        site.sessions.keep(replace(seat.session.saying("reveal", statement, (answer,)), progress=after))
        site.reached("reveal")
        return Parcel((answer,))
    # The statement first: if we crash before the session is ended, the same question finds it, and makes no second one.
    whole = Parcel((answer, *_stated(seat, _admitted(seat, progress), progress, "submitted", None).statements))
    site.sessions.keep(seat.session.saying("reveal", statement, whole.statements).ended("reveal"))
    return whole


def state_cut(site: Site, session: Session) -> None:
    """State a session that was left in the middle: its spend counts, and some of its sums may be in a model."""
    if session.progress is None or session.over:
        return
    order = read(WorkOrder, session.request("order"), site.server.key)
    if order.terms is None:
        raise RoundError("the order of this session has no terms")
    seat = Seat(site, session, order, order.terms)
    _left(seat, _stated(seat, _admitted(seat, session.progress), session.progress, "failed", "session_cut"))


# ---- whose turn it is -------------------------------------------------------------------------------------------


def _again(seat: Seat, statement: bytes, progress: Progress) -> Parcel:
    known = seat.session.answered("step", statement)
    if known is None or not progress.updates:
        raise RoundError("this step was never answered")
    if not still_permitted(seat.site, seat.order, indices(progress.used)):
        raise RoundError("somebody in this sum has withdrawn; it is not sent again")
    return Parcel(known, seat.site.sessions.vector(seat.session.run, progress.updates[-1]))


def _check_turn(seat: Seat, request: StepRequest, progress: Progress | None) -> None:
    """Raise RoundError unless the step is the next one, or another attempt at the one that is not revealed yet."""
    if not 1 <= request.step <= seat.terms.steps or request.attempt < 1:
        raise RoundError("the session has no such step")
    step, attempt, done = (progress.step, progress.attempt, progress.revealed) if progress else (0, 0, True)
    following = request.step == step + 1 and done
    anew = request.step == step and request.attempt > attempt and not done
    if not following and not anew:
        raise RoundError(f"step {request.step}, attempt {request.attempt} does not follow step {step}, {attempt}")


# ---- the work ---------------------------------------------------------------------------------------------------


def _admitted(seat: Seat, progress: Progress | None) -> Admitted:
    """Admit the order, once: later steps go on with the pool and the spend of the first."""
    site, now = seat.site, seat.site.machine.clock()
    if progress is None:
        return admit(site, seat.order, now)
    holding = site.holding(seat.order.work)
    return Admitted(
        job=job_of(seat.order),
        holding=holding,
        eligible=indices(progress.pool),
        verdicts=judged(site, seat.order, holding, now)[0],
        snapshot=progress.snapshot,
        reservation=site.ledger.reservation(progress.reserved),
    )


def _first(seat: Seat, admitted: Admitted) -> Progress:
    nobody = np.zeros(0, dtype=np.int64)
    return Progress(
        step=0,
        attempt=0,
        participants=(),
        revealed=False,
        updates=(),
        pool=bitmap(admitted.eligible, _size(seat)),
        used=bitmap(nobody, _size(seat)),
        snapshot=admitted.snapshot,
        reserved=admitted.reservation.position,
        began=timestamp(seat.site.machine.clock()),
    )


def _size(seat: Seat) -> int:
    return len(seat.site.holding(seat.order.work).records)


def _sum(seat: Seat, admitted: Admitted, request: StepRequest, model: Params) -> NoisySum:
    recipe, terms = admitted.job.recipe, seat.terms
    if recipe is None or recipe.privacy is None:
        raise RoundError("only private training is summed step by step")
    clients = len(seat.peers())
    std = terms.share(recipe.privacy.noise_multiplier * recipe.privacy.clip_norm, clients)
    check_sum_is_gaussian(std, 2.0**terms.exponent, clients, sum(a.size for a in model.values()))
    dice = seat.site.dice(f"{seat.order.work}/step-{request.step}", seat.order.round)
    loader = loader_for(seat.site, seat.order, admitted)
    return noisy_sum(seat.site.task, model, loader, recipe, std, terms.exponent, dice)


def _mask(seat: Seat, request: StepRequest, summed: NoisySum) -> Params:
    ring, me = seat.ring, seat.site.client
    words = ring.encode(to_grid(parameters.flat(summed.total), seat.terms.exponent))
    add_pair_masks(words, me, seat.pair_keys(request.participants, request.step, request.attempt), ring)
    seed = seat.secrets.step_self_mask(request.step, request.attempt)
    return on_wire(ring, add_self_mask(words, seed, ring))


# ---- the last word ----------------------------------------------------------------------------------------------


def _fail(seat: Seat, admitted: Admitted, progress: Progress, error: Exception) -> Parcel:
    keep_traceback(seat.site)
    reason = type(error).__name__.removesuffix("Error").lower() if isinstance(error, FedgeError) else "task_error"
    return _left(seat, _stated(seat, admitted, progress, "failed", reason))


def _left(seat: Seat, parcel: Parcel) -> Parcel:
    """End the session after what `parcel` states."""
    seat.site.sessions.keep(seat.session.ended("step"))
    return parcel


def _stated(seat: Seat, admitted: Admitted, progress: Progress, ended: Outcome, reason: str | None) -> Parcel:
    """State how the round ended for this client, once."""
    site, order = seat.site, seat.order
    known = site.memory.answer_to(order.run, order.substance)
    if known is not None and known.tensors is not None and attempt_of(known) == order.attempt:
        return handed_in(site, order, {})
    cpu = site.machine.cpu_seconds() - progress.cpu_ms / 1000
    begun = replace(prepare(site, order, {}), at=moment(progress.began), cpu_seconds=cpu, bytes_in=progress.bytes_in)
    update = digest(canonical(list(progress.updates))) if ended == "submitted" else None
    result = replace(
        outcome(admitted, indices(progress.used)), outcome=ended, reason=reason, update=update, sent=progress.bytes_out
    )
    return committed(site, order, admitted, result, begun)
