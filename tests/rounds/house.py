"""A small federation in one process, with the clock in a test's hand and every seam open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fedge import compose
from fedge.assemble import Assembled, Hooks, assemble
from fedge.audit.leaves import DataUse, Leaf, decode
from fedge.carrying import carry
from fedge.consent.grants import PermissionEvent
from fedge.encoding import timestamp
from fedge.ids import ClientId, RunId
from fedge.learning import models
from fedge.learning.task import Task
from fedge.learning.tasks import builtin
from fedge.params import Params
from fedge.params import digest as digest_of
from fedge.rounds import client
from fedge.rounds.coordinator import Coordinator
from fedge.rounds.folder import RunFolder
from fedge.rounds.messages import Kind, Parcel, WorkOrder, sign
from fedge.rounds.record import RoundRecord
from fedge.rounds.site import Site

FEW = (
    "rounds=3",
    "training.steps=3",
    "privacy.epsilon=8",
    "population.clients=3",
    "population.shares=[0.5,0.3,0.2]",
    "consent=all",
    "evaluation.federated=none",
    "engine=direct",
)
"""Three hospitals, three short rounds, everybody has agreed."""
ONE, TWO, THREE = ClientId("hospital-1"), ClientId("hospital-2"), ClientId("hospital-3")
Answer = Callable[[Kind, Parcel], Parcel]


@dataclass
class Clock:
    """A clock that stands still until it is told to move."""

    now: datetime = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class House:
    """A run that is assembled; `wrapped` replaces what single clients answer; `read` is which records were read."""

    folder: Path
    assembled: Assembled
    clock: Clock
    read: dict[ClientId, list[list[int]]]
    wrapped: dict[ClientId, Callable[[Answer], Answer]] = field(default_factory=dict)

    @property
    def model(self) -> Params:
        return models.initial(self.assembled.task.model, self.assembled.config.seed)

    def site(self, name: ClientId) -> Site:
        return self.assembled.sites[name]

    def answers(self) -> dict[ClientId, Answer]:
        plain: dict[ClientId, Answer] = {n: partial(client.answer, s) for n, s in self.assembled.sites.items()}
        return {n: self.wrapped[n](a) if n in self.wrapped else a for n, a in plain.items()}

    def coordinated(self, body: Callable[[Coordinator], None]) -> None:
        """Run `body` with a coordinator over the configured engine."""
        carry(self.assembled, lambda fleet: body(self._over(fleet)))

    def _over(self, fleet: Any) -> Coordinator:
        return self.assembled.coordinator(_Wrapped(fleet, self.answers(), self.wrapped))

    def rounds(self, most: int | None = None) -> list[RoundRecord]:
        """Go through all rounds, or the first `most` that are left."""
        records: list[RoundRecord] = []
        self.coordinated(lambda coordinator: records.extend(islice(coordinator.rounds(), most)))
        return records

    def leaves(self) -> list[Leaf]:
        return [decode(entry)[0] for entry in self.assembled.book.log.entries()]

    # ---- one order, by hand -----------------------------------------------------------------------------------------

    def order(self, name: ClientId = ONE, **changes: Any) -> WorkOrder:
        plan, now = self.assembled.plan, self.clock()
        order = WorkOrder(
            work="train",
            run=plan.run,
            round=1,
            attempt=1,
            client=name,
            task=plan.opening.task,
            task_digest=plan.task_digest,
            purpose=plan.opening.purpose,
            model=digest_of(self.model),
            recipe=plan.recipe,
            rounds_planned=plan.opening.rounds_planned,
            cohort=3,
            config_digest=plan.opening.config_digest,
            issued=timestamp(now),
            expires=timestamp(now + timedelta(hours=1)),
        )
        return replace(order, **changes)

    def ask(self, order: WorkOrder, key: Any = None) -> Parcel:
        """Hand a signed order to the client that it names, and return its answer."""
        parcel = Parcel((sign(order, key or self.assembled.server_key),), self.model)
        return client.answer(self.site(ClientId(order.client)), "work", parcel)

    def said(self, order: WorkOrder) -> DataUse:
        """Return what the client states in answer to `order`."""
        return last(self.ask(order))


class _Wrapped:
    """A fleet in which some clients answer in their own way."""

    def __init__(self, fleet: Any, answers: Mapping[ClientId, Answer], own: Mapping[ClientId, object]) -> None:
        self._fleet, self._answers, self._own = fleet, answers, own

    def roster(self) -> list[ClientId]:
        return list(self._fleet.roster())

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> dict[ClientId, Parcel]:
        usual = {c: p for c, p in parcels.items() if c not in self._own}
        replies = dict(self._fleet.dispatch(kind, usual))
        for name in parcels.keys() & self._own.keys():
            try:
                replies[name] = self._answers[name](kind, parcels[name])
            except SilentError:
                continue
        return replies


class SilentError(Exception):
    """Raised by a wrapped client that does not answer."""


def house(
    root: Path, *overrides: str, task: Task | None = None, clock: Clock | None = None, hooks: Hooks | None = None
) -> House:
    """Return a federation in `root`, new or as it was left there."""
    clock = clock or Clock()
    config = compose.compose([*FEW, f"out={root}", *overrides])
    read: dict[ClientId, list[list[int]]] = {}

    def on_read(name: ClientId) -> Callable[[Any], None]:
        outer = hooks.on_read(name) if hooks else None

        def note(indices: Any) -> None:
            read.setdefault(name, []).append(indices.tolist())
            if outer:
                outer(indices)

        return note

    watched = replace(hooks or Hooks(), on_read=on_read)
    task = task or builtin(config.task.name)
    assembled = assemble(config, task, RunId("cancer-7-test"), RunFolder(root), watched, clock)
    return House(root, assembled, clock, read)


def withdrawal(person: str, at: datetime) -> PermissionEvent:
    return PermissionEvent("withdraw", "consent", person, ("health-research",), timestamp(at), timestamp(at))


def last(parcel: Parcel) -> DataUse:
    leaf, _ = decode(parcel.statements[-1])
    assert isinstance(leaf, DataUse)
    return leaf


def uses(leaves: list[Leaf]) -> Iterator[DataUse]:
    yield from (leaf for leaf in leaves if isinstance(leaf, DataUse))
