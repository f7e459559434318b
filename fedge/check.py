"""What must hold in a run's folder after any crash, before and after a restart: the three orders of effect, on disk.

`check_house` reads every file of a run, public and private; an auditor, who has only the public ones, uses
`audit.verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge import params as parameters
from fedge.audit.checkpoint import parse_body
from fedge.audit.leaves import DataUse, RoundClose, RunOpen, decode
from fedge.audit.log import published
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.verify import Unproven, read_log
from fedge.encoding import b64decode, parse
from fedge.errors import FedgeError, LedgerError, ProofError
from fedge.ids import Lineage
from fedge.privacy.ledger import Ledger
from fedge.rounds.folder import ClientFolder, RunFolder, client_folders
from fedge.rounds.memory import Memory
from fedge.storage import journal_of


@dataclass(frozen=True)
class Promise:
    """One promise, whether it is kept, and by what it was judged."""

    name: str
    kept: bool
    text: str


def check_house(run: Path, clients: Path | None = None) -> list[Promise]:
    """Return every promise and whether the files in `run` keep it; `clients` is their home if it is elsewhere.

    Raises ConfigError if `run` is not the folder of a run.
    """
    folder = RunFolder(run)
    entries = journal_of(run).read()
    homes = list(client_folders(clients or folder.clients).values())
    questions: list[tuple[str, Callable[[], str]]] = [
        ("the published log is a part of the server's", lambda: _published_prefix(folder, entries)),
        ("log before release", lambda: _log_before_release(folder)),
        ("spend before send", lambda: _spend_before_send(homes, entries)),
        ("no refund", lambda: _no_refund(homes, entries)),
        ("no fork", lambda: _no_fork(homes, entries)),
    ]
    return [_promise(name, question) for name, question in questions]


def _promise(name: str, question: Callable[[], str]) -> Promise:
    try:
        return Promise(name, True, question())
    except FedgeError as error:
        return Promise(name, False, str(error))


def _published_prefix(folder: RunFolder, entries: Sequence[bytes]) -> str:
    note = published(folder.audit)
    if note is None:
        return "nothing is published yet"
    shown = parse_body(note.body)
    if shown.size > len(entries) or Tree(map(leaf_hash, entries[: shown.size])).root() != shown.root:
        raise ProofError(f"the published checkpoint shows {shown.size} entries that the server does not hold")
    return f"{shown.size} published entries of {len(entries)}"


def _log_before_release(folder: RunFolder) -> str:
    """The public model is one that the published log names."""
    if not folder.model.exists():
        return "no model is released yet"
    released = parameters.digest(parameters.load(folder.model))
    leaves = [decode(entry)[0] for entry in _published(folder)]
    named = {e.initial_model for e in leaves if isinstance(e, RunOpen)}
    named |= {e.model_out for e in leaves if isinstance(e, RoundClose)}
    if released not in named:
        raise ProofError(f"the released model {released} is in no published entry")
    return f"the released model {released[:23]}… is in the published log"


def _published(folder: RunFolder) -> Sequence[bytes]:
    """Return the entries as the public sees them, by the very reader that an auditor has."""
    try:
        return read_log(folder.audit).entries
    except Unproven as error:
        raise ProofError(str(error)) from error


def _spend_before_send(homes: Sequence[ClientFolder], entries: Sequence[bytes]) -> str:
    """Every statement of a client names a ledger head that its ledger still holds, with a reservation below it."""
    count = 0
    for home in homes:
        ledger = Ledger(home.journal("spends"))
        heads, spends = ledger.heads(), dict[str, set[object]]()
        for use in _uses(home, entries):
            _check_head(heads, use)
            if use.outcome != "refused":  # with seeded dice the same order done again is the same release
                spends.setdefault(use.dataset.lineage, set()).add(use.seq if use.privacy.secure_noise else use.order)
            count += 1
        for lineage, stated in spends.items():
            if len(ledger.spent(Lineage(lineage))) < len(stated):
                raise LedgerError(
                    f"{home.root}: {len(stated)} uses of {lineage} are stated, fewer spends are in its ledger"
                )
    return f"{count} statements, each with its spend in the ledger"


def _check_head(heads: frozenset[str], use: DataUse) -> None:
    """Raise LedgerError unless the ledger head that `use` states is one that its ledger has had."""
    if use.privacy.ledger_head is not None and use.privacy.ledger_head not in heads:
        raise LedgerError(f"{use.client} stated a ledger head in round {use.round} that its ledger does not hold")


def _no_refund(homes: Sequence[ClientFolder], entries: Sequence[bytes]) -> str:
    """No ledger says less than what its owner has stated in the log."""
    for home in homes:
        ledger = Ledger(home.journal("spends"))
        for use in _uses(home, entries):
            delta, stated = use.privacy.delta, use.privacy.epsilon_total
            if delta is None or stated is None:
                continue
            if ledger.epsilon(Lineage(use.dataset.lineage), float(delta)) < float(stated) - 1e-9:
                raise LedgerError(f"{use.client} has stated epsilon {stated}, its ledger says less: a refund")
    return f"{len(homes)} ledgers, none below what was stated"


def _no_fork(homes: Sequence[ClientFolder], entries: Sequence[bytes]) -> str:
    """What each witness has pinned is a beginning of the server's log, and what it has receipts for is in it."""
    tree = Tree(map(leaf_hash, entries))
    for home in homes:
        for pin in map(parse, home.journal("pins").read()):
            if _is_this_log(pin["origin"], entries) and (
                pin["size"] > tree.size or tree.root(pin["size"]) != b64decode(pin["root"])
            ):
                raise ProofError(
                    f"{home.root} has pinned {pin['size']} entries that the server's log does not begin with"
                )
    return f"{len(homes)} witnesses have seen one log"


def _is_this_log(origin: str, entries: Sequence[bytes]) -> bool:
    return bool(entries) and origin == f"fedge/{decode(entries[0])[0].run}"


def _uses(home: ClientFolder, entries: Sequence[bytes]) -> list[DataUse]:
    """Return the client's own statements of data use in this run, logged or not."""
    if not entries:
        return []
    run = decode(entries[0])[0].run
    memory = Memory(home.journal("answers"), home.answer)
    leaves = [decode(a.leaf_bytes)[0] for a in memory.answers(run)]
    return [leaf for leaf in leaves if isinstance(leaf, DataUse)]
