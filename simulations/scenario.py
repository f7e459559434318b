"""A scenario: a story in one paragraph, a run, and what must be true of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fedge

SMALL = ("population.clients=3", "population.shares=[0.5,0.3,0.2]", "rounds=3", "training.steps=10")
"""Three hospitals and three rounds: enough to tell a story in seconds."""


@dataclass(frozen=True)
class Claim:
    """One sentence that a scenario asserts, and whether it is true."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Scenario:
    """`play` makes the story happen below a folder and returns what is claimed of it."""

    name: str
    story: str
    play: Callable[[Path], Sequence[Claim]]


def run(out: Path, *overrides: str) -> fedge.Result:
    """Run three hospitals on the cancer task below `out`, with `overrides`."""
    return fedge.run("task=cancer", *SMALL, *overrides, f"out={out}")


def uses(result: fedge.Result, client: str) -> list[dict[str, object]]:
    """Return what `client` stated of each training order, in the order of the log."""
    payloads = [dict(e.payload) for e in result.verification.entries if e.event == "data_use"]
    return [p for p in payloads if p["client"] == client and p["work"] == "train"]


def sound(result: fedge.Result) -> list[Claim]:
    """Return the claims that every story ends with."""
    broken = [p.name for p in fedge.check_house(result.folder) if not p.kept]
    return [
        Claim("the log holds for an auditor with public keys alone", result.verification.holds),
        Claim("no promise is broken on disk", not broken),
    ]
