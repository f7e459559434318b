"""A federation of five under secure aggregation, with every word in a test's hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedge.encoding import b64encode
from fedge.ids import ClientId
from fedge.params import Params
from fedge.params import digest as digest_of
from fedge.rounds import client
from fedge.rounds.coordinator import Coordinator
from fedge.rounds.messages import Kind, Parcel, WorkOrder, payload_type, read, sign
from fedge.rounds.secure.exchange import Member, SecureExchange
from fedge.rounds.secure.messages import (
    Advertisement,
    ConfirmRequest,
    Introduction,
    MaskRequest,
    RevealRequest,
    Sealed,
    StepRequest,
    UnmaskRequest,
)
from fedge.rounds.secure.peers import peer_of
from fedge.rounds.state import State
from fedge.signing import parse_envelope
from tests.rounds.house import Answer, House, SilentError, house

FIVE = tuple(ClientId(f"hospital-{i}") for i in range(1, 6))
ONE = FIVE[0]
SECURE = (
    "population.clients=5",
    "population.shares=[0.2,0.2,0.2,0.2,0.2]",
    "privacy.secure_aggregation=true",
    "training.steps=2",
    "rounds=2",
)
SHARED = ("privacy.noise_at=distributed", "privacy.dropouts=2")


def secure(root: Path, *overrides: str, **options: Any) -> House:
    return house(root, *SECURE, *overrides, **options)


def kind_of(parcel: Parcel) -> str:
    return parse_envelope(parcel.statements[0]).payload_type


def silent_from(message: type, nth: int = 1) -> Callable[[Answer], Answer]:
    """Return a client that answers nothing any more from the n-th message of this type on (but hello and seal)."""

    def wrap(honest: Answer) -> Answer:
        seen, gone = 0, False

        def answer(kind: Kind, parcel: Parcel) -> Parcel:
            nonlocal seen, gone
            if kind == "secure":
                seen += kind_of(parcel) == payload_type(message)
                gone = gone or seen >= nth
                if gone:
                    raise SilentError
            return honest(kind, parcel)

        return answer

    return wrap


def twisted(message: type, twist: Callable[[Parcel], Parcel]) -> Callable[[Answer], Answer]:
    """Return a client whose answers to messages of this type are twisted."""

    def wrap(honest: Answer) -> Answer:
        def answer(kind: Kind, parcel: Parcel) -> Parcel:
            said = honest(kind, parcel)
            return twist(said) if kind == "secure" and kind_of(parcel) == payload_type(message) else said

        return answer

    return wrap


def new_session(here: House, round_: int = 1, asked: tuple[ClientId, ...] = FIVE) -> SecureExchange:
    """Return a session that is not opened yet, in a run whose log is."""
    found: list[SecureExchange] = []

    def body(coordinator: Coordinator) -> None:
        if coordinator.book.opening is None:
            coordinator.open()
        assert coordinator.plan.terms is not None
        state = State(round_ - 1, here.model)
        found.append(SecureExchange(coordinator._exchange, coordinator.plan.terms, round_, state, asked))

    here.coordinated(body)
    return found[0]


class Stage:
    """A server that leads a session up to a point honestly; what it says then is a test's business."""

    def __init__(self, root: Path, *overrides: str) -> None:
        self.overrides = overrides
        self.here = secure(root, *overrides)
        self.session = new_session(self.here)

    @property
    def orders(self) -> Mapping[ClientId, WorkOrder]:
        return self.session.orders

    def say(self, name: ClientId, message: object, tensors: Params | None = None, *, model: bool = False) -> Parcel:
        """Sign a message with the server's true key and hand it to the client itself; what it raises is raised."""
        parcel = Parcel((sign(message, self.here.assembled.server_key),), tensors or (self.here.model if model else {}))
        return client.answer(self.here.site(name), "secure", parcel)

    def opened(self) -> Introduction:
        """Lead to the introduction, and return it as it is meant for the first client."""
        for name, order in self.orders.items():
            parcel = self.say(name, order)
            self._join(name, order, parcel)
        entries = self.session._enrolments()
        pinned = self.session.members[ONE].pinned
        advertised = tuple(b64encode(m.advertised) for _, m in sorted(self.session.members.items()))
        return Introduction(
            self.session.run, self.session.name, advertised, self.session._proved(entries, pinned), pinned
        )

    def _join(self, name: ClientId, order: WorkOrder, parcel: Parcel) -> None:
        said = read(Advertisement, parcel.statements[0], self.session.exchange.book.chain(name).key)
        self.session.members[name] = Member(order, parcel.statements[0], said.pinned, peer_of(said))

    def sealed(self) -> dict[ClientId, Sealed]:
        """Lead to the masks; return what each client has sealed."""
        introduction = self.opened()
        return {c: self.session.word(Sealed, c, self.say(c, introduction).statements[0]) for c in FIVE}

    def mask_request(
        self, name: ClientId, sealed: dict[ClientId, Sealed], among: tuple[ClientId, ...] = FIVE
    ) -> MaskRequest:
        shares = {c: sealed[c].shares[name] for c in among if c != name}
        return MaskRequest(self.session.run, self.session.name, among, shares)

    def masked(self) -> dict[ClientId, MaskRequest]:
        sealed = self.sealed()
        requests = {c: self.mask_request(c, sealed) for c in FIVE}
        for name, request in requests.items():
            self.say(name, request, model=True)
        return requests

    def confirm(self, survivors: tuple[ClientId, ...]) -> ConfirmRequest:
        return ConfirmRequest(self.session.run, self.session.name, survivors)

    def confirmed(self, survivors: tuple[ClientId, ...] = FIVE) -> UnmaskRequest:
        self.masked()
        words = [self.say(c, self.confirm(survivors)).statements[0] for c in survivors]
        return UnmaskRequest(self.session.run, self.session.name, tuple(b64encode(w) for w in words))

    def step(self, step: int, attempt: int, participants: tuple[ClientId, ...] = FIVE) -> StepRequest:
        return StepRequest(self.session.run, self.session.name, step, attempt, participants, digest_of(self.here.model))

    def reveal(self, step: int, attempt: int) -> RevealRequest:
        return RevealRequest(self.session.run, self.session.name, step, attempt)
