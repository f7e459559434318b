"""A Fleet without any carrier: each parcel is handed to the client's own function, one after the other.

The plainest of all fleets, for benchmarks and tests: what Flower costs is the difference to this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fedge.ids import ClientId
from fedge.rounds.messages import Kind, Parcel

Answer = Callable[[Kind, Parcel], Parcel]


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
