"""The ledger under kill -9 at every line of its code, and under processes that spend at once.

Forked children do the work on a real file; nothing of theirs is shared but that file. A child is killed at a line
of the ledger or its journal: whatever the line, a spend that was answered for is there, and nothing is ever lost.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedge import journal
from fedge.errors import BudgetError, StorageError
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy import ledger as ledgers
from fedge.privacy.accountant import epsilon
from fedge.privacy.budget import Budget
from fedge.privacy.events import Gaussian
from fedge.privacy.ledger import Ledger

AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
DATA = Lineage("hearts")
DELTA = 1e-5
JOB = Gaussian(4.0)
WATCHED = {ledgers.__file__, journal.__file__}


def opened(path: Path) -> Ledger:
    return Ledger(SqliteJournal(path, "spends"))


def funded(path: Path, times: int) -> None:
    ledger = opened(path)
    ledger.set_budget(DATA, Budget(epsilon([JOB] * times, DELTA), DELTA), AT)
    ledger._journal.close()


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work` with the writing end of a pipe in a child; return its pid and the reading end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            work(writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def ended(child: int, reading: int) -> tuple[int, bytes]:
    """Return how the child ended (negative: by that signal) and all that it has written."""
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def dying_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    """Return a trace function that kills the process at the `line`-th line of ledger or journal."""
    seen = 0

    def trace(frame: FrameType, what: str, _argument: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in WATCHED:
            return None
        if what == "line":
            seen += 1
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def spend_and_die(path: Path, line: int) -> tuple[int, bytes]:
    def work(pipe: int) -> None:
        ledger = opened(path)
        sys.settrace(dying_at(line))
        reservation = ledger.reserve(DATA, "k", JOB, AT, repeatable=False)
        os.write(pipe, b"may be sent")
        ledger.commit(reservation, "sha256:" + "a" * 64, AT)

    return ended(*forked(work))


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_line_between_reserve_and_commit(tmp_path: Path, stride: int) -> None:
    """What may be sent is spent; what is spent stays spent; the ledger opens, and goes on."""
    durable = 0
    for line in count(1, stride):
        path = tmp_path / f"{line}.db"
        funded(path, 2)
        code, said = spend_and_die(path, line)
        again = opened(path)
        spent = again.spent(DATA)
        assert spent in ((), (JOB,))
        if said:
            assert spent == (JOB,), f"line {line}: an answer may leave, and its spend is not in the ledger"
        assert len(spent) >= durable, f"line {line}: a later crash has lost what an earlier one kept"
        durable = len(spent)
        again.reserve(DATA, "next", JOB, AT, repeatable=False)
        assert again.epsilon(DATA, DELTA) == epsilon([JOB] * (len(spent) + 1), DELTA)
        again._journal.close()
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert line > 60, "the whole way was walked"
    assert durable == 1


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.integers(1, 9), wishes=st.lists(st.integers(1, 6), min_size=2, max_size=4))
def test_processes_that_spend_at_once_never_overspend(times: int, wishes: list[int]) -> None:
    """Each process asks as often as it wishes; together they get what there is, to the last one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.db"
        funded(path, times)
        gate_out, gate_in = os.pipe()

        def spender(name: int, wish: int) -> Callable[[int], None]:
            def work(pipe: int) -> None:
                os.close(gate_in)
                ledger = opened(path)
                os.read(gate_out, 1)  # returns when the parent closes its end: all begin together
                for n in range(wish):
                    try:
                        ledger.reserve(DATA, f"{name}-{n}", JOB, AT, repeatable=False)
                        os.write(pipe, b"x")
                    except BudgetError:
                        os.write(pipe, b"-")

            return work

        children = [forked(spender(name, wish)) for name, wish in enumerate(wishes)]
        os.close(gate_in)
        os.close(gate_out)
        answers = [ended(*child) for child in children]
        assert all(code == 0 for code, _ in answers)
        assert [len(said) for _, said in answers] == wishes
        granted = sum(said.count(b"x") for _, said in answers)
        ledger = opened(path)
        assert granted == len(ledger.spent(DATA)) == min(times, sum(wishes))
        ledger._journal.close()


def test_a_full_disk_grants_nothing(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "l.db")
    ledger.set_budget(DATA, Budget(float("inf"), DELTA), AT)
    database = ledger._journal._db
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0] + 2}")
    granted = 0
    with pytest.raises(StorageError, match="full"):
        for n in range(200):
            ledger.reserve(DATA, f"{n}" + "k" * 500, JOB, AT, repeatable=False)
            granted += 1
    assert 0 < granted < 200
    assert opened(tmp_path / "l.db").spent(DATA) == ledger.spent(DATA) == (JOB,) * granted


class Refusing(SqliteJournal):
    """A journal whose disk refuses the commit itself, after everything was written."""

    refuses = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            if self.refuses and self.size() > 1:
                raise StorageError("cannot use the disk: it refuses")


def test_a_commit_that_fails_leaves_the_ledger_usable(tmp_path: Path) -> None:
    journal = Refusing(tmp_path / "l.db", "spends")
    ledger = Ledger(journal)
    ledger.set_budget(DATA, Budget(float("inf"), DELTA), AT)
    journal.refuses = True
    with pytest.raises(StorageError):
        ledger.reserve(DATA, "k1", JOB, AT, repeatable=False)
    journal.refuses = False
    assert ledger.spent(DATA) == ()
    ledger.reserve(DATA, "k2", JOB, AT, repeatable=False)
    assert opened(tmp_path / "l.db").spent(DATA) == (JOB,)
