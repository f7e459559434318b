"""A Flower Grid inside one process: real Messages, real ClientApps, no Ray, no network.

Flower's own simulation starts a Ray cluster: seconds of start-up and a tenth of a second a round for ten
clients that do nothing. Here a Message is handed to the ClientApp's `__call__` directly. Everything else is
Flower's: Message, RecordDict, Context, ClientApp. Its private touch points (TaskIdentity, message ids) are in
this file alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1
RUN = 1
CLIENT_APP_RAISED = 2


class InProcessGrid(Grid):
    """Delivers each message at once, in ascending order of node id; keeps replies until they are pulled."""

    def __init__(self, apps: Mapping[int, ClientApp]) -> None:
        self._apps = dict(sorted(apps.items()))
        self._contexts = {node: context_of(node) for node in self._apps}
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(RUN)
        ensure_identity()

    def set_run(self, run: Run) -> None:
        """Set the run; in process there is one."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run this grid serves."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message to `dst_node_id`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all node ids, ascending."""
        return list(self._apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message and keep its reply; return the message ids."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return and forget the replies that are there."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver and return the replies; in process nothing is late, so `timeout` never strikes."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        node = message.metadata.dst_node_id
        message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        identity = message.metadata.message_id
        try:
            self._replies[identity] = self._apps[node](message, self._contexts[node])
        except Exception as error:  # noqa: BLE001 - as Flower does: an app that raises becomes an error reply
            fault = Error(code=CLIENT_APP_RAISED, reason=type(error).__name__)
            self._replies[identity] = Message(fault, reply_to=message)
        return identity


def context_of(node: int) -> Context:
    """Return an empty Flower context for `node`."""
    return Context(run_id=RUN, node_id=node, node_config={}, state=RecordDict(), run_config={})


def ensure_identity() -> None:
    """Give this process a Flower identity unless Flower's runtime has: a Message cannot be made without one."""
    if TaskIdentity._run_id is None:
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN, 1, SERVER_NODE
