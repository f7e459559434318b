"""The server's side of a session of several steps: sum, step, send the new model, sum again.

A client that falls silent before a step's sum is complete is left out, and the step is tried again without it: nothing
of that attempt was revealed. If it falls silent when self masks are asked for, this step's sum is lost and the next
step goes on without it: what the others have revealed once they reveal for no other sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from fedge import params as parameters
from fedge.audit.leaves import DataUse
from fedge.encoding import b64decode, canonical, digest
from fedge.errors import FedgeError, RoundError
from fedge.ids import ClientId
from fedge.learning.recipe import from_record
from fedge.learning.sums import Descent
from fedge.params import Params
from fedge.rounds.exchange import Exchange
from fedge.rounds.messages import Parcel
from fedge.rounds.secure.exchange import SecureExchange, Together
from fedge.rounds.secure.messages import Masked, Revealed, RevealRequest, StepRequest
from fedge.rounds.secure.seat import octets_of, on_wire
from fedge.rounds.state import State
from fedge.rounds.tally import judged, tally
from fedge.secagg.masking import subtract_self_masks, total
from fedge.secagg.ring import from_grid
from fedge.secagg.terms import Terms

EVERYBODY = ClientId("everybody")
"""In whose name the mean of all updates is combined."""


@dataclass
class Steps:
    """What was summed so far: the model, and by client the digest of its masked vector at each step."""

    session: SecureExchange
    descent: Descent
    updates: dict[ClientId, dict[int, str]] = field(default_factory=dict)
    vectors: dict[ClientId, Params] = field(default_factory=dict)


def learn_together(exchange: Exchange, terms: Terms, round_: int, state: State, asked: Sequence[ClientId]) -> Together:
    """Have the clients train under secure aggregation, in one sum or step by step as the terms say."""
    session = SecureExchange(exchange, terms, round_, state, asked)
    return descend(session) if terms.steps else session.together()


def descend(session: SecureExchange) -> Together:
    """Go through all steps of a round and return how far the model has moved, or why it has not."""
    session.open()
    participants = sorted(session.introduce())
    recipe = from_record(dict(session.exchange.plan.recipe))
    steps = Steps(session, Descent(session.state.params, recipe))
    for step in range(1, session.terms.steps + 1):
        participants = _step(steps, step, participants)
        if not session.enough(participants):
            break
    session.exchange.reached("answered")
    minimum = max(1, session.exchange.plan.minimum_updates)
    if not session.enough(participants) or sum(t.tensors is not None for t in session.tallies.values()) < minimum:
        return session.came_to("too_few_updates")
    return session.came_to(None, parameters.subtract(steps.descent.params, session.state.params))


def _step(steps: Steps, step: int, participants: Sequence[ClientId]) -> list[ClientId]:
    """Take one step with as many of `participants` as stay; return who is still there."""
    session, present = steps.session, list(participants)
    for attempt in count(1):
        if not session.enough(present):
            return present
        answered = _masked(steps, step, attempt, present)
        if answered == present:
            break
        present = answered
    revealed = _revealed(steps, step, attempt, present)
    if set(revealed) == set(present):
        ring = session.ring
        words = total((ring.from_bytes(octets_of(steps.vectors[c])) for c in present), session.length, ring)
        summed = from_grid(ring.decode(subtract_self_masks(words, revealed.values(), ring)), session.terms.exponent)
        steps.descent.step(parameters.shaped(summed, _wide(session.state.params)), len(present))
    return sorted(revealed)


def _masked(steps: Steps, step: int, attempt: int, participants: Sequence[ClientId]) -> list[ClientId]:
    """Ask for masked sums and return whose have come; a statement in place of one is the client's last word."""
    session, model = steps.session, steps.descent.params
    request = StepRequest(session.run, session.name, step, attempt, tuple(participants), parameters.digest(model))
    answers = session.dispatch(dict.fromkeys(participants, request), model)
    for client, parcel in answers.items():
        try:
            said = session.word(Masked, client, parcel.statements[0] if parcel.statements else b"")
            _check_vector(session, parcel, said, request)
        except FedgeError:
            session.tallies[client] = tally(session.orders[client], parcel, session.exchange.book.chain(client), {})
            continue
        steps.updates.setdefault(client, {})[step], steps.vectors[client] = said.update, parcel.tensors
    return [c for c in participants if c in answers and c not in session.tallies]


def _check_vector(session: SecureExchange, parcel: Parcel, said: Masked, request: StepRequest) -> None:
    parameters.check_like(parcel.tensors, on_wire(session.ring, np.zeros(session.length, session.ring.dtype)))
    if said.update != parameters.digest(parcel.tensors) or (said.step, said.attempt) != (request.step, request.attempt):
        raise RoundError("the masked vector is not the one that the client speaks of")


def _revealed(steps: Steps, step: int, attempt: int, participants: Sequence[ClientId]) -> dict[ClientId, bytes]:
    """Ask for self masks and return those that have come; with the last comes the statement about the whole round."""
    session = steps.session
    request = RevealRequest(session.run, session.name, step, attempt)
    found: dict[ClientId, bytes] = {}
    for client, parcel in session.dispatch(dict.fromkeys(participants, request)).items():
        try:
            said = session.word(Revealed, client, parcel.statements[0] if parcel.statements else b"")
            seed = b64decode(said.seed)
            if (said.step, said.attempt) != (step, attempt) or len(seed) != 32:
                raise RoundError("a self mask of another step")
        except FedgeError:
            continue  # not its own words: it has said nothing
        found[client] = seed
        if step == session.terms.steps:
            _judge(steps, client, Parcel(parcel.statements[1:], steps.vectors[client]))
    return found


def _judge(steps: Steps, client: ClientId, parcel: Parcel) -> None:
    """Judge the statement about the whole round: it names all masked vectors of the client."""
    session = steps.session
    expected = digest(canonical([update for _, update in sorted(steps.updates[client].items())]))

    def take(_parcel: Parcel, use: DataUse) -> tuple[Params, float]:
        if use.update != expected:
            raise RoundError("the statement names other vectors than those that came")
        return steps.vectors[client], 1.0

    session.tallies[client] = judged(session.orders[client], parcel, session.exchange.book.chain(client), take)


def _wide(params: Params) -> Params:
    return {name: value.astype(np.float64) for name, value in params.items()}
