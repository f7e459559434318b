"""The owner's ledger: no refund, no overspending, no older copy put back unnoticed."""

import math
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedge.errors import BudgetError, LedgerError, StorageError
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy import filter as privacy_filter
from fedge.privacy.accountant import epsilon
from fedge.privacy.budget import Budget, admits, rounds_left
from fedge.privacy.events import Gaussian, NonPrivate, SampledGaussian
from fedge.privacy.ledger import Head, Ledger

AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
HEARTS, LUNGS = Lineage("hearts"), Lineage("lungs")
JOB = SampledGaussian(0.1, 1.5, 20)
DELTA = 1e-5
ANSWER = "sha256:" + "a" * 64


def opened(path: Path) -> Ledger:
    return Ledger(SqliteJournal(path, "spends"))


def funded(path: Path, times: int) -> Ledger:
    """Return a ledger in which JOB fits exactly `times` times on HEARTS."""
    ledger = opened(path)
    ledger.set_budget(HEARTS, Budget(epsilon([JOB] * times, DELTA), DELTA), AT)
    return ledger


def test_a_spend_is_reserved_then_committed(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 2)
    reservation = ledger.reserve(HEARTS, "k1", JOB, AT, repeatable=False)
    assert ledger.unfinished() == [reservation]
    ledger.commit(reservation, ANSWER, AT)
    assert ledger.unfinished() == []
    assert ledger.spent(HEARTS) == (JOB,)
    assert ledger.epsilon(HEARTS, DELTA) == epsilon([JOB], DELTA)
    assert ledger.lineages() == [HEARTS]


def test_a_crash_before_the_commit_counts_as_spent(tmp_path: Path) -> None:
    funded(tmp_path / "l.db", 1).reserve(HEARTS, "k1", JOB, AT, repeatable=False)
    again = opened(tmp_path / "l.db")  # as after a crash: nothing but the file
    assert again.spent(HEARTS) == (JOB,)
    assert len(again.unfinished()) == 1
    with pytest.raises(BudgetError, match="would make it"):
        again.reserve(HEARTS, "k2", JOB, AT, repeatable=False)


def test_a_head_is_durable_before_it_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note that a job is done costs no fsync; but a head that includes it must not be lost with the power."""
    ledger, synced = funded(tmp_path / "l.db", 2), list[str]()
    monkeypatch.setattr(SqliteJournal, "sync", lambda _journal: synced.append("to disk"))
    reservation = ledger.reserve(HEARTS, "k1", JOB, AT, repeatable=False)
    ledger.head()
    assert synced == []
    ledger.commit(reservation, ANSWER, AT)
    assert synced == []
    assert ledger.head() == ledger.head() == opened(tmp_path / "l.db").head()
    assert len(synced) == 2, "once here, and once by whoever opens the ledger and cannot know"
    ledger.reserve(HEARTS, "k2", JOB, AT, repeatable=False)
    ledger.head()
    assert len(synced) == 2


def test_the_last_bit_of_a_budget_can_be_spent_and_no_more(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 3)
    for n in range(3):
        ledger.reserve(HEARTS, f"k{n}", JOB, AT, repeatable=False)
    with pytest.raises(BudgetError, match="has spent epsilon"):
        ledger.reserve(HEARTS, "k3", JOB, AT, repeatable=False)
    assert len(ledger.spent(HEARTS)) == 3


def test_a_refused_spend_leaves_no_trace(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 1)
    head = ledger.head()
    with pytest.raises(BudgetError):
        ledger.reserve(HEARTS, "k", NonPrivate(), AT, repeatable=False)
    assert ledger.head() == head


def test_data_without_a_budget_is_not_used_and_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="fedge budget set"):
        opened(tmp_path / "l.db").reserve(HEARTS, "k", JOB, AT, repeatable=False)


def test_budgets_of_two_data_sets_are_apart(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 1)
    ledger.set_budget(LUNGS, Budget(100.0, DELTA), AT)
    ledger.reserve(LUNGS, "k", JOB, AT, repeatable=False)
    assert ledger.spent(HEARTS) == ()
    ledger.reserve(HEARTS, "k", JOB, AT, repeatable=False)


def test_lowering_a_budget_refunds_nothing(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 2)
    ledger.reserve(HEARTS, "k", JOB, AT, repeatable=False)
    ledger.set_budget(HEARTS, Budget(0.001, DELTA), AT)
    assert ledger.epsilon(HEARTS, DELTA) == epsilon([JOB], DELTA)
    with pytest.raises(BudgetError):
        ledger.reserve(HEARTS, "k2", JOB, AT, repeatable=False)


def test_the_same_repeatable_job_is_one_spend(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 2)
    first = ledger.reserve(HEARTS, "k", JOB, AT, repeatable=True)
    assert ledger.reserve(HEARTS, "k", JOB, AT, repeatable=True) == first
    assert ledger.reserve(HEARTS, "other", JOB, AT, repeatable=True) != first
    assert len(ledger.spent(HEARTS)) == 2


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (False, False)])
def test_with_fresh_dice_every_attempt_is_a_spend(tmp_path: Path, before: bool, after: bool) -> None:
    ledger = funded(tmp_path / "l.db", 2)
    ledger.reserve(HEARTS, "k", JOB, AT, repeatable=before)
    ledger.reserve(HEARTS, "k", JOB, AT, repeatable=after)
    assert len(ledger.spent(HEARTS)) == 2


def test_committing_twice_changes_nothing(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 1)
    reservation = ledger.reserve(HEARTS, "k", JOB, AT, repeatable=True)
    ledger.commit(reservation, ANSWER, AT)
    head = ledger.head()
    ledger.commit(reservation, ANSWER, AT)
    assert ledger.head() == head


def test_an_older_copy_put_back_is_noticed(tmp_path: Path) -> None:
    path, copy = tmp_path / "l.db", tmp_path / "copy.db"
    ledger = funded(path, 3)
    ledger.reserve(HEARTS, "k1", JOB, AT, repeatable=False)
    _close(ledger)
    shutil.copy(path, copy)
    later = opened(path)
    later.reserve(HEARTS, "k2", JOB, AT, repeatable=False)
    stated = later.head()
    later.check_contains(stated)
    _close(later)
    shutil.copy(copy, path)
    back = opened(path)
    with pytest.raises(LedgerError, match="an older copy was put back"):
        back.check_contains(stated)
    back.reserve(HEARTS, "k3", JOB, AT, repeatable=False)  # and growing to the same length hides nothing
    with pytest.raises(LedgerError, match="an older copy was put back"):
        back.check_contains(stated)


def test_a_copy_of_the_folder_put_back_under_a_running_client_is_noticed(tmp_path: Path) -> None:
    """As a backup does it: database, -wal and -shm are copied while the ledger is open, and copied back later."""
    home, backup = tmp_path / "home", tmp_path / "backup"
    home.mkdir()
    ledger = funded(home / "ledger.db", 5)
    ledger.reserve(HEARTS, "k1", JOB, AT, repeatable=False)
    assert (home / "ledger.db-wal").stat().st_size > 0  # what was spent is in the log beside the database
    shutil.copytree(home, backup)
    ledger.reserve(HEARTS, "k2", JOB, AT, repeatable=False)
    stated = ledger.head()
    _close(ledger)
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    back = opened(home / "ledger.db")
    assert len(back.spent(HEARTS)) == 1, "the copy holds what was spent before it was made"
    with pytest.raises(LedgerError, match="an older copy was put back"):
        back.check_contains(stated)


def test_every_head_stays_in_the_past(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 3)
    heads = [Head(0, "anything"), ledger.head()]
    for n in range(3):
        ledger.reserve(HEARTS, f"k{n}", JOB, AT, repeatable=False)
        heads.append(ledger.head())
    for head in heads:
        ledger.check_contains(head)
    assert {h.digest for h in heads[1:]} < ledger.heads()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE spends SET entry = X'7B7D' WHERE position = 1",
        "UPDATE spends SET entry = X'FF' WHERE position = 0",
        "UPDATE spends SET entry = (SELECT entry FROM spends WHERE position = 2) WHERE position = 1",
        "UPDATE spends SET entry = CAST(replace(CAST(entry AS TEXT), '\"steps\":20', '\"steps\":1') AS BLOB)",
        "UPDATE spends SET entry = CAST(replace(CAST(entry AS TEXT), 'reserve', 'refunds') AS BLOB)",
        "DELETE FROM spends WHERE position = 1",
    ],
)
def test_a_damaged_ledger_is_noticed(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "l.db"
    ledger = funded(path, 3)
    for n in range(3):
        ledger.reserve(HEARTS, f"k{n}", JOB, AT, repeatable=False)
    stated = ledger.head()
    _close(ledger)
    with sqlite3.connect(path) as db:
        assert db.execute(statement).rowcount > 0
    db.close()
    with pytest.raises((LedgerError, StorageError), match=r"damaged|missing|older copy"):
        opened(path).check_contains(stated)


SPENDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from fedge.errors import BudgetError
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy.events import SampledGaussian
from fedge.privacy.ledger import Ledger
ledger = Ledger(SqliteJournal(Path(sys.argv[1]), "spends"))
print("ready", flush=True)
sys.stdin.readline()
spent = 0
for n in range(6):
    try:
        ledger.reserve(Lineage("hearts"), f"{sys.argv[2]}-{n}", SampledGaussian(0.1, 1.5, 20), datetime.now(UTC),
                       repeatable=False)
        spent += 1
    except BudgetError:
        pass
print(spent, flush=True)
"""


def test_two_processes_cannot_overspend(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    ledger = funded(path, 7)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    spenders = [subprocess.Popen([sys.executable, "-c", SPENDER, str(path), name], **pipes) for name in "ab"]
    for spender in spenders:
        assert spender.stdout is not None
        assert spender.stdout.readline() == "ready\n"
    for spender in spenders:  # both begin when both are ready
        assert spender.stdin is not None
        spender.stdin.write("go\n")
        spender.stdin.flush()
    taken = [int(spender.communicate(timeout=60)[0]) for spender in spenders]
    assert sum(taken) == 7
    assert min(taken) > 0 or max(taken) == 6
    assert len(ledger.spent(HEARTS)) == 7
    assert ledger.epsilon(HEARTS, DELTA) <= ledger.budget(HEARTS).epsilon  # type: ignore[union-attr]


# ---- plans and periods ------------------------------------------------------------------------------------------


OTHER = SampledGaussian(0.1, 1.2, 20)


def test_a_plan_that_changes_is_refused_and_the_fix_is_named(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 9)
    ledger.reserve(HEARTS, "k1", JOB, AT, repeatable=False, plan="run-1")
    with pytest.raises(BudgetError, match="--schedule adaptive"):
        ledger.reserve(HEARTS, "k2", OTHER, AT, repeatable=False, plan="run-1")
    ledger.reserve(HEARTS, "k3", OTHER, AT, repeatable=False, plan="run-2")  # another run has a plan of its own
    assert ledger.spent(HEARTS) == (JOB, OTHER)


def test_an_adaptive_budget_allows_changes_and_is_judged_by_the_filter(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "l.db")
    enough = privacy_filter.epsilon([JOB, OTHER], DELTA)
    ledger.set_budget(HEARTS, Budget(enough, DELTA, schedule="adaptive"), AT)
    ledger.reserve(HEARTS, "k1", JOB, AT, repeatable=False, plan="run-1")
    ledger.reserve(HEARTS, "k2", OTHER, AT, repeatable=False, plan="run-1")
    assert ledger.epsilon(HEARTS, DELTA) == enough > epsilon([JOB, OTHER], DELTA)
    with pytest.raises(BudgetError, match="RDP filter"):
        ledger.reserve(HEARTS, "k3", OTHER, AT, repeatable=False, plan="run-1")


def test_once_adaptive_always_adaptive(tmp_path: Path) -> None:
    ledger = funded(tmp_path / "l.db", 1)
    ledger.set_budget(HEARTS, Budget(9.0, DELTA, schedule="adaptive"), AT)
    with pytest.raises(BudgetError, match="stays so"):
        ledger.set_budget(HEARTS, Budget(9.0, DELTA), AT)


YEAR = timedelta(days=365)


def yearly(path: Path, times: int, total: float = math.inf) -> Ledger:
    ledger = opened(path)
    ledger.set_budget(HEARTS, Budget(epsilon([JOB] * times, DELTA), DELTA, YEAR, total), AT)
    return ledger


def test_a_period_renews_its_budget_and_forgets_nothing(tmp_path: Path) -> None:
    ledger = yearly(tmp_path / "l.db", 2)
    for n in range(2):
        ledger.reserve(HEARTS, f"k{n}", JOB, AT + n * timedelta(days=30), repeatable=False)
    with pytest.raises(BudgetError, match="in 365 days"):
        ledger.reserve(HEARTS, "k2", JOB, AT + timedelta(days=364), repeatable=False)
    ledger.reserve(HEARTS, "k3", JOB, AT + YEAR, repeatable=False)
    assert ledger.counted(HEARTS, AT + YEAR) == (JOB, JOB)
    assert ledger.epsilon(HEARTS, DELTA) == epsilon([JOB] * 3, DELTA) > ledger.budget(HEARTS).epsilon  # type: ignore[union-attr]


def test_the_total_bounds_all_periods(tmp_path: Path) -> None:
    ledger = yearly(tmp_path / "l.db", 2, total=epsilon([JOB] * 3, DELTA))
    for year in range(3):
        ledger.reserve(HEARTS, f"k{year}", JOB, AT + year * YEAR, repeatable=False)
    with pytest.raises(BudgetError, match="in all"):
        ledger.reserve(HEARTS, "k3", JOB, AT + 9 * YEAR, repeatable=False)
    verdict = ledger.judge(HEARTS, JOB, AT + 9 * YEAR)
    assert verdict is not None
    assert (verdict.admitted, verdict.before) == (False, 0)


def test_a_clock_that_was_ahead_gives_nothing_back(tmp_path: Path) -> None:
    ledger = yearly(tmp_path / "l.db", 1)
    ledger.reserve(HEARTS, "k", JOB, AT + 10 * YEAR, repeatable=False)
    with pytest.raises(BudgetError):  # set right again: what is dated in the future counts
        ledger.reserve(HEARTS, "k2", JOB, AT, repeatable=False)


def test_a_budget_is_read_back_as_it_was_set(tmp_path: Path) -> None:
    budget = Budget(1.5, 1e-6, timedelta(days=90), 6.0, "adaptive")
    opened(tmp_path / "l.db").set_budget(HEARTS, budget, AT)
    assert opened(tmp_path / "l.db").budget(HEARTS) == budget


# ---- budgets ----------------------------------------------------------------------------------------------------


def test_a_budget_is_asked_before_anything_is_spent() -> None:
    budget = Budget(epsilon([JOB] * 2, DELTA), DELTA)
    assert admits(budget, [JOB], JOB).admitted
    denied = admits(budget, [JOB, JOB], JOB)
    assert (denied.admitted, denied.before) == (False, budget.epsilon)
    assert denied.after > budget.epsilon


@pytest.mark.parametrize("times", [0, 1, 2, 5])
def test_rounds_left(times: int) -> None:
    budget = Budget(epsilon([JOB] * times, DELTA) if times else 1e-3, DELTA)
    assert rounds_left(budget, [], JOB) == times
    if times > 1:
        assert rounds_left(budget, [JOB], JOB) == times - 1


def test_rounds_left_of_an_unlimited_budget_is_the_most_that_was_asked() -> None:
    assert rounds_left(Budget(float("inf"), DELTA), [], Gaussian(1.0), most=10) == 10


@pytest.mark.parametrize(("eps", "delta"), [(0, 1e-5), (-1, 1e-5), (float("nan"), 1e-5), (1, 0), (1, 1), (1, -1)])
def test_what_is_no_budget(eps: float, delta: float) -> None:
    with pytest.raises(ValueError, match="a budget has"):
        Budget(eps, delta)


def test_a_period_and_a_total_that_mean_nothing() -> None:
    for period in (timedelta(hours=1), timedelta(days=40_000)):
        with pytest.raises(ValueError, match="at least a day"):
            Budget(1.0, DELTA, period)
    with pytest.raises(ValueError, match="at least the epsilon"):
        Budget(4.0, DELTA, YEAR, 2.0)


def _close(ledger: Ledger) -> None:
    ledger._journal.close()
