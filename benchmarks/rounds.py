"""Rounds per second of the demo's workload, and where the time goes: `make bench`.

Time is measured at the doors of the rooms (training, accounting, permission, ledger, log, carrying), by wrapping the
functions that lead into them; what is nested is counted once, for the innermost room. Two peers stand in the same run:
plain Opacus on the same model and steps, and the same run without Flower between the parties.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import opacus
import torch
from rich.console import Console
from rich.table import Table

from fedge.audit.log import AuditLog
from fedge.audit.witness import Witness
from fedge.consent.grants import Permissions
from fedge.consent.store import PermissionStore
from fedge.flower import wire
from fedge.learning.tasks import builtin
from fedge.privacy import accountant
from fedge.privacy.ledger import Ledger
from fedge.rounds import client, coordinator, sealing, statement, vouch
from fedge.rounds.memory import Memory
from fedge.rounds.record import RoundRecord
from fedge.running import Watch, run

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
        watch.door(PermissionStore, "state", "permission"),
        watch.door(PermissionStore, "withdrawals", "permission"),
        watch.door(Permissions, "judge", "permission"),
        watch.door(Permissions, "next_change", "permission"),
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
        watch.door(coordinator.Book, "append", "log"),
        watch.door(Memory, "keep", "client memory"),
        watch.door(wire, "to_record", "serialisation"),
        watch.door(wire, "from_record", "serialisation"),
    ]


def measured(rounds: int, engine: str) -> tuple[list[float], dict[str, float]]:
    """Return the seconds of each round after the warm-up, and the seconds per room over those rounds."""
    watch, ends = Stopwatch(), []
    undo = doors(watch)

    def on_round(record: RoundRecord) -> None:
        ends.append(time.perf_counter())
        if record.round == WARM_UP:
            watch.reset()

    try:
        with tempfile.TemporaryDirectory() as out, watch.in_room("rest"):
            run(
                f"rounds={rounds}", f"engine={engine}", f"out={out}", "evaluation.federated=none",
                watch=Watch(on_round=on_round, on_step=lambda _what: watch.seconds.update(_frozen(watch))),
            )  # fmt: skip
    finally:
        for restore in undo:
            restore()
    return list(np.diff(ends[WARM_UP - 1 :])), FROZEN


FROZEN: dict[str, float] = {}


def _frozen(watch: Stopwatch) -> dict[str, float]:
    """Keep what was measured when the rounds are over: what follows (report, verification) is no part of a round."""
    if not FROZEN:
        watch._turn()
        FROZEN.update(watch.seconds)
    return {}
