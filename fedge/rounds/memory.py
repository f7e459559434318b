"""What a client remembers of its own statements: durable before anything is sent, private for ever.

Every statement (log leaf) a client makes goes here first, with the tensors it names and the records it used.
So an order asked twice is answered with the same bytes, without touching a record or spending anew; the chain of
a client's leaves has no gap; and the client knows which leaves the server has not yet proved to have logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedge import params as parameters
from fedge.encoding import b64decode, b64encode, canonical, digest, from_plain, parse, to_plain
from fedge.errors import LedgerError, ParseError
from fedge.files import write_atomically
from fedge.journal import Journal
from fedge.params import Params

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


class Memory:
    """A client's statements and receipts in a Journal; the tensors of the last answer in a file beside it."""

    def __init__(self, journal: Journal, tensors_path: Path) -> None:
        self._journal, self._path = journal, tensors_path
        self._read = 0
        self._answers: dict[str, list[Answer]] = {}
        self._receipts: dict[str, dict[int, str]] = {}

    def runs(self) -> list[str]:
        """Return every run that the client has made a statement in, in the order of its first ones."""
        self._refresh()
        return list(self._answers)

    def answers(self, run: str) -> Sequence[Answer]:
        """Return the client's statements in `run`, in order."""
        self._refresh()
        return self._answers.get(run, [])

    def answer_to(self, run: str, substance: str) -> Answer | None:
        """Return the latest statement that answers an order of this substance."""
        return next((a for a in reversed(self.answers(run)) if a.substance == substance), None)

    def previous(self, run: str) -> str | None:
        """Return the digest of the client's latest leaf in `run`."""
        answers = self.answers(run)
        return digest(answers[-1].leaf_bytes) if answers else None

    def unreceipted(self, run: str) -> list[Answer]:
        """Return the statements that the server has not yet proved to have logged."""
        done = self.receipts(run)
        return [a for a in self.answers(run) if a.seq not in done]

    def overdue(self, run: str, before_round: int) -> list[Answer]:
        """Return statements without a receipt although a later answer, of a round before `before_round`, had them too.

        One answer may be lost on the way; each hands in again what has no receipt, so two are no accident.
        """
        answered = max((a.round for a in self.answers(run) if a.round < before_round), default=0)
        return [a for a in self.unreceipted(run) if a.round < answered]

    def receipts(self, run: str) -> Mapping[int, str]:
        """Return the receipts of the client's statements in `run`, by statement."""
        self._refresh()
        return self._receipts.get(run, {})

    def keep(self, answer: Answer, tensors: Params | None) -> None:
        """Make an answer durable; the tensors first, so that a remembered answer can always be sent again."""
        if tensors is not None:
            write_atomically(self._path, parameters.to_bytes(tensors))
        self._append("answer", answer)

    def tensors_of(self, answer: Answer) -> Params | None:
        """Return the tensors of `answer` if they are still kept."""
        if answer.tensors is None:
            return {}
        if not self._path.exists():
            return None
        data = self._path.read_bytes()
        return parameters.from_bytes(data) if digest(data) == answer.tensors else None

    def receive(self, receipts: Sequence[Receipt]) -> None:
        """Remember that these leaves are proved to be in the log; may be a part of a larger transaction."""
        self._journal.append([canonical({"kind": "receipt"} | to_plain(r)) for r in receipts])

    def _append(self, kind: Literal["answer"], value: Answer) -> None:
        self._journal.append([canonical({"kind": kind} | to_plain(value))])
        self._refresh()

    def _refresh(self) -> None:
        for entry in self._journal.read(self._read):
            self._fold(entry)
            self._read += 1

    def _fold(self, entry: bytes) -> None:
        plain = parse(entry)
        kind = plain.pop("kind", None)
        if kind == "answer":
            answer = from_plain(Answer, plain, ParseError)
            chain = self._answers.setdefault(answer.run, [])
            if answer.seq != len(chain):
                raise LedgerError(f"the client's own record has a gap at statement {answer.seq} of run {answer.run}")
            chain.append(answer)
        elif kind == "receipt":
            receipt = from_plain(Receipt, plain, ParseError)
            self._receipts.setdefault(receipt.run, {})[receipt.seq] = receipt.text
        else:
            raise ParseError(f"the client's own record holds an unknown entry {kind!r}")


def bitmap(indices: NDArray[np.int64], size: int) -> str:
    """Return the set `indices` of 0 … size - 1 as base64 of packed bits."""
    marks = np.zeros(size, dtype=np.uint8)
    marks[indices] = 1
    return b64encode(np.packbits(marks).tobytes())


def indices(text: str) -> NDArray[np.int64]:
    """Return the indices of a `bitmap`; the inverse."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(b64decode(text), dtype=np.uint8))).astype(np.int64)
