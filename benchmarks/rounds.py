"""Rounds per second of the demo's workload, and where the time goes: `make bench`.

Time is measured at the doors of the rooms (training, accounting, permission, ledger, log, carrying), by wrapping the
functions that lead into them; what is nested is counted once, for the innermost room. Two peers stand in the same run:
plain Opacus on the same model and steps, and the same run without Flower between the parties.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import opacus
import torch
from rich.console import Console
from rich.table import Table

from fedge.assemble import assemble
from fedge.audit.log import AuditLog
from fedge.audit.witness import Witness
from fedge.carrying import carry
from fedge.compose import compose
from fedge.config import Training
from fedge.consent.store import PermissionStore
from fedge.flower import wire
from fedge.ids import RunId
from fedge.learning.task import Task
from fedge.learning.tasks import builtin
from fedge.privacy import accountant
from fedge.privacy.ledger import Ledger
from fedge.rounds import book, client, sealing, statement, vouch
from fedge.rounds.folder import RunFolder
from fedge.rounds.memory import Memory
from fedge.rounds.messages import Fleet

LIMIT = 0.05
"""Permission check, ledger and log together must stay below this share of a round."""
GUARDED = ("permission", "ledger", "log")
WARM_UP = 2


class Stopwatch:
    """Seconds spent in each room; a room entered from another pauses the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def in_room(self, room: str) -> Iterator[None]:
        self._turn()
        self._stack.append(room)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def reset(self) -> None:
        self._turn()
        self.seconds = {}

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._stack:
            room = self._stack[-1]
            self.seconds[room] = self.seconds.get(room, 0.0) + now - self._since
        self._since = now

    def door(self, owner: Any, name: str, room: str) -> Callable[[], None]:
        """Wrap `owner.name` so that it counts for `room`; return what undoes it."""
        inner = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.in_room(room):
                return inner(*args, **kwargs)

        setattr(owner, name, wrapped)
        return lambda: setattr(owner, name, inner)


def doors(watch: Stopwatch) -> list[Callable[[], None]]:
    """Hang a door before every room; the names are where each room is entered from."""
    return [
        watch.door(client, "train", "training"),
        watch.door(accountant, "_epsilon", "accounting"),
        watch.door(PermissionStore, "withdrawals", "permission"),
        watch.door(PermissionStore, "judge", "permission"),
        watch.door(Ledger, "reserve", "ledger"),
        watch.door(Ledger, "commit", "ledger"),
        watch.door(Ledger, "spent", "ledger"),
        watch.door(Ledger, "head", "ledger"),
        watch.door(Ledger, "budget", "ledger"),
        watch.door(AuditLog, "append", "log"),
        watch.door(AuditLog, "publish", "log"),
        watch.door(sealing.Sealer, "seal", "log"),
        watch.door(vouch, "_cosign", "log"),
        watch.door(Witness, "add_checkpoint", "log"),
        watch.door(statement, "encode", "log"),
        watch.door(book.Book, "append", "log"),
        watch.door(Memory, "keep", "client memory"),
        watch.door(wire, "to_record", "serialisation"),
        watch.door(wire, "from_record", "serialisation"),
    ]


def measured(rounds: int, engine: str) -> tuple[list[float], dict[str, float]]:
    """Return the seconds of each round after the warm-up, and the mean seconds of a round in each room."""
    watch, ends = Stopwatch(), [time.perf_counter()]
    undo = doors(watch)
    try:
        with tempfile.TemporaryDirectory() as out:
            config = compose([f"rounds={rounds + WARM_UP}", f"engine={engine}", "evaluation.federated=none"])
            assembled = assemble(config, builtin("cancer"), RunId("bench"), RunFolder(Path(out)))

            def body(fleet: Fleet) -> None:
                with watch.in_room("rest"):
                    for record in assembled.coordinator(fleet).rounds():
                        ends.append(time.perf_counter())
                        if record.round == WARM_UP:
                            watch.reset()

            carry(assembled, body)
    finally:
        for restore in undo:
            restore()
    return list(np.diff(ends[WARM_UP:])), {room: spent / rounds for room, spent in watch.seconds.items()}


def plain_opacus(rounds: int) -> float:
    """Return the seconds that Opacus' own PrivacyEngine takes for the training of one round, all clients."""
    config, task = compose([]), builtin("cancer")
    train = task.load().train
    size = len(train) // config.population.clients
    data = torch.utils.data.TensorDataset(
        torch.from_numpy(train.features[:size]), torch.from_numpy(train.targets[:size])
    )
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(config.population.clients):
            _opacus_client(task, data, config.training)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _opacus_client(task: Task, data: torch.utils.data.TensorDataset, training: Training) -> None:
    module = task.model()
    optimizer = torch.optim.SGD(module.parameters(), lr=training.learning_rate)
    loader = torch.utils.data.DataLoader(data, batch_size=round(training.sample_rate * len(data)))
    module, optimizer, loader = opacus.PrivacyEngine().make_private(
        module=module, optimizer=optimizer, data_loader=loader, noise_multiplier=3.9, max_grad_norm=1.0
    )
    done = 0
    while done < training.steps:
        for features, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(features), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done += 1
            if done == training.steps:
                break


def main() -> None:
    """Measure, print, and leave with exit code 1 if the guarded rooms take more than their share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    flower, rooms = measured(chosen.rounds, "flower")
    direct, _ = measured(chosen.rounds, "direct")
    opacus_seconds = plain_opacus(5)
    whole = sum(rooms.values())
    guarded = sum(rooms.get(room, 0.0) for room in GUARDED) / whole
    found = {
        "rounds_per_second": 1 / statistics.median(flower),
        "milliseconds_per_round": {room: 1000 * spent for room, spent in sorted(rooms.items(), key=lambda r: -r[1])},
        "share_of_permission_ledger_and_log": guarded,
        "limit": LIMIT,
        "flower_to_plain_calls": statistics.median(flower) / statistics.median(direct),
        "training_to_plain_opacus": rooms["training"] / opacus_seconds,
    }
    if chosen.format == "json":
        print(json.dumps(found, indent=2))
    else:
        show(found, whole)
    sys.exit(0 if guarded < LIMIT else 1)


def show(found: dict[str, Any], whole: float) -> None:
    """Print the measurements as a table."""
    console = Console()
    table = Table("where a round goes", "ms", "share", title=f"{found['rounds_per_second']:.2f} rounds per second")
    for room, spent in found["milliseconds_per_round"].items():
        table.add_row(room, f"{spent:.1f}", f"{spent / whole / 10:.1f} %")
    console.print(table)
    console.print(f"permission, ledger and log: {100 * found['share_of_permission_ledger_and_log']:.1f} % (limit 5 %)")
    console.print(f"Flower between the parties / plain calls: {found['flower_to_plain_calls']:.2f}")
    console.print(f"our private training / plain Opacus, same steps: {found['training_to_plain_opacus']:.2f}")


if __name__ == "__main__":
    main()
