"""A run that kills its own process at the n-th time it reaches a step: `python -m tests.rounds.dying OUT PARTY STEP N`.

What follows are overrides in place of the usual ones. With PARTY `resume`, OUT is the run's folder and the run is
continued instead.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from fedge.assemble import Hooks
from fedge.running import resume, run
from tests.conftest import SMALL

torch.set_num_threads(1)


def main(out: str, party: str, step: str, nth: str, *overrides: str) -> None:
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == step
        if name == step and seen == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    hooks = Hooks(server=reached) if party == "server" else Hooks(client=lambda _client: reached)
    if (Path(out) / "config.yaml").exists():
        resume(Path(out), hooks=hooks)
    else:
        run(*(overrides or SMALL), f"out={out}", hooks=hooks)


if __name__ == "__main__":
    main(*sys.argv[1:])
