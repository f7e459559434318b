"""One witness: what it vouches for, what it never does, and what it remembers if it is killed in between."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedge.audit.checkpoint import Checkpoint, check_cosignature
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.note import ED25519, VerifierKey, parse, sign
from fedge.audit.witness import ContradictionError, Pin, Witness
from fedge.errors import LogConflictError, ParseError, SignatureError
from fedge.journal import MemoryJournal, SqliteJournal
from fedge.signing import PrivateKey
from tests.conftest import Clock

LOG, WITNESS = PrivateKey(b"l" * 32), PrivateKey(b"w" * 32)
VKEY = VerifierKey("fedge/run", ED25519, LOG.public)


def tree(size: int, changed: int | None = None) -> Tree:
    return Tree(leaf_hash(b"changed" if i == changed else str(i).encode()) for i in range(size))


def offer(of: Tree, second: int = 0, key: PrivateKey = LOG, origin: str = "fedge/run") -> Pin:
    note = sign(Checkpoint(origin, of.size, of.root()).body, origin, key)
    return Pin(note.text, f"2026-11-23T09:30:{second:02d}.000Z")


@pytest.fixture
def witness(clock: Clock) -> Witness:
    return Witness("w1", WITNESS, MemoryJournal(), clock)


def test_vouches_for_a_log_that_grows(witness: Witness, clock: Clock) -> None:
    big, old = tree(40), 0
    for size in (3, 3, 8, 40):
        part = tree(size)
        line = witness.add_checkpoint(offer(part), VKEY, old, big.consistency(old, size) if old else [])
        body = parse(offer(part).note).body
        (signature,) = parse(body + "\n" + line).signatures
        assert check_cosignature(body, signature, witness.vkey) == clock.now
        old = size
    pin = witness.pinned("fedge/run")
    assert pin is not None
    assert pin.checkpoint.size == 40


@pytest.mark.parametrize(
    ("size", "changed", "second", "how"), [(8, 2, 1, "forked"), (5, None, 1, "shrank"), (12, 2, 0, "was rewritten")]
)
def test_a_log_with_two_pasts(witness: Witness, size: int, changed: int | None, second: int, how: str) -> None:
    first, other = tree(8), tree(size, changed)
    witness.add_checkpoint(offer(first), VKEY, 0, [])
    with pytest.raises(ContradictionError, match=how) as found:
        witness.add_checkpoint(offer(other, second), VKEY, 8, other.consistency(8) if size > 8 else [])
    assert (found.value.pinned, found.value.shown) == (offer(first).note, offer(other).note)
    assert witness.pinned("fedge/run") == offer(first), "it stays with what it has vouched for"


def test_a_late_copy_of_an_old_request_is_no_finding(witness: Witness) -> None:
    witness.add_checkpoint(offer(tree(8), 5), VKEY, 0, [])
    with pytest.raises(LogConflictError, match="late copy") as said:
        witness.add_checkpoint(offer(tree(5), 4), VKEY, 0, [])
    assert not isinstance(said.value, ContradictionError)


def test_a_server_that_forgot_what_is_pinned_may_ask_again(witness: Witness) -> None:
    witness.add_checkpoint(offer(tree(8)), VKEY, 0, [])
    with pytest.raises(LogConflictError, match="the proof is from size 3, this witness has pinned 8") as said:
        witness.add_checkpoint(offer(tree(9)), VKEY, 3, tree(9).consistency(3))
    assert not isinstance(said.value, ContradictionError)
    assert witness.add_checkpoint(offer(tree(9)), VKEY, 8, tree(9).consistency(8))


def test_what_the_log_has_not_signed(witness: Witness) -> None:
    with pytest.raises(SignatureError):
        witness.add_checkpoint(offer(tree(3), key=WITNESS), VKEY, 0, [])
    with pytest.raises(SignatureError):
        witness.add_checkpoint(offer(tree(3), origin="fedge/other"), VKEY, 0, [])
    with pytest.raises(ParseError):
        witness.add_checkpoint(Pin("no note", ""), VKEY, 0, [])
    assert witness.pinned("fedge/run") is None


def test_two_processes_of_one_witness_cannot_vouch_for_two_pasts(tmp_path: Path, clock: Clock) -> None:
    one, two = (Witness("w1", WITNESS, SqliteJournal(tmp_path / "state.db", "pins"), clock) for _ in range(2))
    one.add_checkpoint(offer(tree(8)), VKEY, 0, [])
    with pytest.raises(ContradictionError):
        two.add_checkpoint(offer(tree(8, changed=1)), VKEY, 0, [])


DYING = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from fedge.audit import note, witness
from fedge.journal import SqliteJournal
from fedge.signing import PrivateKey
witness.cosign = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
path, text, issued, log, key = sys.argv[1:]
journal, clock = SqliteJournal(Path(path), "pins"), lambda: datetime.now(UTC)
killed = witness.Witness("w1", PrivateKey(bytes.fromhex(key)), journal, clock)
killed.add_checkpoint(witness.Pin(text, issued), note.verifier_key(log), 0, [])
"""


def test_killed_between_pin_and_answer_it_has_pinned(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "state.db"
    given = offer(tree(8))
    words = [sys.executable, "-c", DYING, str(path), given.note, given.issued, VKEY.text, WITNESS.seed.hex()]
    done = subprocess.run(words, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    again = Witness("w1", WITNESS, SqliteJournal(path, "pins"), clock)
    assert again.pinned("fedge/run") == offer(tree(8))
    with pytest.raises(ContradictionError):
        again.add_checkpoint(offer(tree(8, changed=0)), VKEY, 8, [])
    assert again.add_checkpoint(offer(tree(8)), VKEY, 8, []), "asked again, it vouches for the same"
