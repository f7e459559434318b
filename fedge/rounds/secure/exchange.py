"""The server's side of a session: it carries what it cannot read, and at the end knows one sum.

    orders → advertisements → introduction → sealed shares → masked updates → confirmations → shares → sum

Clients may fall silent at every step. Before masked updates are asked for they are simply left out; afterwards their
part is in the sum, or its traces are taken out, with the shares that their peers hold. If too few are left the round is
void. Everything a client says is hostile until checked; what it states about its data is judged by `tally`, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fedge import params as parameters
from fedge.encoding import b64decode, b64encode
from fedge.errors import FedgeError, RoundError
from fedge.ids import ClientId
from fedge.params import Params
from fedge.rounds.exchange import Exchange
from fedge.rounds.messages import Parcel, WorkOrder, only_statement, read, sign
from fedge.rounds.record import Participation
from fedge.rounds.secure.messages import (
    Advertisement,
    Confirmation,
    ConfirmRequest,
    Introduction,
    LogEntry,
    MaskRequest,
    Sealed,
    Shares,
    UnmaskRequest,
)
from fedge.rounds.secure.peers import Peer, peer_of
from fedge.rounds.secure.seat import octets_of, on_wire, session_of
from fedge.rounds.state import State
from fedge.rounds.tally import Tally, tally
from fedge.secagg.masking import total
from fedge.secagg.ring import Ring, from_grid
from fedge.secagg.terms import Terms
from fedge.secagg.unmasking import Given, unmasked

M = TypeVar("M")
Messages = Mapping[ClientId, object]


@dataclass(frozen=True)
class Together:
    """What a round of secure aggregation has come to: how each took part, and the mean update, or why there is none."""

    tallies: list[Tally]
    mean: Params | None
    reason: str | None = None


@dataclass(frozen=True)
class Member:
    """A client in the session: its order, its first word (an envelope), and its keys."""

    order: WorkOrder
    advertised: bytes
    pinned: int
    peer: Peer


class SecureExchange:
    """One session: `exchange` with whom, `state` the model, `terms` as every order states them."""

    def __init__(self, exchange: Exchange, terms: Terms, round_: int, state: State, asked: Sequence[ClientId]) -> None:
        self.exchange, self.terms, self.state = exchange, terms, state
        recipe = exchange.plan.recipe
        self.orders = {
            c: exchange.order("train", round_, c, state.model, recipe, len(asked), terms) for c in sorted(asked)
        }
        self.run, self.name = exchange.plan.run, session_of(self.orders[min(self.orders)])
        self.members: dict[ClientId, Member] = {}
        self.tallies: dict[ClientId, Tally] = {}

    def together(self) -> Together:
        """Return the mean of the updates, or why there is none."""
        self.open()
        sealed = self.introduce()
        participants = sorted(sealed)
        if not self.enough(participants):
            return self.came_to("too_few_updates")
        survivors = self._masked(participants, sealed)
        self.exchange.reached("answered")
        if not self.enough(survivors) or len(survivors) < self.exchange.plan.minimum_updates:
            return self.came_to("too_few_updates")
        try:
            return self._unmasked(participants, survivors, {c: sorted((c, *sealed[c])) for c in participants})
        except FedgeError:
            return self.came_to("secure_sum_failed")

    def enough(self, names: Sequence[ClientId]) -> bool:
        """Return whether the sum of `names` is one that clients help with."""
        return len(names) > 0 and len(names) >= self.terms.least(len(self.members))

    def came_to(self, reason: str | None, mean: Params | None = None) -> Together:
        """Return what the session has come to; whoever was not heard of was silent."""
        silent = {c: Tally(Participation(c, "silent")) for c in self.orders}
        return Together([t for _, t in sorted((silent | self.tallies).items())], mean, reason)

    # ---- who is in the session ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Ask everybody to take part; who refuses has said so in a statement."""
        answers = self.dispatch(self.orders)
        for client, parcel in answers.items():
            order, chain = self.orders[client], self.exchange.book.chain(client)
            try:
                statement = only_statement(parcel)
                said = read(Advertisement, statement, chain.key)
                if (said.session, said.client) != (self.name, client):
                    raise RoundError("an advertisement for another session")
                self.members[client] = Member(order, statement, said.pinned, peer_of(said))
            except FedgeError:
                self.tallies[client] = tally(order, parcel, chain, {})

    def introduce(self) -> dict[ClientId, Mapping[str, str]]:
        """Introduce all to all, and return the shares that each has sealed for its peers."""
        entries = self._enrolments()
        advertised = tuple(b64encode(m.advertised) for _, m in sorted(self.members.items()))
        messages = {
            c: Introduction(self.run, self.name, advertised, self._proved(entries, m.pinned), m.pinned)
            for c, m in self.members.items()
            if all(index < m.pinned for index in entries)
        }
        said = self._said(Sealed, messages)
        return {c: s.shares for c, (s, _) in said.items() if self._is_circle(c, set(s.shares))}

    def _is_circle(self, client: ClientId, holders: set[str]) -> bool:
        """Return whether these are holders that the client may have chosen."""
        others, around = {str(c) for c in self.members if c != client}, self.terms.circle(len(self.members))
        if around is None:
            return holders == (others if not self.terms.steps else set())
        return holders <= others and len(holders) == around.size

    def _enrolments(self) -> dict[int, bytes]:
        log, book = self.exchange.book.log, self.exchange.book
        named = sorted(i for c in self.members for i in book.chain(c).named)
        return {i: log.entries(i, i + 1)[0] for i in named}

    def _proved(self, entries: Mapping[int, bytes], size: int) -> tuple[LogEntry, ...]:
        log = self.exchange.book.log
        return tuple(
            LogEntry(i, b64encode(e), tuple(b64encode(h) for h in log.inclusion(i, size))) for i, e in entries.items()
        )

    # ---- masked updates -----------------------------------------------------------------------------------------

    def _masked(self, participants: Sequence[ClientId], sealed: Mapping[ClientId, Mapping[str, str]]) -> list[ClientId]:
        """Ask for the masked updates; return whose have come."""
        messages = {
            c: MaskRequest(
                self.run, self.name, tuple(participants), {p: sealed[p][c] for p in participants if c in sealed[p]}
            )
            for c in participants
        }
        answers = self.dispatch(messages, self.state.params)
        like = on_wire(self.ring, np.zeros(self.length, self.ring.dtype))
        for c in participants:
            if c in answers:
                self.tallies[c] = tally(self.orders[c], answers[c], self.exchange.book.chain(c), like)
        return [c for c in participants if c in self.tallies and self.tallies[c].tensors is not None]

    def _unmasked(
        self, participants: Sequence[ClientId], survivors: Sequence[ClientId], circles: Mapping[str, Sequence[str]]
    ) -> Together:
        """Ask all to confirm the same sum, then for what takes the masks off it. Raises RoundError."""
        request = ConfirmRequest(self.run, self.name, tuple(survivors))
        confirmed = self._said(Confirmation, dict.fromkeys(survivors, request))
        same = (tuple(participants), tuple(survivors))
        words = {c: w for c, (said, w) in confirmed.items() if (said.participants, said.survivors) == same}
        unmask = UnmaskRequest(self.run, self.name, tuple(b64encode(w) for w in words.values()))
        shares = {c: s for c, (s, _) in self._said(Shares, dict.fromkeys(words, unmask)).items()}
        ring = self.ring
        vectors = (ring.from_bytes(octets_of(self.tallies[c].tensors or {})) for c in survivors)
        unhidden = unmasked(
            total(vectors, self.length, ring),
            ring,
            self.name,
            {c: m.peer.keys for c, m in self.members.items()},
            survivors,
            [c for c in participants if c not in survivors],
            Given(
                _by_client(shares, lambda s: s.self_masks),
                _by_client(shares, lambda s: s.mask_keys),
                self.terms.shares_needed(len(self.members)),
                circles,
            ),
        )
        summed = from_grid(ring.decode(unhidden), self.terms.exponent)
        return self.came_to(None, parameters.shaped(summed / len(survivors), self.state.params))

    @property
    def ring(self) -> Ring:
        """The ring of the session."""
        return self.terms.ring()

    @property
    def length(self) -> int:
        """The number of coordinates of a vector."""
        return sum(a.size for a in self.state.params.values())

    # ---- talking ------------------------------------------------------------------------------------------------

    def _said(self, kind: type[M], messages: Messages) -> dict[ClientId, tuple[M, bytes]]:
        """Send each client its message; return their answers, as words and as bytes, as far as they are theirs."""
        found: dict[ClientId, tuple[M, bytes]] = {}
        for client, parcel in self.dispatch(messages).items():
            try:
                statement = only_statement(parcel)
                found[client] = self.word(kind, client, statement), statement
            except FedgeError:
                continue  # not the client's own words: it has said nothing
        return found

    def word(self, kind: type[M], client: ClientId, statement: bytes) -> M:
        """Return what `client` says in this session. Raises FedgeError if it is not its word."""
        said = read(kind, statement, self.members[client].peer.signing_key)
        if (getattr(said, "session", None), getattr(said, "client", None)) != (self.name, client):
            raise RoundError("said for another session, or for another client")
        return said

    def dispatch(self, messages: Messages, tensors: Params | None = None) -> Mapping[ClientId, Parcel]:
        """Send each client its message, with `tensors` beside it, and return the answers as they came."""
        parcels = {c: Parcel((sign(m, self.exchange.key),), tensors or {}) for c, m in messages.items()}
        return self.exchange.fleet.dispatch("secure", parcels)


def _by_client(
    said: Mapping[ClientId, Shares], which: Callable[[Shares], Mapping[str, str]]
) -> dict[str, dict[str, bytes]]:
    """Return the shares of each client's secret by holder."""
    shares: dict[str, dict[str, bytes]] = {}
    for holder, words in said.items():
        for client, share in which(words).items():
            shares.setdefault(client, {})[holder] = b64decode(share)
    return shares
