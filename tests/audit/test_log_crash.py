"""Kill -9 between any two steps from append to release; afterwards the log extends every checkpoint ever shown.

The table is in docs/audit.md. Each process is forked from this one, so that a case costs a second and not a start.
"""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fedge.assemble import Hooks
from fedge.audit import hashes
from fedge.audit.checkpoint import Checkpoint, parse_body
from fedge.audit.log import published
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.proof import parse_receipt
from fedge.check import check_house
from fedge.encoding import b64decode, parse
from fedge.journal import SqliteJournal
from fedge.params import digest, load
from tests.audit.house import FIRST, RUN, go, opened

ROUNDS = 3
STEPS = [
    ("server", "prepared", 2),
    ("server", "half appended", 4),  # entries written, their hashes not: one transaction, so neither is there
    ("server", "appended", 2),
    ("client", "pinned", 4),  # one of three witnesses has pinned the checkpoint of round 1
    ("client", "pinned", 5),
    ("client", "pinned", 6),
    ("server", "cosigned", 2),
    ("server", "tiles", 2),
    ("server", "published", 2),
    ("server", "sealed", 2),
    ("server", "released", 2),
]


def dying(step: str, nth: int) -> Callable[[str], None]:
    """Return what kills this process when it comes to `step` for the n-th time."""
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == step
        if name == step and seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def killed(out: Path, party: str, step: str, nth: int) -> None:
    """Begin the run in a process that dies at the step; a run that ends otherwise fails the test."""
    child = os.fork()
    if child == 0:
        reached = dying(step, nth)
        store = hashes.StoredTree.store
        hashes.StoredTree.store = lambda *a: (reached("half appended"), store(*a))[1]  # type: ignore[method-assign]
        hooks = Hooks(server=reached) if party == "server" else Hooks(client=lambda _client: reached)
        try:
            go(opened(out, hooks), ROUNDS)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it went on past the step"
    assert os.WTERMSIG(status) == signal.SIGKILL


def shown(run: Path) -> set[Checkpoint]:
    """Return every checkpoint that anybody was shown: published, pinned by a witness, or under a receipt."""
    note = published(run / "audit")
    found = {parse_body(note.body)} if note else set()
    for state in (run / "clients").glob("*/state.db"):
        pins = map(parse, SqliteJournal(state, "pins").read())
        found |= {Checkpoint(p["origin"], p["size"], b64decode(p["root"])) for p in pins}
    for receipt in (run / "receipts").rglob("*.tlog-proof"):
        found.add(parse_receipt(receipt.read_text()).checkpoint)
    return found


def broken(run: Path) -> list[str]:
    return [f"{p.name}: {p.text}" for p in check_house(run) if not p.kept]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the model of the same run, not killed."""
    house = opened(tmp_path_factory.mktemp("whole"))
    go(house, ROUNDS)
    return digest(load(house.folder.model))


@pytest.mark.slow
@pytest.mark.parametrize(("party", "step", "nth"), STEPS, ids=[f"{s.replace(' ', '_')}-{n}" for _, s, n in STEPS])
def test_killed_it_extends_all_that_was_shown(tmp_path: Path, model: str, party: str, step: str, nth: int) -> None:
    killed(tmp_path, party, step, nth)
    run = tmp_path / RUN
    before = shown(run)
    assert before
    assert broken(run) == []

    house = opened(tmp_path)
    go(house, ROUNDS - (house.book.closed.round if house.book.closed else 0))
    assert broken(run) == []
    tree = Tree(leaf_hash(e) for e in house.book.log.entries())
    later = shown(run)
    assert before <= later | {c for c in before if c.size == 0}
    for checkpoint in before | later:
        assert tree.root(checkpoint.size) == checkpoint.root, f"{checkpoint.size} entries were shown, and are not these"
    for site in house.sites.values():
        assert site.findings.history() == [], "an honest server that was killed is no liar"
        assert site.memory.unreceipted(RUN) == []
    assert digest(load(house.folder.model)) == model


@pytest.mark.slow
def test_killed_twice_in_the_same_round(tmp_path: Path, model: str) -> None:
    killed(tmp_path, "client", "pinned", 5)
    seen = shown(tmp_path / RUN)
    killed(tmp_path, "server", "cosigned", 1)
    house = opened(tmp_path)
    go(house, ROUNDS - (house.book.closed.round if house.book.closed else 0))
    tree = Tree(leaf_hash(e) for e in house.book.log.entries())
    assert all(tree.root(c.size) == c.root for c in seen | shown(tmp_path / RUN))
    assert digest(load(house.folder.model)) == model


@pytest.mark.slow
def test_a_receipt_that_a_crash_took_is_laid_out_again(tmp_path: Path, model: str) -> None:
    killed(tmp_path, "client", "pinned", 4)
    run = tmp_path / RUN
    shutil.rmtree(run / "receipts", ignore_errors=True)
    house = opened(tmp_path)
    go(house, ROUNDS - 1)
    kept = {p.name for p in (run / "receipts" / FIRST).iterdir()}
    assert kept == {f"statement-{n:04d}.tlog-proof" for n in house.sites[FIRST].memory.receipts(RUN)}
    assert digest(load(house.folder.model)) == model
