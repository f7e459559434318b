"""The ledger of a data set's owner: every spend, durable before anything computed from data leaves.

    reserve (durable) → train → commit

A reservation alone counts as spent: if we crash between the two, the budget is gone, never the privacy. Entries are
chained by digest, so a damaged ledger is noticed; an older copy put back is noticed by comparing `head` with the head
that the client's last log leaf stated. One transaction reads, decides and appends: two processes cannot overspend.

A plan is what a run repeats. Under a budget for fixed schedules, all spends of one plan are the same event: an order
whose noise, rate or steps differ from the run's earlier ones may have been written after looking at results, and is
refused. Stopping early is free, for it only leaves out a part of what was fixed.

One job, one spend: in a seeded simulation a repeated job (same order, same permitted records, same dice: the `key`
binds all three) computes the very same bytes, so doing it again after a crash releases nothing new and `reserve`
returns the spend that is there. With dice from the operating system each attempt is a new release and a new spend.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, get_args

from fedge.encoding import canonical, decimal, digest, moment, parse, timestamp
from fedge.errors import BudgetError, LedgerError, ParseError, ScheduleError, StorageError
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy import events
from fedge.privacy.accountant import Adjacency
from fedge.privacy.budget import Admission, Budget, Schedule, admits
from fedge.privacy.events import Event, Unit

START = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Reservation:
    """A spend that is durable: entry number `position` of the ledger; `plan` is the run whose settings it follows."""

    position: int
    lineage: Lineage
    plan: str
    key: str
    event: Event
    at: datetime
    repeatable: bool


@dataclass(frozen=True)
class Head:
    """The state of a ledger in two numbers: its size and the digest of its last entry."""

    size: int
    digest: str

    @property
    def text(self) -> str:
        """`<size>@<digest>`, as the log states it."""
        return f"{self.size}@{self.digest}"


class Ledger:
    """Spends of all data sets of one owner, in a SqliteJournal."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self._synced: Head | None = None
        self._forget()
        self._refresh()

    def reserve(
        self, lineage: Lineage, key: str, event: Event, at: datetime, *, repeatable: bool, plan: str = ""
    ) -> Reservation:
        """Make the spend of `event` durable and return it; `plan` names the run that asks.

        Raises BudgetError if the budget of `lineage` does not allow it, or if it has none.
        """
        with self._writing():
            known = self.check(lineage, key, event, at, repeatable=repeatable, plan=plan)
            if known is not None:
                return known
            body = {
                "lineage": lineage,
                "plan": plan,
                "key": key,
                "event": events.to_record(event),
                "repeatable": repeatable,
            }
            self._append("reserve", body, at)
        return self._spends[lineage][-1]

    def judge(self, lineage: Lineage, event: Event, at: datetime) -> Admission | None:
        """Return whether `event` would fit into the budget of `lineage` at `at`, None if it has no budget."""
        self._refresh()
        budget = self._budgets.get(lineage)
        return None if budget is None else self._admission(budget, lineage, event, at)

    def check(
        self, lineage: Lineage, key: str, event: Event, at: datetime, *, repeatable: bool, plan: str = ""
    ) -> Reservation | None:
        """Return the spend that `reserve` would find, or None if it would make a new one; nothing is spent.

        Raises BudgetError as `reserve` would.
        """
        self._refresh()
        if repeatable and key in self._repeatable:
            return self._repeatable[key]
        self._check(lineage, plan, event, at)
        return None

    def reservation(self, position: int) -> Reservation:
        """Return the spend that is entry `position`. Raises LedgerError if there is none."""
        self._refresh()
        found = next((s for spends in self._spends.values() for s in spends if s.position == position), None)
        if found is None:
            raise LedgerError(f"entry {position} of the privacy ledger is no spend; restore it from the latest copy")
        return found

    def commit(self, reservation: Reservation, answer: str, at: datetime) -> None:
        """Note that the reserved job was done and its answer has digest `answer`; repeating it changes nothing.

        It costs no fsync: lost with the power, the job is an unfinished one, and spent all the same.
        """
        with self._journal.unsynced(), self._writing():
            if self._committed.get(reservation.position) != answer:
                self._append("commit", {"position": reservation.position, "answer": answer}, at)

    def set_budget(self, lineage: Lineage, budget: Budget, at: datetime) -> None:
        """Set the budget of `lineage`; the owner's decision, kept with its date.

        Raises BudgetError if a budget for adaptive schedules would become one for fixed ones: what was spent under it
        may have been chosen by results, and no later decision changes that.
        """
        with self._writing():
            before = self._budgets.get(lineage)
            if before is not None and (before.schedule, budget.schedule) == ("adaptive", "fixed"):
                raise BudgetError(
                    f"the budget of {lineage!r} is for adaptive schedules: earlier runs may have followed results, so "
                    "it stays so; set it with --schedule adaptive"
                )
            body = {
                "lineage": lineage,
                "epsilon": decimal(budget.epsilon),
                "delta": decimal(budget.delta),
                "days": None if budget.period is None else budget.period.days,
                "total": decimal(budget.total),
                "schedule": budget.schedule,
            }
            if budget.unit != "record":
                body["unit"] = budget.unit
            self._append("budget", body, at)

    def budget(self, lineage: Lineage) -> Budget | None:
        """Return the budget of `lineage`, or None if its owner has set none."""
        self._refresh()
        return self._budgets.get(lineage)

    def lineages(self) -> list[Lineage]:
        """Return all data sets with a budget or a spend, sorted."""
        self._refresh()
        return sorted({*self._budgets, *self._spends})

    def spent(self, lineage: Lineage, since: datetime | None = None) -> tuple[Event, ...]:
        """Return every event ever reserved on `lineage`, committed or not; with `since`, those after that moment.

        A spend that is dated in the future, by a clock that was wrong, counts as recent.
        """
        self._refresh()
        found = self._spends.get(lineage, ())
        return tuple(s.event for s in found if since is None or s.at > since)

    def counted(self, lineage: Lineage, at: datetime) -> tuple[Event, ...]:
        """Return the events that count against the budget of `lineage` at `at`: those of its period."""
        budget = self.budget(lineage)
        return self.spent(lineage, None if budget is None or budget.period is None else at - budget.period)

    def epsilon(self, lineage: Lineage, delta: float, adjacency: Adjacency = "add/remove") -> float:
        """Return all that `lineage` has ever spent at `delta`, by the accountant that its budget's schedule needs."""
        budget = self.budget(lineage) or Budget(1.0, delta)
        return replace(budget, delta=delta).cost(self.spent(lineage), adjacency)

    def unfinished(self) -> list[Reservation]:
        """Return reservations without a commit: jobs that crashed or are going on."""
        self._refresh()
        spends = [s for found in self._spends.values() for s in found if s.position not in self._committed]
        return sorted(spends, key=lambda s: s.position)

    def head(self) -> Head:
        """Return the present head, durable: once it is stated, a ledger without it counts as an older copy."""
        self._refresh()
        if self._last_kind == "commit" and self._synced != self._head:
            self._journal.sync()
            self._synced = self._head
        return self._head

    def heads(self) -> frozenset[str]:
        """Return the digest of every entry: every head that this ledger has ever had."""
        return frozenset({START, *(digest(entry) for entry in self._journal.read())})

    def check_contains(self, head: Head) -> None:
        """Raise LedgerError unless this ledger has `head` in its past: an older copy was put back otherwise."""
        if head.size == 0:
            return
        entries = self._journal.read(head.size - 1, head.size)
        if not entries or digest(entries[0]) != head.digest:
            raise LedgerError(
                f"the ledger has {self._journal.size()} entries but {head.size} were stated in the log with another "
                "content: an older copy was put back. Restore the latest one; until then nothing more is spent"
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Read, decide and append as one step; if the disk refuses the commit, nothing of it is remembered either."""
        try:
            with self._journal.transaction():
                if self._journal.size() < self._head.size:  # a larger transaction was taken back, and our entry with it
                    self._forget()
                self._refresh()
                yield
        except StorageError:
            self._forget()
            raise

    def _forget(self) -> None:
        self._head = Head(0, START)
        self._spends: dict[Lineage, list[Reservation]] = {}
        self._repeatable: dict[str, Reservation] = {}
        self._committed: dict[int, str] = {}
        self._last_kind = ""
        self._budgets: dict[Lineage, Budget] = {}

    def _check(self, lineage: Lineage, plan: str, event: Event, at: datetime) -> None:
        budget = self._budgets.get(lineage)
        if budget is None:
            raise BudgetError(f"data set {lineage!r} has no budget; its owner sets one with: fedge budget set")
        if budget.schedule == "fixed":
            self._check_plan(lineage, plan, event)
        verdict = self._admission(budget, lineage, event, at)
        if not verdict.admitted:
            raise BudgetError(_refusal(lineage, budget, verdict))

    def _check_plan(self, lineage: Lineage, plan: str, event: Event) -> None:
        """Raise ScheduleError if the plan has asked for something else before: its schedule is not fixed."""
        if plan and any(s.plan == plan and s.event != event for s in self._spends.get(lineage, ())):
            raise ScheduleError(
                f"run {plan} now asks for other noise, rate or steps on {lineage!r} than before, which may follow from "
                "results; the budget is for fixed schedules. It is refused; the owner allows it with: "
                "fedge budget set --schedule adaptive"
            )

    def _admission(self, budget: Budget, lineage: Lineage, event: Event, at: datetime) -> Admission:
        recent = None if budget.period is None else self.counted(lineage, at)
        return admits(budget, self.spent(lineage), event, recent)

    def _append(self, kind: str, body: dict[str, Any], at: datetime) -> None:
        entry = {"kind": kind, "previous": self._head.digest, "at": timestamp(at)} | body
        self._journal.append([canonical(entry)], expected_size=self._head.size)
        self._refresh()

    def _refresh(self) -> None:
        """Fold the entries that came since the last look, this process's or another's."""
        for data in self._journal.read(self._head.size):
            try:
                self._fold(parse(data))
            except (ParseError, KeyError, TypeError, ValueError, OverflowError) as error:
                place = f"entry {self._head.size} of the privacy ledger"
                raise LedgerError(f"{place} is damaged ({error}); restore it from the latest copy") from error
            self._head = Head(self._head.size + 1, digest(data))

    def _fold(self, entry: dict[str, Any]) -> None:
        if entry["previous"] != self._head.digest:
            raise ParseError("it does not follow the entry before it")
        self._last_kind = entry["kind"]
        match entry["kind"]:
            case "reserve":
                self._keep(_reservation(self._head.size, entry))
            case "commit":
                self._committed[entry["position"]] = entry["answer"]
            case "budget":
                self._budgets[Lineage(entry["lineage"])] = _budget(entry)
            case unknown:
                raise ParseError(f"unknown kind {unknown!r}")

    def _keep(self, spend: Reservation) -> None:
        self._spends.setdefault(spend.lineage, []).append(spend)
        if spend.repeatable:
            self._repeatable.setdefault(spend.key, spend)


def _reservation(position: int, entry: dict[str, Any]) -> Reservation:
    return Reservation(
        position,
        Lineage(entry["lineage"]),
        entry["plan"],
        entry["key"],
        events.from_record(entry["event"]),
        moment(entry["at"]),
        entry["repeatable"],
    )


def _budget(entry: dict[str, Any]) -> Budget:
    if entry["schedule"] not in get_args(Schedule):
        raise ParseError(f"unknown schedule {entry['schedule']!r}")
    period = None if entry["days"] is None else timedelta(days=entry["days"])
    unit = entry.get("unit", "record")
    if unit not in get_args(Unit):
        raise ParseError(f"unknown unit {unit!r}")
    epsilon, delta, total = (float(entry[name]) for name in ("epsilon", "delta", "total"))
    return Budget(epsilon, delta, period, total, entry["schedule"], unit)


def _refusal(lineage: Lineage, budget: Budget, verdict: Admission) -> str:
    """Return why an event does not fit, with what its numbers are about."""
    period = f" in {budget.period.days} days" if budget.period else ""
    said = (
        f"data set {lineage!r} has spent epsilon {verdict.before:.4g} of {budget.epsilon:g}{period} and this job would "
        f"make it {verdict.after:.4g}"
    )
    if verdict.total > budget.for_ever and verdict.after <= budget.epsilon:
        said += f", and {verdict.total:.4g} of {budget.for_ever:g} in all"
    return f"{said} ({budget.statement.describe(budget.delta)}); it is refused"
