"""Order of effect 1, over whole runs: the records really read, against a plain reading of the permission events.

The oracle below knows nothing of the engine: it walks through a person's events by hand, at the moment of each read.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedge.assemble import Hooks
from fedge.consent.grants import PermissionEvent
from fedge.consent.store import PermissionStore
from fedge.encoding import from_plain, parse, timestamp
from fedge.errors import ParseError
from fedge.ids import ClientId
from fedge.journal import SqliteJournal
from fedge.running import Watch, resume, run
from tests.conftest import SMALL
from tests.rounds.house import ONE, House, house, withdrawal


def permitted(events: list[PermissionEvent], now: str) -> bool:
    """Return whether one person's latest event is a grant that holds at `now`; events are of one kind and purpose."""
    past = [e for e in events if e.recorded_at <= now]
    if not past:
        return False
    latest = past[-1]
    return latest.act == "grant" and latest.valid_from <= now and (latest.valid_until or "~") > now


def events_in(path: Path) -> list[PermissionEvent]:
    """Return the events in a client's file, read without the engine."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT entry FROM permissions ORDER BY position").fetchall()
    db.close()
    return [from_plain(PermissionEvent, parse(bytes(row[0])), ParseError) for row in rows]


@dataclass
class Trace:
    """Every record that was read, and those that the oracle would not have read at that moment."""

    reads: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    people: dict[str, set[str]] = field(default_factory=dict)

    def note(self, name: str, folder: Path, subjects: list[str], now: str) -> None:
        events: dict[str, list[PermissionEvent]] = {}
        for event in events_in(folder / "consent.db"):
            events.setdefault(event.subject, []).append(event)
        self.reads += len(subjects)
        self.people.setdefault(name, set()).update(subjects)
        self.wrong += [(name, s, now) for s in subjects if not permitted(events.get(s, []), now)]


def traced(act: Callable[[Hooks, Watch], Any]) -> tuple[Trace, Any]:
    """Run `act` with hooks that trace every read of every client; return the trace, and what is assembled."""
    trace, seen = Trace(), []

    def on_read(name: ClientId) -> Callable[[Any], None]:
        def note(indices: Any) -> None:
            (assembled,) = seen
            site = assembled.sites[name]
            both = site.training.records.subjects, site.evaluation.records.subjects
            subjects = both[0] if len(indices) and indices.max() < len(both[0]) else both[1]
            if site_is_evaluating(assembled):
                subjects = both[1]
            now = timestamp(site.machine.clock())
            trace.note(name, assembled.folder.clients / name, [subjects[i] for i in indices], now)

        return note

    act(Hooks(on_read=on_read), Watch(on_start=seen.append))
    return trace, seen[0]


def site_is_evaluating(assembled: Any) -> bool:
    closed = assembled.book.closed
    return closed is not None and closed.round == assembled.config.rounds


MIXED = ("consent.refused=0.25", "consent.expired=0.2", "consent.missing=0.15", "population.evaluation_share=0.3")


@pytest.mark.parametrize("engine", ["flower", "direct"])
def test_no_record_without_permission_is_ever_read(tmp_path: Path, engine: str) -> None:
    first, second = "{round: 1, client: hospital-2}", "{round: 2, client: hospital-1}"
    withdrawals = f"consent.withdrawals=[{first}, {second}, {second.replace('2', '3')}]"
    overrides = [*SMALL, *MIXED, withdrawals, f"engine={engine}", f"out={tmp_path}"]
    trace, assembled = traced(lambda hooks, watch: run(*overrides, hooks=hooks, watch=watch))
    assert trace.reads > 300
    assert trace.wrong == []
    for name, site in assembled.sites.items():
        everyone = {*site.training.records.subjects, *site.evaluation.records.subjects}
        assert 0.2 * len(everyone) < len(trace.people[name]) < 0.6 * len(everyone)  # four in ten agree: not vacuous


def test_nor_after_a_run_is_resumed(tmp_path: Path) -> None:
    """A finished run asks nothing of anybody again."""
    done = run(*SMALL, *MIXED, f"out={tmp_path}")
    trace, _ = traced(lambda hooks, watch: resume(done.folder, hooks=hooks, watch=watch))
    assert trace.reads == 0


def test_a_gate_that_is_always_open_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_gate(*_: Any) -> Callable[[Any], Any]:
        return lambda indices: np.ones(len(indices), np.bool_)

    monkeypatch.setattr(PermissionStore, "gate", open_gate)
    # Everybody of the batch: one person alone may by chance not be drawn again.
    here, trace = watched(tmp_path, act_at=2, act=lambda where, people: withdraw(where, sorted(people)))
    here.rounds()
    assert trace.wrong != []


# ---- while a round is going on ----------------------------------------------------------------------------------


def watched(root: Path, act_at: int, act: Callable[[House, set[str]], None], *overrides: str) -> tuple[House, Trace]:
    """Return a federation in which `act` happens after hospital-1 has read its `act_at`-th batch, and its trace."""
    trace, count, cell = Trace(), 0, []

    def on_read(name: ClientId) -> Callable[[Any], None]:
        def note(indices: Any) -> None:
            nonlocal count
            (here,) = cell
            records = here.site(name).training.records
            trace.note(name, root / "clients" / name, [records.subjects[i] for i in indices], timestamp(here.clock()))
            count += name == ONE
            here.clock.move(milliseconds=1)
            if name == ONE and count == act_at:
                act(here, {records.subjects[i] for i in indices})

        return note

    here = house(root, *overrides, "training.sample_rate=0.5", "training.steps=4", hooks=Hooks(on_read=on_read))
    cell.append(here)
    return here, trace


GONE: list[str] = []


def withdraw_somebody_read(here: House, people: set[str]) -> None:
    """Let somebody in the batch just read withdraw."""
    GONE[:] = sorted(people)[:1]
    withdraw(here, GONE)


def withdraw(here: House, people: Sequence[str]) -> None:
    """Another process, with a connection of its own, records withdrawals."""
    elsewhere = SqliteJournal(here.folder / "clients" / ONE / "consent.db", "permissions")
    PermissionStore(elsewhere).append([withdrawal(person, here.clock()) for person in people])
    elsewhere.close()
    here.clock.move(milliseconds=1)


@pytest.mark.parametrize("act_at", [1, 6])  # in the first round, in the second
def test_a_withdrawal_in_the_middle_of_a_round(tmp_path: Path, act_at: int) -> None:
    here, trace = watched(tmp_path, act_at, withdraw_somebody_read)
    records = here.rounds()
    assert trace.wrong == []
    (index,) = [i for i, s in enumerate(here.site(ONE).training.records.subjects) if s in GONE]
    before, after = here.read[ONE][:act_at], here.read[ONE][act_at:]
    assert any(index in batch for batch in before)
    assert after
    assert not any(index in batch for batch in after)
    struck = next(r for r in records if r.round == (act_at + 3) // 4)
    (part,) = [p for p in struck.participants if p.client == ONE]
    assert (part.outcome, part.reason) == ("refused", "withdrawn_in_flight")  # what was computed of them is not sent
    assert struck.accepted == 2
    assert here.site(ONE).ledger.spent(here.site(ONE).training.lineage)[1:]  # and it is paid for all the same


def test_the_owner_may_decide_that_what_was_begun_is_finished(tmp_path: Path) -> None:
    here, trace = watched(tmp_path, 1, withdraw_somebody_read, "policy.withdrawn_in_flight=finish")
    assert [r.accepted for r in here.rounds()] == [3, 3, 3]
    assert trace.wrong == []
    (index,) = [i for i, s in enumerate(here.site(ONE).training.records.subjects) if s in GONE]
    assert not any(index in batch for batch in here.read[ONE][1:])


def test_permissions_that_end_in_the_middle_of_a_round(tmp_path: Path) -> None:
    """No event is needed: a permission's last moment passes while a client trains."""

    def later(here: House, _people: set[str]) -> None:
        here.clock.move(seconds=60)

    here, trace = watched(tmp_path, 2, later)
    site, clock = here.site(ONE), here.clock
    half = site.training.records.subjects[::2]
    end = timestamp(clock() + timedelta(seconds=30))
    now = timestamp(clock())
    site.permissions.append(
        [PermissionEvent("grant", "consent", s, ("health-research",), now, now, valid_until=end) for s in half]
    )
    here.rounds()
    assert trace.wrong == []
    before = {i for batch in here.read[ONE][:2] for i in batch}
    after = {i for batch in here.read[ONE][2:] for i in batch}
    assert {i for i in before if i % 2 == 0}
    assert after
    assert not {i for i in after if i % 2 == 0}


def test_a_clock_that_is_set_back_revives_nothing(tmp_path: Path) -> None:
    """What had ended stays ended, also for a client that was restarted meanwhile."""
    here = house(tmp_path)
    site, now, end = here.site(ONE), here.clock(), timestamp(here.clock() + timedelta(seconds=30))
    for s in [*site.training.records.subjects]:
        terms = (s, ("health-research",), timestamp(now), timestamp(now))
        site.permissions.append([PermissionEvent("grant", "consent", *terms, valid_until=end)])
    here.clock.move(seconds=60)
    assert here.said(here.order()).reason == "no_permitted_record"
    here.clock.move(seconds=-45)
    assert here.said(here.order(round=2)).reason == "no_permitted_record"
    again = house(tmp_path, clock=here.clock)
    assert again.said(again.order(round=2)).reason == "no_permitted_record"
    assert here.read == again.read == {}
