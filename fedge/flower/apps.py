"""fedge as a Flower ClientApp and ServerApp: thin shells around two functions.

The ClientApp hands every parcel to the client's own `answer`; the ServerApp hands a Fleet to the caller's
body. The same two objects run in process (`grid.InProcessGrid`) and under Flower's own runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedge.flower import wire
from fedge.flower.fleet import FlowerFleet
from fedge.flower.grid import InProcessGrid, context_of
from fedge.ids import ClientId
from fedge.rounds.messages import Fleet, Kind, Parcel

Answer = Callable[[Kind, Parcel], Parcel]
"""What a client does with a parcel; it answers refusals too, and raises only if it is broken."""


def client_app(answer: Answer) -> ClientApp:
    """Return the ClientApp of one client: `train` carries work, `query` carries hello, seal and secure."""
    app = ClientApp()

    def handler(kind: Kind) -> Callable[[Message, Context], Message]:
        def handle(message: Message, _context: Context) -> Message:
            return Message(wire.to_record(answer(kind, wire.from_record(message.content))), reply_to=message)

        return handle

    app.train()(handler("work"))
    app.query("hello")(handler("hello"))
    app.query("seal")(handler("seal"))
    app.query("secure")(handler("secure"))
    return app


def server_app(body: Callable[[Fleet], None], hello: Parcel) -> ServerApp:
    """Return the ServerApp whose main gives `body` a fleet over Flower's grid."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        body(FlowerFleet(grid, hello))

    return app


def run_in_process(answers: Mapping[ClientId, Answer], body: Callable[[Fleet], None], hello: Parcel) -> None:
    """Run `body` as a ServerApp against one ClientApp per client, all in this process."""
    first_node = 2
    apps = {first_node + i: client_app(answers[name]) for i, name in enumerate(sorted(answers))}
    server_app(body, hello)(InProcessGrid(apps), context_of(1))
