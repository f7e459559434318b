"""The store: other processes are heard, what has ended stays ended whatever the clock does, no question is repeated."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.consent.events import PermissionEvent, print_event
from fedge.consent.grants import Permissions, Reason
from fedge.consent.store import PermissionStore, tombstone
from fedge.encoding import timestamp
from fedge.errors import FedgeError
from fedge.journal import MemoryJournal, SqliteJournal
from tests.conftest import Clock
from tests.consent.drawing import BEGIN, histories, hour

WHO = ("anna", "bert")


def grant(subject: str = "anna", until: str | None = None, at: str | None = None) -> PermissionEvent:
    return PermissionEvent("grant", "consent", subject, ("HRESCH",), at or hour(0), at or hour(0), until)


def store_at(path: Path) -> PermissionStore:
    return PermissionStore(SqliteJournal(path, "permissions"))


def test_another_process_is_heard_at_the_next_question(tmp_path: Path) -> None:
    here, there = store_at(tmp_path / "c.db"), store_at(tmp_path / "c.db")
    here.append([grant("anna"), grant("bert")])
    ask = here.gate(WHO, "HRESCH", lambda: BEGIN + timedelta(hours=1))
    both = np.arange(2, dtype=np.int64)
    assert ask(both).tolist() == [True, True]
    there.append([PermissionEvent("withdraw", "consent", "bert", ("any-use",), hour(1), hour(1))])
    assert ask(both).tolist() == [True, False]
    assert here.snapshot_digest() == there.snapshot_digest()
    assert [e.subject for e in here.withdrawals()] == ["bert"]


def test_a_permission_ends_between_two_questions(tmp_path: Path, clock: Clock) -> None:
    clock.now = BEGIN + timedelta(hours=1)
    store = store_at(tmp_path / "c.db")
    store.append([grant("anna", until=hour(2))])
    ask = store.gate(("anna",), "HRESCH", clock)
    first = np.zeros(1, np.int64)
    assert ask(first).tolist() == [True]
    clock.now = BEGIN + timedelta(hours=2)
    assert ask(first).tolist() == [False]


def test_a_clock_set_back_readmits_nobody_even_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    clock.now = BEGIN + timedelta(hours=3)
    store = store_at(tmp_path / "c.db")
    store.append([grant("anna", until=hour(2))])
    assert store.judge(("anna",), "HRESCH", clock()).codes.tolist() == [Reason.expired]
    clock.now = BEGIN + timedelta(hours=1)
    assert store.judge(("anna",), "HRESCH", clock()).codes.tolist() == [Reason.expired]
    again = store_at(tmp_path / "c.db")
    assert again.judge(("anna",), "HRESCH", clock()).codes.tolist() == [Reason.expired]
    assert again.state().judge(("anna",), "HRESCH", clock()).codes.tolist() == [Reason.admitted]  # as of then


def test_a_clock_set_back_readmits_nobody_whatever_was_asked_in_between(tmp_path: Path, clock: Clock) -> None:
    """Verdicts are kept by question; what one question has seen end has ended for all of them."""
    store = store_at(tmp_path / "c.db")
    store.append([grant("anna", until=hour(2)), grant("bert")])
    anna, bert = ("anna",), ("bert",)
    clock.now = BEGIN + timedelta(hours=1)
    assert store.judge(anna, "HRESCH", clock()).codes.tolist() == [Reason.admitted]
    for asked in (anna, bert):
        clock.now = BEGIN + timedelta(hours=3)
        store.judge(asked, "HRESCH", clock())
        clock.now = BEGIN + timedelta(hours=1)
        assert store.judge(anna, "HRESCH", clock()).codes.tolist() == [Reason.expired]


def test_a_clock_set_back_does_not_hide_a_withdrawal(tmp_path: Path, clock: Clock) -> None:
    store = store_at(tmp_path / "c.db")
    store.append([grant("anna"), PermissionEvent("withdraw", "consent", "anna", ("any-use",), hour(5), hour(5))])
    clock.now = BEGIN + timedelta(hours=1)
    assert store.judge(("anna",), "HRESCH", clock()).codes.tolist() == [Reason.withdrawn]


@settings(max_examples=50)
@given(histories(("anna", "bert")), st.lists(st.integers(-5, 20), min_size=1, max_size=6))
def test_the_present_never_goes_back(history: list[PermissionEvent], hours: list[int]) -> None:
    """However the clock jumps: a no-longer is never followed by a yes, unless something began later."""
    journal = MemoryJournal()
    store = PermissionStore(journal)
    store.append(history)
    seen: list[datetime] = []
    for n in hours:
        says = BEGIN + timedelta(hours=n)
        now = store.present(says)
        assert now >= says
        found = store.judge(("anna", "bert"), "HRESCH", says).codes.tolist()
        assert found == store.state().judge(("anna", "bert"), "HRESCH", now).codes.tolist()
        restarted = PermissionStore(journal)
        assert restarted.judge(("anna", "bert"), "HRESCH", says).codes.tolist() == found
        seen.append(now)
    changes = [c for a, b in pairwise(seen) if (c := store.state().next_change(b)) <= timestamp(a)]
    assert changes == []


def test_nothing_is_judged_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked = PermissionStore(MemoryJournal()), []
    store.append([grant("anna")])
    inner = Permissions.judge
    monkeypatch.setattr(Permissions, "judge", lambda *args: asked.append(1) or inner(*args))
    ask = store.gate(WHO, "HRESCH", lambda: BEGIN + timedelta(hours=1))
    for _ in range(5):
        ask(np.zeros(1, np.int64))
    assert len(asked) == 1
    store.append([grant("bert", at=hour(1))])
    assert ask(np.arange(2, dtype=np.int64)).tolist() == [True, True]
    assert len(asked) == 2


def test_one_history_without_reading_the_others(tmp_path: Path) -> None:
    store = store_at(tmp_path / "c.db")
    odd = 'a"n\\na"subject":"bert'
    store.append([grant("anna"), grant("bert"), grant(odd)])
    assert [e.subject for e in store.history("bert")] == ["bert"]
    assert [e.subject for e in store.history(odd)] == [odd]
    assert len(store.history()) == 3
    assert store.decide("bert", "HRESCH", BEGIN + timedelta(hours=1)).event == grant("bert")


def test_a_tombstone_keeps_the_digest_and_gives_no_event() -> None:
    one, other = MemoryJournal(), MemoryJournal()
    for store in (PermissionStore(one), PermissionStore(other)):
        store.append([grant("anna"), grant("bert")])
    whole = PermissionStore(one).snapshot_digest()
    erased = MemoryJournal()
    erased.append([tombstone(print_event(grant("anna"))), print_event(grant("bert"))])
    store = PermissionStore(erased)
    assert store.snapshot_digest() == whole
    assert store.state().subjects() == ["bert"]
    assert store.judge(("anna",), "HRESCH", BEGIN + timedelta(hours=1)).codes.tolist() == [Reason.no_consent]


def test_who_is_gone_is_out_at_once() -> None:
    gone: set[str] = set()
    store = PermissionStore(MemoryJournal(), gone=lambda: frozenset(gone))
    store.append([grant("anna")])
    at = BEGIN + timedelta(hours=1)
    assert store.judge(("anna",), "HRESCH", at).admitted.tolist() == [True]
    gone.add("anna")
    assert store.judge(("anna",), "HRESCH", at).codes.tolist() == [Reason.erased]


def test_a_store_that_cannot_be_read_admits_nobody() -> None:
    journal = MemoryJournal()
    journal.append([b'{"act":"grant"}'])
    with pytest.raises(FedgeError):
        PermissionStore(journal).judge(("anna",), "HRESCH", datetime(2026, 1, 1, tzinfo=UTC))
