"""The client's side of a session: it masks its update, and helps to take the masks off a sum that it is told of once.

    order → advertise → seal shares → (admit, compute) mask → confirm who is in the sum → give shares

What protects an update from a lying server, in the order in which it could lie: keys are those of the log that this
client has pinned (`peers`); shares are encrypted for one peer each, and bound to session, sender and receiver; each
question is answered once (`sessions`); a sum must be of many; all who help must have confirmed the same sum; and of
each peer one kind of share is given, never both. The three orders of effect are those of `work`: the masked vector is
the update, so its spend is durable before it exists, and its statement before it leaves.

Bonawitz et al. 2017, https://eprint.iacr.org/2017/281, protocol of section 4 with the active adversary's additions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedge.encoding import b64decode, b64encode, canonical, digest, parse
from fedge.errors import RoundError, UnsoundError
from fedge.learning.loader import Loader
from fedge.learning.recipe import ClientLevel
from fedge.params import Params
from fedge.privacy.events import NonPrivate
from fedge.rounds.admission import Refused, examine
from fedge.rounds.job import Job, job_of
from fedge.rounds.messages import Parcel, WorkOrder, only_statement, payload_type, read, sign
from fedge.rounds.secure import steps
from fedge.rounds.secure.messages import (
    Confirmation,
    ConfirmRequest,
    Introduction,
    MaskRequest,
    RevealRequest,
    Sealed,
    Shares,
    StepRequest,
    UnmaskRequest,
)
from fedge.rounds.secure.peers import advertise
from fedge.rounds.secure.seat import Seat, introduced_once, on_wire, session_of
from fedge.rounds.secure.sessions import Session
from fedge.rounds.secure.vector import update_vector
from fedge.rounds.site import Site
from fedge.rounds.work import again, attempt_of, carry_out, check_model, prepare, read_order, refused
from fedge.secagg import shares as sharing
from fedge.secagg.keys import Secrets
from fedge.secagg.masking import add_pair_masks, add_self_mask
from fedge.secagg.ring import to_grid
from fedge.secagg.shares import PeerShares
from fedge.secagg.terms import Terms
from fedge.signing import parse_envelope

Reply = Callable[[Seat, Any, bytes, Params], Parcel]


def answer(site: Site, parcel: Parcel) -> Parcel:
    """Return the client's answer to what the server says in a session.

    Raises RoundError, ParseError, SignatureError or ProofError for what no honest server says.
    """
    statement = only_statement(parcel)
    said = parse_envelope(statement).payload_type
    if said == payload_type(WorkOrder):
        return _opened(site, read_order(site, parcel), statement)
    for kind, reply in _REPLIES.items():
        if said == payload_type(kind):
            request: Any = read(kind, statement, site.server.key)
            return reply(_seat(site, request.run, request.session), request, statement, parcel.tensors)
    raise RoundError(f"{said} is not said in a session of secure aggregation")


def _seat(site: Site, run: str, name: str) -> Seat:
    session = site.sessions.of(run)
    if session is None or session.session != name:
        raise RoundError("this session was never opened here, or another has taken its place")
    order = read(WorkOrder, b64decode(session.order), site.server.key)
    if order.terms is None:
        raise RoundError("the order of this session has no terms")
    return Seat(site, session, order, order.terms)


# ---- open: judge the order, show keys ---------------------------------------------------------------------------


def _opened(site: Site, order: WorkOrder, statement: bytes) -> Parcel:
    """Judge the order without spending anything yet, and advertise keys for this session, or refuse."""
    name = session_of(order)
    if order.terms is None or order.work != "train":
        raise RoundError("a session of secure aggregation is for training, and its order states terms")
    before = site.sessions.of(order.run)
    if before is not None and before.session == name:
        known = before.answered("order", b64decode(before.order))
        if known is None:
            raise RoundError("this session is over")
        return Parcel(known)
    begun_at = site.machine.clock()
    try:
        if before is not None:
            _check_later(before, order)
            steps.state_cut(site, before)
        check_terms(site, order, order.terms, examine(site, order, begun_at).job)
    except Refused as refusal:
        return refused(site, order, prepare(site, order, {}), refusal)
    secret = site.machine.random_bytes(32)
    advertised = sign(advertise(site, order, name, Secrets(name, secret)), site.key)
    summed = before.summed if before is not None and before.round == order.round else {}
    session = Session(order.run, name, order.round, b64encode(statement), b64encode(secret), summed=summed)
    site.sessions.keep(session.saying("order", statement, (advertised,)))
    site.reached("order")
    return Parcel((advertised,))


def _check_later(before: Session, order: WorkOrder) -> None:
    """Raise Refused for a round before that of the latest session: only of that one it is known what was summed."""
    if order.round < before.round:
        raise Refused("replayed_order")


def check_terms(site: Site, order: WorkOrder, terms: Terms, job: Job) -> None:
    """Raise Refused if these terms make what the order says of privacy false, or trust more than the owner does."""
    distributed = terms.noise == "distributed"
    try:
        terms.ring()
        terms.honest(order.cohort)
    except UnsoundError as error:
        raise Refused("unsound_terms", detail=str(error)) from error
    if job.recipe is not None and job.recipe.client is not None:
        _check_whole(terms, job.recipe.client)
    elif distributed != (terms.steps > 0) or (distributed and (job.recipe is None or job.recipe.privacy is None)):
        raise Refused("unsound_terms", detail="terms: noise for records is shared in sessions of steps, and only there")
    elif job.recipe is None or (distributed and terms.steps != job.recipe.steps):
        raise Refused("unsound_terms", detail="terms: the session has other steps than the recipe")
    if terms.colluding < site.policy.minimum_colluding:
        raise Refused("too_few_colluders_covered")


def _check_whole(terms: Terms, level: ClientLevel) -> None:
    """Raise Refused unless whole clients are hidden by shares of the noise in one sum, for the norm that it counts."""
    plain = level.sample_rate == 1 and level.separation == 1 and level.adaptive is None
    if not plain or terms.noise != "distributed" or terms.norm is None or float(terms.norm) != level.clip_norm:
        raise Refused(
            "unsound_terms",
            detail="terms: a whole client is hidden in one sum, by shares of the noise, at the clip norm of the order",
        )


def _sealed(seat: Seat, _request: Introduction, statement: bytes, _tensors: Params) -> Parcel:
    """Check everybody's keys, and seal shares of this client's secrets for each."""

    def say() -> Sealed:
        peers, me = introduced_once(seat.site, statement), seat.site.client
        if me not in peers or peers[me].keys.self_mask != digest(seat.secrets.self_mask):
            raise RoundError("this client's own keys are not among those that the server introduces")
        least = max(seat.terms.least(len(peers)), seat.site.policy.minimum_cohort)
        if not least <= len(peers) <= seat.terms.clients:
            raise RoundError(f"{len(peers)} clients are in the session, which is not what its terms are made for")
        seat.terms.honest(len(peers))
        if seat.terms.steps:  # nobody is recovered within a session of steps
            return Sealed(seat.session.session, me, {})
        sealed = {
            name: b64encode(sharing.seal(seat.secrets, me, name, peers[name].keys.share_key, mine))
            for name, mine in _shared_out(seat, tuple(peers)).items()
            if name != me
        }
        return Sealed(seat.session.session, me, sealed)

    return seat.once("introduction", statement, say)


def _shared_out(seat: Seat, names: tuple[str, ...]) -> dict[str, PeerShares]:
    return sharing.share_out(seat.secrets, seat.circle(names), seat.terms.shares_needed(len(names)))


# ---- mask: the update, as nothing but noise to whoever sees it alone ---------------------------------------------


def _masked(seat: Seat, request: MaskRequest, statement: bytes, model: Params) -> Parcel:
    """Admit the order, train, and send the update under masks; its statement is the client's log entry."""
    if seat.terms.steps:
        raise RoundError("a session of steps has no single vector")
    seat.check_participants(request.participants, tuple(seat.peers()))
    _held(seat, request)  # a share that was tampered with is seen before anything is computed
    check_model(seat.order.model, model)
    seat.session.answered("mask", statement)
    seated = Seat(seat.site, seat.site.sessions.keep(seat.session.saying("mask", statement)), seat.order, seat.terms)
    known = seat.site.memory.answer_to(seat.order.run, seat.order.substance)
    if known is not None and known.tensors is not None and attempt_of(known) == seat.order.attempt:
        # Masks are used once: what was made under them is sent again or not at all, never made anew.
        said = again(seat.site, seat.order)
        if said is None:
            raise RoundError("the masked update cannot be sent a second time")
        return said

    def compute(job: Job, loader: Loader) -> Params:
        return _masked_update(seated, _neighbours(seated, request), model, job, loader)

    return carry_out(seat.site, seat.order, model, compute)


def _neighbours(seat: Seat, request: MaskRequest) -> tuple[str, ...]:
    """Return whom to mask with: the participants that this client has chosen, and those that have chosen it."""
    around = {*seat.circle(tuple(seat.peers())), *request.shares}
    return tuple(name for name in request.participants if name in around)


def _masked_update(seat: Seat, neighbours: tuple[str, ...], model: Params, job: Job, loader: Loader) -> Params:
    words = seat.ring.encode(to_grid(update_vector(seat, model, job, loader), seat.terms.exponent))
    add_pair_masks(words, seat.site.client, seat.pair_keys(neighbours, 1, 1), seat.ring)
    return on_wire(seat.ring, add_self_mask(words, seat.secrets.self_mask, seat.ring))


def _held(seat: Seat, request: MaskRequest) -> Mapping[str, PeerShares]:
    """Return this client's shares of its own secrets and of those who have chosen it. Raises RoundError.

    In a small session that is every participant.
    """
    peers, me = seat.peers(), seat.site.client
    others = set(request.participants) - {me}
    everybody = seat.terms.circle(len(peers)) is None
    if not set(request.shares) <= others or (everybody and set(request.shares) != others):
        raise RoundError("the shares that came are not those of the participants")
    held = {
        name: sharing.unseal(seat.secrets, me, name, peers[name].keys.share_key, b64decode(request.shares[name]))
        for name in request.shares
    }
    return held | {me: _shared_out(seat, tuple(peers))[me]}


# ---- unmask: one sum, confirmed by all who help -----------------------------------------------------------------


def _confirmed(seat: Seat, request: ConfirmRequest, statement: bytes, _tensors: Params) -> Parcel:
    """Promise to help with this sum and with no other."""

    def say() -> Confirmation:
        participants = _mask_request(seat).participants
        seat.check_participants(request.survivors, participants)
        _check_sent(seat)
        _check_one_sum(seat, request.survivors)
        return Confirmation(seat.session.session, seat.site.client, participants, request.survivors)

    return seat.once("survivors", statement, say)


def _check_sent(seat: Seat) -> None:
    known = seat.site.memory.answer_to(seat.order.run, seat.order.substance)
    if known is None or known.tensors is None or attempt_of(known) != seat.order.attempt:
        raise RoundError("this client has sent no masked vector in this session, and is in no sum")


def _check_one_sum(seat: Seat, survivors: tuple[str, ...]) -> None:
    """Raise RoundError if the same update would be in two different sums: their difference would show single updates.

    With fresh noise, paid for anew, a second attempt is another update and may be in another sum.
    """
    fresh = seat.site.dice(seat.order.work, seat.order.round).secure
    private = not isinstance(job_of(seat.order).event, NonPrivate)
    earlier = seat.session.summed.get(seat.order.substance)
    if earlier is not None and earlier != _sum_of(survivors) and not (fresh and private):
        raise RoundError("this update is in the sum of an earlier attempt with other clients")


def _sum_of(survivors: tuple[str, ...]) -> str:
    return digest(canonical(list(survivors)))


def _unmasked(seat: Seat, request: UnmaskRequest, statement: bytes, _tensors: Params) -> Parcel:
    """Give shares of what hides the sum: self masks of those in it, mask keys of those who are not."""

    def say() -> Shares:
        mine = read(ConfirmRequest, seat.session.request("survivors"), seat.site.server.key)
        mask_request = _mask_request(seat)
        _check_agreed(seat, request, mask_request.participants, mine.survivors)
        held = _held(seat, mask_request)
        dropped = [name for name in mask_request.participants if name not in mine.survivors]
        return Shares(
            session=seat.session.session,
            client=seat.site.client,
            self_masks={name: b64encode(held[name].self_mask) for name in mine.survivors if name in held},
            mask_keys={name: b64encode(held[name].mask_key) for name in dropped if name in held},
        )

    if seat.session.answered("unmask", statement) is None:
        mine = read(ConfirmRequest, seat.session.request("survivors"), seat.site.server.key)
        summed = {**seat.session.summed, seat.order.substance: _sum_of(mine.survivors)}
        seat = Seat(seat.site, seat.session.in_sum(summed), seat.order, seat.terms)
    return seat.once("unmask", statement, say, last=True)


def _check_agreed(
    seat: Seat, request: UnmaskRequest, participants: tuple[str, ...], survivors: tuple[str, ...]
) -> None:
    """Raise RoundError unless so many have confirmed this very sum that no other can have been confirmed as well."""
    peers, agreed = seat.peers(), set()
    for text in request.confirmations:
        statement = b64decode(text)
        name = _claimed(statement)
        if name not in survivors:
            raise RoundError("a confirmation by somebody who is not in the sum")
        said = read(Confirmation, statement, peers[name].signing_key)
        if said != Confirmation(seat.session.session, name, participants, survivors):
            raise RoundError(f"{name} was told of another sum: the server shows its clients different rounds")
        agreed.add(name)
    needed = seat.terms.needed(len(peers))
    if len(agreed) < needed:
        raise RoundError(f"{len(agreed)} clients have confirmed the sum, {needed} have to")


def _claimed(statement: bytes) -> str:
    return str(parse(parse_envelope(statement).payload).get("client"))


def _mask_request(seat: Seat) -> MaskRequest:
    return read(MaskRequest, seat.session.request("mask"), seat.site.server.key)


_REPLIES: Mapping[type, Reply] = {
    Introduction: _sealed,
    MaskRequest: _masked,
    ConfirmRequest: _confirmed,
    UnmaskRequest: _unmasked,
    StepRequest: steps.masked,
    RevealRequest: steps.revealed,
}
