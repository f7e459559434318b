"""Fleets without any carrier: each parcel is handed to the client's own function, in this process.

`DirectFleet` is the plainest of all: clients as functions. `CohortFleet` knows the phases of a client's work and takes
each for the whole cohort before the next one begins:

    take up (all spends durable, one commit for each pack) → learn (by itself, or all at once) → settle (one commit)

No client learns before its own spend is durable, and no answer leaves before its own statement is: the orders of effect
hold for each client. After a crash in a phase, nothing of it has happened for those of a pack that was not committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from fedge.errors import StorageError
from fedge.ids import ClientId
from fedge.rounds import client
from fedge.rounds.messages import Hello, Kind, Parcel, only_statement, read
from fedge.rounds.site import Face, Site
from fedge.rounds.statement import Result
from fedge.rounds.work import Taken
from fedge.simulation.sites import Group, Sites

Answer = Callable[[Kind, Parcel], Parcel]
Learn = Callable[[Sequence[Taken]], Sequence[Result]]
"""From what clients have taken up to what each of them has learned, in the same order."""
T = TypeVar("T")
R = TypeVar("R")


class DirectFleet:
    """Clients as functions in this process; one that raises has answered nothing."""

    def __init__(self, answers: Mapping[ClientId, Answer]) -> None:
        self._answers = dict(sorted(answers.items()))

    def roster(self) -> Sequence[ClientId]:
        """Return all clients, sorted."""
        return list(self._answers)

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        """Hand each parcel to its client."""
        replies = {c: _reply(self._answers[c], kind, parcels[c]) for c in sorted(parcels) if c in self._answers}
        return {client: parcel for client, parcel in replies.items() if parcel is not None}


def _reply(answer: Answer, kind: Kind, parcel: Parcel) -> Parcel | None:
    try:
        return answer(kind, parcel)
    except Exception:  # noqa: BLE001 - as over a network: a client that breaks, however, is silent; its own file says why
        return None


def one_by_one(taken: Sequence[Taken]) -> list[Result]:
    """Let each client learn by itself."""
    return [client.learn(one) for one in taken]


class CohortFleet:
    """The clients of `sites` in this process; `learn` says how those that were admitted learn."""

    def __init__(self, sites: Sites, learn: Learn = one_by_one) -> None:
        self._sites, self._learn = sites, learn

    def roster(self) -> Sequence[ClientId]:
        """Return all clients, sorted."""
        return sorted(self._sites)

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        """Hand each parcel to its client; work goes phase by phase."""
        known = {name: parcels[name] for name in sorted(parcels) if name in self._sites}
        match kind:
            case "hello":
                return self._phase(known, self._greeted)
            case "work":
                return self._worked(known)
            case _:
                return self._phase(known, lambda name, parcel: client.answer(self._sites[name], kind, parcel))

    def _greeted(self, name: ClientId, parcel: Parcel) -> Parcel:
        face: Face = self._sites.face(name)
        if isinstance(face, Site):
            return client.answer(face, "hello", parcel)
        return client.introduce(face, read(Hello, only_statement(parcel), face.server.key))

    def _worked(self, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        begun = self._phase(parcels, lambda name, parcel: client.take_up(self._sites[name], parcel))
        said = {name: found for name, found in begun.items() if isinstance(found, Parcel)}
        taken = {name: found for name, found in begun.items() if isinstance(found, Taken)}
        results = dict(zip(taken, self._learn(list(taken.values())), strict=True))
        settled = self._phase(taken, lambda name, one: client.settle(one, results[name]))
        return dict(sorted((said | settled).items()))

    def _phase(self, items: Mapping[ClientId, T], do: Callable[[ClientId, T], R]) -> dict[ClientId, R]:
        """Let each client do its part; what they write is durable when this returns."""
        done: dict[ClientId, R] = {}
        for group in self._sites.together(items):
            try:
                with group.transaction():
                    found = {name: self._alone(group, name, items[name], do) for name in group.clients}
            except StorageError:  # as if none of them had been asked: nothing of it is durable
                self._sites.forget(group.clients)
                continue
            done |= {name: some[0] for name, some in found.items() if some}
        return done

    def _alone(self, group: Group, name: ClientId, item: T, do: Callable[[ClientId, T], R]) -> tuple[R] | None:
        """Return what one client's part came to, or None if it broke: then what it wrote is taken back."""
        try:
            with group.transaction():  # within that of the group
                return (do(name, item),)
        except Exception:  # noqa: BLE001 - as over a network: its own file says why
            self._sites.forget([name])
            return None
