"""What a client remembers of its own statements: durable before anything is sent, private for ever.

Every statement (log leaf) a client makes goes here first, with the tensors it names and the records it used.
So an order asked twice is answered with the same bytes, without touching a record or spending anew; the chain of
a client's leaves has no gap; and the client knows which leaves the server has not yet proved to have logged.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedge import params as parameters
from fedge.encoding import b64decode, b64encode, canonical, digest, from_plain, parse, to_plain
from fedge.errors import LedgerError, ParseError
from fedge.journal import Journal
from fedge.params import Params
from fedge.rounds.folder import Slot

Work = Literal["train", "evaluate", "withdrawal", "erasure", "rotation", "repeated_subjects"]
"""What a statement is about."""


@dataclass(frozen=True)
class Answer:
    """One statement of the client: the leaf, what it answers, what it used, and what opens its commitments.

    `seq` counts the client's leaves in `run`; `substance` is the digest of the order (or of the withdrawal) it speaks
    of; `tensors` the digest of the tensors beside it, if any. `pool` marks the records that batches were drawn from and
    `used` those that were read, as bitmaps over the cohort that the leaf commits to: the private index of who was in
    which round. `opening` holds exact counts and nonce; `ledger` is the head of the privacy ledger that it states,
    `<size>@<digest>`.
    """

    run: str
    work: Work
    round: int
    seq: int
    substance: str
    leaf: str
    tensors: str | None = None
    pool: str = ""
    used: str = ""
    opening: str = ""
    ledger: str | None = None

    @property
    def leaf_bytes(self) -> bytes:
        """The leaf as it goes into the log."""
        return b64decode(self.leaf)


@dataclass(frozen=True)
class Receipt:
    """The server has proved that leaf `seq` of `run` is in its log; `text` is the tlog-proof."""

    run: str
    seq: int
    text: str


@dataclass
class _Chain:
    """What is kept at hand of a client's statements in one run: a few bytes for each, the rest is in the journal.

    `places` are their positions in the journal, `rounds` what they speak of, `open` those without a receipt;
    `receipts` are the positions of what proves the others; `by_substance` is the latest statement of each substance;
    `latest` the highest round of each kind of work, with its substances.
    """

    places: array[int]
    rounds: array[int]
    open: set[int]
    receipts: dict[int, int]
    by_substance: dict[bytes, int]
    latest: dict[str, tuple[int, frozenset[str]]]
    last: str | None = None
    ledger: str | None = None


class Memory:
    """A client's statements and receipts in a Journal; the tensors of the last answer in a slot beside it.

    Only an index of the journal is in memory, so that a client of many rounds is not larger than one of few.
    """

    def __init__(self, journal: Journal, tensors: Slot) -> None:
        self._journal, self._tensors = journal, tensors
        self._read = 0
        self._chains: dict[str, _Chain] = {}

    def runs(self) -> list[str]:
        """Return every run that the client has made a statement in, in the order of its first ones."""
        self._refresh()
        return [run for run, chain in self._chains.items() if chain.places]

    def answers(self, run: str) -> Sequence[Answer]:
        """Return the client's statements in `run`, in order."""
        return self._read_at(self._chain(run).places)

    def count(self, run: str) -> int:
        """Return how many statements the client has made in `run`."""
        return len(self._chain(run).places)

    def statement(self, run: str, seq: int) -> Answer:
        """Return statement `seq` of the client in `run`."""
        return self._read_at([self._chain(run).places[seq]])[0]

    def latest(self, run: str, work: Work) -> tuple[int, frozenset[str]]:
        """Return the highest round that a statement about `work` speaks of (-1: none), and the orders answered in it.

        Orders are named by their substance.
        """
        return self._chain(run).latest.get(work, (-1, frozenset()))

    def stated_ledger(self, run: str) -> str | None:
        """Return the head of the ledger that the latest statement with one has named."""
        return self._chain(run).ledger

    def answer_to(self, run: str, substance: str) -> Answer | None:
        """Return the latest statement that answers an order of this substance."""
        place = self._chain(run).by_substance.get(_mark(substance))
        return None if place is None else self._read_at([place])[0]

    def previous(self, run: str) -> str | None:
        """Return the digest of the client's latest leaf in `run`."""
        return self._chain(run).last

    def unreceipted(self, run: str) -> list[Answer]:
        """Return the statements that the server has not yet proved to have logged."""
        chain = self._chain(run)
        return self._read_at([chain.places[seq] for seq in sorted(chain.open)])

    def overdue(self, run: str, before_round: int) -> list[int]:
        """Return which statements have no receipt although a later answer, of a round before `before_round`, had them.

        One answer may be lost on the way; each hands in again what has no receipt, so two are no accident.
        """
        chain = self._chain(run)
        if not chain.open:
            return []
        answered = max((r for r in chain.rounds if r < before_round), default=0)
        return [seq for seq in sorted(chain.open) if chain.rounds[seq] < answered]

    def receipts(self, run: str) -> Mapping[int, str]:
        """Return the receipts of the client's statements in `run`, by statement."""
        found = self._chain(run).receipts
        entries = self._journal.pick(list(found.values()))
        return {seq: str(parse(entry)["text"]) for seq, entry in zip(found, entries, strict=True)}

    def keep(self, answer: Answer, tensors: Params | None) -> None:
        """Make an answer durable; the tensors first, so that a remembered answer can always be sent again."""
        if tensors is not None:
            self._tensors.put(parameters.to_bytes(tensors))
        self._journal.append([canonical({"kind": "answer"} | to_plain(answer))])
        self._refresh()

    def tensors_of(self, answer: Answer) -> Params | None:
        """Return the tensors of `answer` if they are still kept."""
        if answer.tensors is None:
            return {}
        data = self._tensors.get()
        return parameters.from_bytes(data) if data is not None and digest(data) == answer.tensors else None

    def receive(self, receipts: Sequence[Receipt]) -> None:
        """Remember that these leaves are proved to be in the log; may be a part of a larger transaction."""
        self._journal.append([canonical({"kind": "receipt"} | to_plain(r)) for r in receipts])

    def _chain(self, run: str) -> _Chain:
        self._refresh()
        return self._chains.get(run) or _no_chain()

    def _read_at(self, places: Sequence[int]) -> list[Answer]:
        return [_answer(parse(entry)) for entry in self._journal.pick(places)] if places else []

    def _refresh(self) -> None:
        for entry in self._journal.read(self._read):
            self._fold(self._read, parse(entry))
            self._read += 1

    def _fold(self, position: int, plain: dict[str, Any]) -> None:
        chain = self._chains.setdefault(str(plain.get("run")), _no_chain())
        match plain.get("kind"):
            case "answer":
                _hand_in(chain, position, _answer(plain))
            case "receipt":
                receipt = from_plain(Receipt, {k: v for k, v in plain.items() if k != "kind"}, ParseError)
                chain.receipts[receipt.seq] = position
                chain.open.discard(receipt.seq)
            case unknown:
                raise ParseError(f"the client's own record holds an unknown entry {unknown!r}")


def _no_chain() -> _Chain:
    return _Chain(array("q"), array("q"), set(), {}, {}, {})


def _answer(plain: dict[str, Any]) -> Answer:
    answer: Answer = from_plain(Answer, {k: v for k, v in plain.items() if k != "kind"}, ParseError)
    return answer


def _hand_in(chain: _Chain, position: int, answer: Answer) -> None:
    if answer.seq != len(chain.places):
        raise LedgerError(f"the client's own record has a gap at statement {answer.seq} of run {answer.run}")
    chain.places.append(position)
    chain.rounds.append(answer.round)
    chain.open.add(answer.seq)
    chain.by_substance[_mark(answer.substance)] = position
    chain.last, chain.ledger = digest(answer.leaf_bytes), answer.ledger or chain.ledger
    highest, substances = chain.latest.get(answer.work, (-1, frozenset()))
    if answer.round > highest:
        chain.latest[answer.work] = (answer.round, frozenset({answer.substance}))
    elif answer.round == highest:
        chain.latest[answer.work] = (highest, substances | {answer.substance})


def _mark(substance: str) -> bytes:
    """Return 16 bytes that stand for `substance` in memory."""
    return hashlib.blake2b(substance.encode(), digest_size=16).digest()


def bitmap(indices: NDArray[np.int64], size: int) -> str:
    """Return the set `indices` of 0 … size - 1 as base64 of packed bits."""
    marks = np.zeros(size, dtype=np.uint8)
    marks[indices] = 1
    return b64encode(np.packbits(marks).tobytes())


def indices(text: str) -> NDArray[np.int64]:
    """Return the indices of a `bitmap`; the inverse."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(b64decode(text), dtype=np.uint8))).astype(np.int64)
