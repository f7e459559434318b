"""The published log against the clients' own records: what was dropped, forked or hidden, entry by entry.

    dropped   the client has a receipt for a statement that the log does not hold
    hidden    the client handed a statement in twice, and the log does not hold it
    forked    log and client hold two different statements, or two different pasts
    unknown   the log holds a statement that the client's own record does not
    pending   handed in once, no receipt yet: it may have been lost on the way (no fault)
    found     what the client itself has found against the log, and its owner has not cleared

Reads the public log, and of each client its own folder; asks no server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from fedge.audit.checkpoint import Checkpoint, parse_body
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.proof import parse_receipt
from fedge.audit.verify import Entry, verify_run
from fedge.encoding import b64decode, parse
from fedge.errors import AuditError
from fedge.rounds.findings import Findings
from fedge.rounds.folder import ClientFolder
from fedge.rounds.memory import Memory

Kind = Literal["dropped", "hidden", "forked", "unknown", "pending", "found"]


@dataclass(frozen=True)
class Difference:
    """One difference between the log and a client's record; `statement` is the client's number of it, if it is one."""

    client: str
    kind: Kind
    statement: int | None
    text: str

    @property
    def grave(self) -> bool:
        """Whether somebody must answer for it."""
        return self.kind != "pending"


@dataclass(frozen=True)
class Reconciliation:
    """What was compared, and every difference."""

    run: str
    entries: int
    statements: Mapping[str, int]
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        """Whether nobody has to answer for anything."""
        return not any(d.grave for d in self.differences)


def reconcile(run: Path, clients: Mapping[str, ClientFolder]) -> Reconciliation:
    """Return how the log in folder `run` compares with the records of `clients`, by name.

    Raises AuditError if the log cannot be read at all.
    """
    entries = verify_run(run).entries
    if not entries:
        raise AuditError(f"the log of {run} cannot be read, so nothing can be compared; see: fedge audit verify {run}")
    name, tree = str(entries[0].payload["run"]), Tree(leaf_hash(e.raw) for e in entries)
    differences: list[Difference] = []
    counted: dict[str, int] = {}
    for client, folder in sorted(clients.items()):
        logged = [e for e in entries if e.signer == client]
        memory = Memory(folder.journal("answers"), folder.answer)
        counted[client] = len(memory.answers(name))
        differences += [
            *_statements(client, name, logged, memory),
            *_pasts(client, tree, _seen(folder, name, memory)),
            *_found(client, name, folder),
        ]
    return Reconciliation(name, len(entries), counted, tuple(differences))


def _statements(client: str, run: str, logged: Sequence[Entry], memory: Memory) -> Iterator[Difference]:
    receipts, overdue = memory.receipts(run), set(memory.overdue(run, 2**53))
    for number, (entry, answer) in enumerate(zip_longest(logged, memory.answers(run))):
        if entry is not None and answer is not None:
            if entry.raw != answer.leaf_bytes:
                text = f"entry {entry.index} is another statement {number} than the client has made"
                yield Difference(client, "forked", number, text)
        elif entry is not None:
            text = f"entry {entry.index} is signed with the client's key, and its own record does not hold it"
            yield Difference(client, "unknown", number, text)
        elif number in receipts:
            text = f"entry {parse_receipt(receipts[number]).index} was proved to be in the log, and is not there"
            yield Difference(client, "dropped", number, text)
        elif number in overdue:
            yield Difference(client, "hidden", number, "it was handed in more than once, and is not in the log")
        else:
            yield Difference(client, "pending", number, "it was handed in once, and is not in the log yet")


def _seen(folder: ClientFolder, run: str, memory: Memory) -> dict[Checkpoint, str]:
    """Return every checkpoint that the client was shown as the log of `run`, and where it kept it."""
    pins = [Checkpoint(p["origin"], p["size"], b64decode(p["root"])) for p in map(parse, folder.journal("pins").read())]
    given = {parse_body(parse_receipt(text).note.body): f"statement {n}'s" for n, text in memory.receipts(run).items()}
    return {c: f"the receipt of {whose} checkpoint" for c, whose in given.items()} | {
        c: "the checkpoint it has pinned" for c in pins if c.origin == f"fedge/{run}"
    }


def _pasts(client: str, tree: Tree, seen: Mapping[Checkpoint, str]) -> Iterator[Difference]:
    for checkpoint, what in sorted(seen.items(), key=lambda item: item[0].size):
        if checkpoint.size > tree.size:
            text = f"{what} has {checkpoint.size} entries, the log shows {tree.size}: it was cut"
            yield Difference(client, "forked", None, text)
        elif tree.root(checkpoint.size) != checkpoint.root:
            text = f"{what} has {checkpoint.size} entries that are not the first of this log: it was rewritten"
            yield Difference(client, "forked", None, text)


def _found(client: str, run: str, folder: ClientFolder) -> Iterator[Difference]:
    finding = Findings(folder.journal("findings")).against(run)
    if finding:
        yield Difference(client, "found", None, f"{finding.at}: {finding.text}")
