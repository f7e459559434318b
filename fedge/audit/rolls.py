"""Events that begin a list which is too long for one entry of the log.

An entry bundle gives an entry 64 kB, room for a few hundred clients by name. What a round or a run of thousands has to
list stands in these, in order, and ends in the entry that closes it; all of them are appended together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedge.audit.forms import Moment, Name, Text
from fedge.audit.parts import Aim, Participant, Party


@dataclass(frozen=True)
class RoundRoll:
    """A part of the list of who took part in a round, of which the rest follows: an entry has room for a few hundred.

    The list is that of all these entries of the round, in order, and of the `round_close` after them.
    """

    aims: ClassVar[tuple[Aim, ...]] = ("risk", "post-market")
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    round: int
    participants: tuple[Participant, ...]


@dataclass(frozen=True)
class RunRoll:
    """A part of what the `run_close` after it counts: how many entries each of these clients has."""

    aims: ClassVar[tuple[Aim, ...]] = ("post-market",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    leaves: Mapping[Name, int]
