"""The ledger of a data set's owner: every spend, durable before anything computed from data leaves.

    reserve (durable) → train → commit

A reservation alone counts as spent: if we crash between the two, the budget is gone, never the privacy. Entries are
chained by digest, so a damaged ledger is noticed; an older copy put back is noticed by comparing `head` with the head
that the client's last log leaf stated. One transaction reads, decides and appends: two processes cannot overspend.

One job, one spend: in a seeded simulation a repeated job (same order, same permitted records, same dice: the `key`
binds all three) computes the very same bytes, so doing it again after a crash releases nothing new and `reserve`
returns the spend that is there. With dice from the operating system each attempt is a new release and a new spend.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fedge.encoding import canonical, decimal, digest, moment, parse, timestamp
from fedge.errors import BudgetError, LedgerError, ParseError
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy import events
from fedge.privacy.accountant import STATEMENT, epsilon
from fedge.privacy.budget import Budget, admits
from fedge.privacy.events import Event

START = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Reservation:
    """A spend that is durable: entry number `position` of the ledger."""

    position: int
    lineage: Lineage
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
        self._head = Head(0, START)
        self._spends: list[Reservation] = []
        self._committed: dict[int, str] = {}
        self._budgets: dict[Lineage, Budget] = {}
        self._refresh()

    def reserve(self, lineage: Lineage, key: str, event: Event, at: datetime, *, repeatable: bool) -> Reservation:
        """Make the spend of `event` durable and return it.

        Raises BudgetError if the budget of `lineage` does not allow it, or if it has none.
        """
        with self._journal.transaction():
            known = self.check(lineage, key, event, repeatable=repeatable)
            if known is not None:
                return known
            body = {"lineage": lineage, "key": key, "event": events.to_record(event), "repeatable": repeatable}
            self._append("reserve", body, at)
        return self._spends[-1]

    def check(self, lineage: Lineage, key: str, event: Event, *, repeatable: bool) -> Reservation | None:
        """Return the spend that `reserve` would find, or None if it would make a new one; nothing is spent.

        Raises BudgetError as `reserve` would.
        """
        self._refresh()
        known = next((s for s in self._spends if s.key == key and s.repeatable and repeatable), None)
        if known is None:
            self._check(lineage, event)
        return known

    def reservation(self, position: int) -> Reservation:
        """Return the spend that is entry `position`. Raises LedgerError if there is none."""
        self._refresh()
        for spend in self._spends:
            if spend.position == position:
                return spend
        raise LedgerError(f"entry {position} of the privacy ledger is no spend; restore it from the latest copy")

    def commit(self, reservation: Reservation, answer: str, at: datetime) -> None:
        """Note that the reserved job was done and its answer has digest `answer`; repeating it changes nothing."""
        with self._journal.transaction():
            self._refresh()
            if self._committed.get(reservation.position) != answer:
                self._append("commit", {"position": reservation.position, "answer": answer}, at)

    def set_budget(self, lineage: Lineage, budget: Budget, at: datetime) -> None:
        """Set the budget of `lineage`; the owner's decision, kept with its date."""
        with self._journal.transaction():
            self._refresh()
            body = {"lineage": lineage, "epsilon": decimal(budget.epsilon), "delta": decimal(budget.delta)}
            self._append("budget", body, at)

    def budget(self, lineage: Lineage) -> Budget | None:
        """Return the budget of `lineage`, or None if its owner has set none."""
        self._refresh()
        return self._budgets.get(lineage)

    def lineages(self) -> list[Lineage]:
        """Return all data sets with a budget or a spend, sorted."""
        self._refresh()
        return sorted({*self._budgets, *(s.lineage for s in self._spends)})

    def spent(self, lineage: Lineage) -> tuple[Event, ...]:
        """Return every event ever reserved on `lineage`, committed or not."""
        self._refresh()
        return tuple(s.event for s in self._spends if s.lineage == lineage)

    def epsilon(self, lineage: Lineage, delta: float) -> float:
        """Return what `lineage` has spent at `delta`."""
        return epsilon(self.spent(lineage), delta)

    def unfinished(self) -> list[Reservation]:
        """Return reservations without a commit: jobs that crashed or are going on."""
        self._refresh()
        return [s for s in self._spends if s.position not in self._committed]

    def head(self) -> Head:
        """Return the present head."""
        self._refresh()
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

    def _check(self, lineage: Lineage, event: Event) -> None:
        budget = self._budgets.get(lineage)
        if budget is None:
            raise BudgetError(f"data set {lineage!r} has no budget; its owner sets one with: fedge budget set")
        verdict = admits(budget, [s.event for s in self._spends if s.lineage == lineage], event)
        if not verdict.admitted:
            raise BudgetError(
                f"data set {lineage!r} has spent epsilon {verdict.before:.4g} of {budget.epsilon:g} and this job would "
                f"make it {verdict.after:.4g} ({STATEMENT.describe(budget.delta)}); it is refused"
            )

    def _append(self, kind: str, body: dict[str, Any], at: datetime) -> None:
        entry = {"kind": kind, "previous": self._head.digest, "at": timestamp(at)} | body
        self._journal.append([canonical(entry)], expected_size=self._head.size)
        self._refresh()

    def _refresh(self) -> None:
        """Fold the entries that came since the last look, this process's or another's."""
        for data in self._journal.read(self._head.size):
            try:
                self._fold(parse(data))
            except (ParseError, KeyError, TypeError, ValueError) as error:
                place = f"entry {self._head.size} of the privacy ledger"
                raise LedgerError(f"{place} is damaged ({error}); restore it from the latest copy") from error
            self._head = Head(self._head.size + 1, digest(data))

    def _fold(self, entry: dict[str, Any]) -> None:
        if entry["previous"] != self._head.digest:
            raise ParseError("it does not follow the entry before it")
        match entry["kind"]:
            case "reserve":
                self._spends.append(_reservation(self._head.size, entry))
            case "commit":
                self._committed[entry["position"]] = entry["answer"]
            case "budget":
                budget = Budget(float(entry["epsilon"]), float(entry["delta"]))
                self._budgets[Lineage(entry["lineage"])] = budget
            case unknown:
                raise ParseError(f"unknown kind {unknown!r}")


def _reservation(position: int, entry: dict[str, Any]) -> Reservation:
    return Reservation(
        position,
        Lineage(entry["lineage"]),
        entry["key"],
        events.from_record(entry["event"]),
        moment(entry["at"]),
        entry["repeatable"],
    )
