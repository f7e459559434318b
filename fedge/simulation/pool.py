"""Clients in several processes of this machine: as many cores, the very same answers.

Each process owns the clients of some packs (`rounds.folder`), so that every file has one writer, and runs a fleet of
its own over them; which process a client is in changes nothing of what it answers. The model is written once into
memory that all processes share; answers come back through a pipe.

Processes are forked, so a task may be made of any Python at all, and its data are not copied. Connections and open
clients of the parent are not used in a child (`Sites.after_fork`).
"""

from __future__ import annotations

import mmap
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import numpy as np

from fedge.errors import FedgeError, RoundError
from fedge.ids import ClientId
from fedge.params import Params
from fedge.rounds.folder import pack_of
from fedge.rounds.messages import Fleet, Kind, Parcel

BOARD_BYTES = 2**28
"""Address space for the model that all processes see; only what is written takes memory."""


@dataclass(frozen=True)
class Posted:
    """Where each tensor lies on the board: name, type, shape, offset in bytes."""

    places: tuple[tuple[str, str, tuple[int, ...], int], ...]


class Board:
    """Memory that a process and its children share, for one set of tensors at a time."""

    def __init__(self, size: int = BOARD_BYTES) -> None:
        self._memory = mmap.mmap(-1, size)

    def post(self, tensors: Params) -> Posted | None:
        """Write `tensors` over what was there, and return where they lie; None if they are too large."""
        places, offset = [], 0
        for name, array in tensors.items():
            if offset + array.nbytes > len(self._memory):
                return None
            self._memory[offset : offset + array.nbytes] = np.ascontiguousarray(array).tobytes()
            places.append((name, array.dtype.str, array.shape, offset))
            offset += -(-array.nbytes // 64) * 64
        return Posted(tuple(places))

    def read(self, posted: Posted) -> Params:
        """Return copies of the tensors that were posted."""
        found = {}
        for name, dtype, shape, offset in posted.places:
            count = int(np.prod(shape, dtype=np.int64))
            found[name] = np.frombuffer(self._memory, dtype, count, offset).reshape(shape).copy()
        return found


class PoolFleet:
    """A Fleet over `workers` processes; `make` returns, in a child, the fleet of the clients that it is given.

    To be entered: processes begin then, and end when it is left.
    """

    def __init__(self, names: Sequence[ClientId], make: Callable[[Sequence[ClientId]], Fleet], workers: int) -> None:
        self._names, self._make, self._workers = sorted(names), make, workers
        self._board = Board()
        self._pipes: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("fork")
        for number in range(self._workers):
            ours, theirs = context.Pipe()
            names = [name for name in self._names if self._worker(name) == number]
            process = context.Process(target=self._serve, args=(ours, theirs, names), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()  # its process reads the end, and leaves
        for process in self._processes:
            process.join()

    def roster(self) -> Sequence[ClientId]:
        """Return all clients, sorted."""
        return list(self._names)

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        """Hand each parcel to the process of its client. Raises RoundError if a process has died."""
        known = set(self._names)
        asked = {name: parcels[name] for name in sorted(parcels) if name in known}
        posted = self._posted(asked)
        busy = []
        for number, pipe in enumerate(self._pipes):
            own = {name: parcel for name, parcel in asked.items() if self._worker(name) == number}
            if own:
                bare = {name: Parcel(parcel.statements) for name, parcel in own.items()} if posted else own
                self._speak(number, partial(pipe.send, (kind, bare, posted)))
                busy.append(number)
        answers: dict[ClientId, Parcel] = {}
        for number in busy:
            answers |= self._speak(number, self._pipes[number].recv)
        return dict(sorted(answers.items()))

    def _posted(self, parcels: Mapping[ClientId, Parcel]) -> Posted | None:
        """Post the tensors that all parcels share; None if each has its own."""
        tensors = next((parcel.tensors for parcel in parcels.values()), {})
        same = all(parcel.tensors is tensors for parcel in parcels.values())
        return self._board.post(tensors) if tensors and same else None

    def _worker(self, name: ClientId) -> int:
        return pack_of(name) % self._workers

    def _speak(self, number: int, do: Callable[[], object]) -> Mapping[ClientId, Parcel]:
        try:
            said = do()
        except (EOFError, OSError) as error:
            process = self._processes[number]
            process.join(1)
            raise RoundError(
                f"process {number + 1} of {self._workers} of engine=pool has died (exit code {process.exitcode}); "
                "-9 means that it was killed, most often for want of memory: lower `workers`, or the clients a round "
                "asks. Nothing that was promised is lost; go on with: fedge run resume=RUN"
            ) from error
        if isinstance(said, FedgeError):
            raise said
        return said or {}  # type: ignore[return-value]

    def _serve(self, parents: Connection, pipe: Connection, names: Sequence[ClientId]) -> None:
        """Answer what comes through `pipe` until the parent has closed its end, or is dead.

        Ctrl-C is the parent's business.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for inherited in (parents, *self._pipes):  # nobody but the parent may hold these open
            inherited.close()
        fleet = self._make(names)
        while True:
            try:
                kind, parcels, posted = pipe.recv()
            except EOFError:
                return
            if posted is not None:
                tensors = self._board.read(posted)
                parcels = {name: Parcel(parcel.statements, tensors) for name, parcel in parcels.items()}
            try:
                pipe.send(dict(fleet.dispatch(kind, parcels)))
            except FedgeError as error:
                pipe.send(error)
