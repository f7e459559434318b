"""The Fleet protocol over a Flower Grid: clients by name on our side, nodes by number on Flower's.

A node says who it is in a signed Enrolment; the fleet only needs its name to address it. Checking the
signature is the coordinator's business, as with every statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedge.errors import FedgeError
from fedge.flower import wire
from fedge.ids import ClientId, client_id
from fedge.rounds.messages import Kind, Parcel, only_statement, read_enrolment

MESSAGE_TYPES: Mapping[Kind, str] = {
    "hello": "query.hello",
    "work": "train",
    "seal": "query.seal",
    "secure": "query.secure",
}


class FlowerFleet:
    """A Fleet whose clients are Flower nodes; `deadline_seconds` bounds every exchange, None waits for all."""

    def __init__(self, grid: Grid, hello: Parcel, deadline_seconds: float | None = None) -> None:
        self._grid, self._hello, self._deadline = grid, hello, deadline_seconds
        self._nodes: dict[ClientId, int] = {}

    def roster(self) -> Sequence[ClientId]:
        """Return the clients whose nodes are connected; asks only nodes not met before for their names."""
        connected = set(self._grid.get_node_ids())
        unknown = connected - set(self._nodes.values())
        for node, reply in self._exchange("hello", dict.fromkeys(unknown, self._hello)).items():
            name = _name_in(reply)
            if name is not None and name not in self._nodes:  # a second node cannot take over a name
                self._nodes[name] = node
        return sorted(name for name, node in self._nodes.items() if node in connected)

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        """Carry parcels to the clients' nodes; error replies and garbage count as silence."""
        if not self._nodes.keys() >= parcels.keys():
            self.roster()  # after a restart the server knows names from its log before it has met the nodes
        names = {self._nodes[name]: name for name in parcels if name in self._nodes}
        replies = self._exchange(kind, {node: parcels[name] for node, name in names.items()})
        return {names[node]: parcel for node, parcel in replies.items()}

    def _exchange(self, kind: Kind, parcels: Mapping[int, Parcel]) -> dict[int, Parcel]:
        records: dict[int, RecordDict] = {node: wire.to_record(parcel) for node, parcel in parcels.items()}
        messages = [Message(records[node], node, MESSAGE_TYPES[kind]) for node in sorted(records)]
        replies = self._grid.send_and_receive(messages, timeout=self._deadline)
        answers = {m.metadata.src_node_id: _parcel_in(m) for m in replies}
        return {node: parcel for node, parcel in answers.items() if parcel is not None and node in parcels}


def _parcel_in(message: Message) -> Parcel | None:
    if message.has_error():
        return None
    try:
        return wire.from_record(message.content)
    except FedgeError:
        return None  # not in our form: indistinguishable from a broken client, so it counts as silence


def _name_in(parcel: Parcel) -> ClientId | None:
    try:
        return client_id(read_enrolment(only_statement(parcel)).client)
    except FedgeError:
        return None
