"""Work in a process of its own: a check of a large log takes gigabytes, which only the end of a process gives back.

The pages stay quick meanwhile, and a check that is killed for want of memory takes nothing with it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


class Apart:
    """Calls functions in new processes, one after the other. What they take and return must be fit to be pickled."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._process: SpawnProcess | None = None

    def __call__(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Return what `function` does, or raise what it raises; MemoryError if its process was killed."""
        ours, theirs = self._context.Pipe(duplex=False)
        self._process = self._context.Process(target=_answer, args=(theirs, function, args, more), daemon=True)
        self._process.start()
        theirs.close()
        try:
            answer = ours.recv()
        except EOFError:
            raise MemoryError("its process was killed; perhaps there is too little memory") from None
        finally:
            self._process.join()
        if isinstance(answer, Exception):
            raise answer
        return cast("T", answer)

    def close(self) -> None:
        """End what is going on."""
        if self._process is not None:
            self._process.kill()


def _answer(to: Connection, function: Callable[..., Any], args: Any, more: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this process
    try:
        to.send(function(*args, **more))
    except Exception as error:  # noqa: BLE001 - whoever called judges it
        to.send(error)
