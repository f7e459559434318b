"""The server's side of talking to clients: who is there, what they are asked, what their answers count for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from fedge.audit.checkpoint import Checkpoint, parse_body
from fedge.audit.forms import check
from fedge.audit.leaves import ClientEnrol, Leaf
from fedge.audit.note import COSIGNATURE, VerifierKey, parse, verifier_key, verify
from fedge.audit.trust import majority
from fedge.encoding import Clock, timestamp
from fedge.errors import AuditError, FedgeError, RoundError
from fedge.ids import ClientId
from fedge.params import Params
from fedge.rounds.book import Book
from fedge.rounds.messages import Enrolment, Fleet, Hello, Parcel, Work, WorkOrder, only_statement, read_enrolment, sign
from fedge.rounds.plan import Plan
from fedge.rounds.state import State
from fedge.rounds.tally import Tally, tally
from fedge.secagg.terms import Terms
from fedge.signing import PrivateKey

ORDER_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True)
class Exchange:
    """A fleet, and the key and the book with which the server speaks to it."""

    plan: Plan
    book: Book
    fleet: Fleet
    key: PrivateKey
    clock: Clock
    reached: Callable[[str], None]

    def enrol(self) -> list[Leaf]:
        """Return the first entries of a log: the opening, and every client that can be reached.

        Raises RoundError if they are fewer than the plan needs or two name one witness, LogConflictError as `greet`.
        """
        opening, enrolments = self.plan.opening, self.greet()
        if len(enrolments) < self.plan.minimum_clients:
            raise RoundError(
                f"{len(enrolments)} clients have enrolled, at least {self.plan.minimum_clients} are needed"
            )
        _check_own_witnesses(enrolments)
        now = timestamp(self.clock())
        quorum = majority(len({e.organisation for e in enrolments}))
        return [replace(opening, quorum=quorum), *(_joins(opening.run, now, e) for e in enrolments)]

    def greet(self) -> list[Enrolment]:
        """Say hello to everyone and return who answered.

        Raises LogConflictError if a client has vouched for entries of this very log that the server does not hold: then
        an older database was put back, and going on would show the clients a second past.
        """
        opening = self.plan.opening
        hello = sign(Hello(opening.run, opening.server_key, opening.log_key, timestamp(self.clock())), self.key)
        roster = sorted(self.fleet.roster())
        replies = self.fleet.dispatch("hello", {client: Parcel((hello,)) for client in roster})
        enrolments = [e for c in roster if c in replies and (e := _enrolment(c, replies[c])) is not None]
        for enrolment in enrolments:
            pinned = _signed(enrolment.pinned, self.book.log.vkey)
            if pinned is not None:
                self.book.log.check_holds(pinned, f"{enrolment.client} has pinned")
        return enrolments

    def reachable(self) -> list[ClientId]:
        """Return the clients that may speak and can be reached now, sorted."""
        active = self.book.active
        return sorted(c for c in self.fleet.roster() if c in active)

    def ask(
        self,
        work: Work,
        round_: int,
        state: State,
        asked: Sequence[ClientId],
        recipe: Mapping[str, object],
        like: Params,
    ) -> list[Tally]:
        """Send an order to each client and return what its answer counts for, sorted by client."""
        orders = {c: self.order(work, round_, c, state.model, recipe, len(asked)) for c in asked}
        parcels = {c: Parcel((sign(order, self.key),), state.params) for c, order in orders.items()}
        answers = self.fleet.dispatch("work", parcels)
        self.reached("answered")
        return [tally(orders[c], answers.get(c), self.book.chain(c), like) for c in sorted(asked)]

    def order(
        self,
        work: Work,
        round_: int,
        client: ClientId,
        model: str,
        recipe: Mapping[str, object],
        cohort_size: int,
        terms: Terms | None = None,
    ) -> WorkOrder:
        """Return the order for one client, from now on for an hour; with `terms` it opens a secure session."""
        opening, now = self.plan.opening, self.clock()
        return WorkOrder(
            work=work,
            run=opening.run,
            round=round_,
            attempt=1 + self.book.resumed,
            client=client,
            task=opening.task,
            task_digest=self.plan.task_digest,
            purpose=opening.purpose,
            model=model,
            recipe=recipe,
            rounds_planned=opening.rounds_planned,
            cohort=cohort_size,
            config_digest=opening.config_digest,
            issued=timestamp(now),
            expires=timestamp(now + ORDER_LIFETIME),
            terms=terms,
        )


def _signed(note: str | None, log: VerifierKey) -> Checkpoint | None:
    """Return the checkpoint that a client says it has pinned, if our log has signed it; anyone can make up another."""
    try:
        parsed = parse(note or "")
        verify(parsed, log)
        return parse_body(parsed.body)
    except AuditError:
        return None


def _enrolment(client: ClientId, parcel: Parcel) -> Enrolment | None:
    try:
        enrolment = read_enrolment(only_statement(parcel))
        check(ClientEnrol, _joins("", "1970-01-01T00:00:00.000Z", enrolment))
        witness = verifier_key(enrolment.witness_key)
    except FedgeError:
        return None  # not what an entry of the log could hold
    return enrolment if enrolment.client == client and witness.kind == COSIGNATURE else None


def _joins(run: str, at: str, said: Enrolment) -> ClientEnrol:
    return ClientEnrol(run, at, said.client, said.key, said.witness_key, said.organisation)


def _check_own_witnesses(enrolments: Sequence[Enrolment]) -> None:
    """Raise RoundError if a client names another's witness: one would vouch for two, and nobody can say whose it is."""
    owners: dict[bytes | str, str] = {}
    for enrolment in enrolments:
        witness = verifier_key(enrolment.witness_key)
        for mark in (witness.name, witness.key.raw):
            if mark in owners:
                raise RoundError(
                    f"clients {owners[mark]} and {enrolment.client} name the same witness {witness.name}; each needs "
                    "its own: make a new witness.key for the one that it does not belong to"
                )
            owners[mark] = enrolment.client
