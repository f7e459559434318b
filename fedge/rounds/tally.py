"""The server's judgement of one answer: hostile until checked, and in the log whether it counts or not.

An answer is a client's statements (log entries, signed by it, chained without a gap) and tensors. Statements that do
not hold are dropped with the whole answer; tensors that do not hold are dropped alone: the client has spent its
privacy, and its statement says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedge import params as parameters
from fedge.audit.leaves import ClientLeaf, DataUse, KeyRotate, decode
from fedge.encoding import digest
from fedge.errors import AuditError, RoundError
from fedge.ids import ClientId
from fedge.params import Params
from fedge.rounds.book import Chain
from fedge.rounds.messages import PUBLIC_SIZE, Parcel, WorkOrder
from fedge.rounds.packing import arrived, format_of
from fedge.rounds.record import Outcome, Participation
from fedge.signing import public_key, unseal

MAX_STATEMENTS = 1000
Take = Callable[[Parcel, DataUse], tuple[Params, float]]


@dataclass(frozen=True)
class Tally:
    """What one answer counts for: statements for the log, and the tensors if they are accepted.

    `size` is the client's number of records if it has declared it public, else 1; `octets` is how much came.
    """

    part: Participation
    statements: tuple[bytes, ...] = ()
    tensors: Params | None = None
    size: float = 1.0
    update: str | None = None
    octets: int = 0


def tally(order: WorkOrder, parcel: Parcel | None, chain: Chain, like: Params) -> Tally:
    """Return what the answer of the client that `order` names counts for; `like` has the shapes that are expected."""
    return judged(order, parcel, chain, lambda said, use: _tensors(order, said, use, like))


def judged(order: WorkOrder, parcel: Parcel | None, chain: Chain, take: Take) -> Tally:
    """Return what an answer counts for; `take` returns the tensors that the statement speaks of, and the public size.

    It raises RoundError if they are not what the statement names.
    """
    client = ClientId(order.client)
    if parcel is None:
        return Tally(Participation(client, "silent"))
    try:
        statements, use = _statements(order, parcel, chain)
    except (AuditError, RoundError):
        return Tally(Participation(client, "rejected", "bad_statement"))
    if use.outcome != "submitted":
        outcome: Outcome = "failed" if use.outcome == "failed" else "refused"
        return Tally(_part(client, outcome, use.reason, use), statements)
    try:
        tensors, size = take(parcel, use)
    except RoundError:
        return Tally(_part(client, "rejected", "bad_update", use), statements, update=use.update)
    octets = sum(array.nbytes for array in parcel.tensors.values())
    return Tally(_part(client, "accepted", None, use), statements, tensors, size, use.update, octets)


def _statements(order: WorkOrder, parcel: Parcel, chain: Chain) -> tuple[tuple[bytes, ...], DataUse]:
    """Return the statements that are new to the log, and the one that answers `order`.

    A statement that changes the client's key is followed by those of the new one; a key that was given up stays so.
    """
    if not 0 < len(parcel.statements) <= MAX_STATEMENTS:
        raise RoundError("an answer holds at least one statement")
    fresh: list[bytes] = []
    last, keys, answering = chain.last, list(chain.keys), None
    for statement in parcel.statements:
        leaf, envelope = decode(statement)
        if not isinstance(leaf, ClientLeaf) or (leaf.run, leaf.client) != (order.run, order.client):
            raise RoundError("a statement speaks for another run or another client")
        if isinstance(leaf, DataUse) and leaf.order == order.substance:
            answering = leaf
        if leaf.seq < len(chain.entries):  # the log has it already: the client had no receipt yet
            if digest(statement) != chain.digest(leaf.seq):
                raise RoundError("the client has stated something else in this place before")
            continue
        unseal(envelope, envelope.payload_type, keys[-1])
        if leaf.key != keys[-1].key_id or leaf.seq != len(chain.entries) + len(fresh) or leaf.previous != last:
            raise RoundError("the client's chain of statements has a gap, or names another key")
        fresh.append(statement)
        last = digest(statement)
        if isinstance(leaf, KeyRotate):
            if (fresh_key := public_key(leaf.new_key)) in keys:
                raise RoundError("the client goes back to a key that it has given up")
            keys.append(fresh_key)
    if answering is None:
        raise RoundError("no statement answers the order")
    return tuple(fresh), answering


def _tensors(order: WorkOrder, parcel: Parcel, use: DataUse, like: Params) -> tuple[Params, float]:
    if use.update is None or parameters.digest(parcel.tensors) != use.update:
        raise RoundError("the tensors are not the ones that the statement names")
    tensors = dict(parcel.tensors)
    size = tensors.pop(PUBLIC_SIZE, np.ones(1))
    if size.shape != (1,) or not np.isfinite(size).all() or size[0] < 1:
        raise RoundError("a public size is one number of at least 1")
    if use.format != format_of(order):
        raise RoundError(f"the statement says {use.format}, the order {format_of(order)}")
    return arrived(tensors, order, like), float(size[0])


def _part(client: ClientId, outcome: Outcome, reason: str | None, use: DataUse) -> Participation:
    total, budget = use.privacy.epsilon_total, use.privacy.budget_epsilon
    return Participation(
        client, outcome, reason, None if total is None else float(total), None if budget is None else float(budget)
    )
