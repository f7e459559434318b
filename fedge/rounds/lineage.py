"""Which rounds a person's records went into, and which models come from those: the client's private index, read.

Only the client can answer: its memory keeps a bitmap per answer, and the cohort says whose record each bit is. The log
holds neither. A model *includes* a person if an update of a round in which their records were read is in it, or if it
descends from such a model: training goes on from it, so their traces do too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedge.audit.leaves import DataUse, decode
from fedge.ids import Lineage
from fedge.rounds.approval import Approvals
from fedge.rounds.memory import Memory, indices


class Logged(Protocol):
    """One verified entry of a log, as `audit.verify` returns it."""

    @property
    def event(self) -> str:
        """Its type, e.g. `round_close`."""
        ...

    @property
    def payload(self) -> Mapping[str, Any]:
        """What it states."""
        ...


@dataclass(frozen=True)
class Use:
    """One answer of the client that concerned a person's records.

    `pooled`: batches were drawn from a pool that held them (under Poisson sampling each record has its own coin, so
    that alone tells nothing of their content); `read`: a batch held one; `left`: an update computed so has left.
    """

    run: str
    seq: int
    leaf: DataUse
    pooled: bool
    read: bool

    @property
    def left(self) -> bool:
        """Whether something computed from their records has left the client."""
        return self.read and self.leaf.outcome == "submitted"


def uses(memory: Memory, approvals: Approvals, run: str, subject: str) -> list[Use]:
    """Return every answer of the client in `run` that concerned the records of `subject`, in order."""
    found = []
    for seq, leaf, pool, used in _answers(memory, run):
        cohort = approvals.cohort(Lineage(leaf.dataset.lineage), leaf.dataset.commitment)
        places = set(cohort.places(subject)) if cohort else set()
        pooled, read = bool(places & set(indices(pool).tolist())), bool(places & set(indices(used).tolist()))
        if pooled or read:
            found.append(Use(run, seq, leaf, pooled, read))
    return found


def first_pooled(found: Sequence[Use]) -> int | None:
    """Return the first round whose batches were drawn from a pool that held the person, None if there is none.

    Before it the run is, byte for byte, one that never had the person. Later it is not, even in a round that read none
    of their records: the pool's size decides which coin each other record is given.
    """
    return min((u.leaf.round for u in found if u.leaf.work == "train"), default=None)


def first_used(found: Sequence[Use]) -> int | None:
    """Return the first round whose model includes the person, None if there is none."""
    return min((u.leaf.round for u in found if u.leaf.work == "train" and u.left), default=None)


def models_with(entries: Sequence[Logged], found: Sequence[Use]) -> dict[int, str]:
    """Return every model version that includes the person, by round, from the verified `entries` of the run's log.

    The first is that of the first round in which the server accepted an update computed from their records.
    """
    closings = [e.payload for e in entries if e.event == "round_close"]
    lists = [*closings, *(e.payload for e in entries if e.event == "round_roll")]
    accepted = {(c["round"], p["client"]) for c in lists for p in c["participants"] if p["outcome"] == "accepted"}
    first = first_used([u for u in found if (u.leaf.round, u.leaf.client) in accepted])
    return {c["round"]: c["model_out"] for c in closings if first is not None and c["round"] >= first}


def known_models(memory: Memory, used: Mapping[str, int]) -> list[str]:
    """Return the models that the client was sent and that include somebody; `used` is the first round by run."""
    return list(
        dict.fromkeys(
            leaf.model_in
            for run, first in used.items()
            for _, leaf, _, _ in _answers(memory, run)
            if includes(leaf.work, leaf.round, first)
        )
    )


def includes(work: str, round_: int, first: int) -> bool:
    """Return whether the model sent with an order is later than what round `first` made of the one before."""
    return round_ > first if work == "train" else round_ >= first


def _answers(memory: Memory, run: str) -> Iterator[tuple[int, DataUse, str, str]]:
    for answer in memory.answers(run):
        leaf = decode(answer.leaf_bytes)[0]
        if isinstance(leaf, DataUse):
            yield answer.seq, leaf, answer.pool, answer.used
