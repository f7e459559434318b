"""Columns and plain fold answer alike, whatever the history; times are half-open; the past is not rewritten."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.consent import measured
from fedge.consent.decision import decide
from fedge.consent.events import PermissionEvent, parse_event, plain_event, print_event
from fedge.consent.grants import NEVER, NOTHING, Permissions, Reason, fold
from fedge.consent.reading import Reader
from fedge.consent.request import Request
from fedge.encoding import canonical, moment, parse, timestamp
from fedge.errors import FedgeError, PermissionRecordError
from tests.consent.drawing import BEGIN, SUBJECTS, events, histories, hour, requests

ASKED = ("anna", "bert", "carl", "anna")
"""Carl has no event; Anna owns two records."""


def of(history: list[PermissionEvent], subject: str) -> list[PermissionEvent]:
    return [e for e in history if e.subject == subject]


def plainly(history: list[PermissionEvent], subject: str, wanted: Request, at: datetime) -> Reason:
    return decide(of(history, subject), of(history, "*"), wanted, timestamp(at)).reason


@given(histories(), st.integers(0, 8), requests(), st.integers(-1, 9))
def test_columns_say_what_the_plain_fold_says(
    history: list[PermissionEvent], cut: int, wanted: Request, hours: int
) -> None:
    at = BEGIN + timedelta(hours=hours)
    state = fold(fold(NOTHING, history[:cut]), history[cut:])
    found = [Reason(int(code)) for code in state.judge(ASKED, wanted, at).codes]
    assert found == [plainly(history, subject, wanted, at) for subject in ASKED]
    for subject in SUBJECTS:
        assert state.history(subject) == of(history, subject)
        assert state.decide(subject, wanted, at) == decide(
            of(history, subject), of(history, "*"), wanted, timestamp(at)
        )


@settings(max_examples=40)
@given(histories(), requests(), st.integers(0, 8))
def test_folding_on_changes_no_earlier_state(history: list[PermissionEvent], wanted: Request, cut: int) -> None:
    before = fold(NOTHING, history[:cut])
    at = BEGIN + timedelta(hours=9)
    said = before.judge(ASKED, wanted, at).codes.tolist()
    fold(before, history[cut:])
    fold(before, history)
    assert before.judge(ASKED, wanted, at).codes.tolist() == said
    assert len(NOTHING) == 0


@settings(max_examples=40)
@given(histories(), requests(), st.integers(-1, 9), st.integers(0, 3_599_999))
def test_a_verdict_holds_until_the_next_change(
    history: list[PermissionEvent], wanted: Request, hours: int, later: int
) -> None:
    state, at = fold(NOTHING, history), BEGIN + timedelta(hours=hours)
    change = state.next_change(at)
    then = at + timedelta(milliseconds=later)
    if change != NEVER and then >= moment(change):
        then = moment(change) - timedelta(milliseconds=1)
    assert state.judge(ASKED, wanted, then).codes.tolist() == state.judge(ASKED, wanted, at).codes.tolist()


@settings(max_examples=40)
@given(histories(), requests(), st.integers(0, 9), st.sampled_from(["refuse", "withdraw"]))
def test_a_no_recorded_now_denies_at_once(
    history: list[PermissionEvent], wanted: Request, hours: int, act: str
) -> None:
    at = BEGIN + timedelta(hours=hours)
    now = timestamp(at)
    no = PermissionEvent(act, "consent", "anna", ("any-use",), now, now)  # type: ignore[arg-type]
    assert not fold(NOTHING, [*history, no]).judge(["anna"], wanted, at).admitted[0]


@settings(max_examples=40)
@given(histories(), requests(), st.integers(0, 9))
def test_an_opt_out_beats_everything(history: list[PermissionEvent], wanted: Request, hours: int) -> None:
    at = BEGIN + timedelta(hours=hours)
    now = timestamp(at)
    objection = PermissionEvent("grant", "opt_out", "anna", ("any-use",), now, now)
    assert fold(NOTHING, [*history, objection]).judge(["anna"], replace(wanted, purpose="care"), at).codes.tolist() == [
        Reason.opt_out
    ]


@settings(max_examples=40)
@given(histories(), requests(), st.integers(0, 9))
def test_a_correction_gives_nothing(history: list[PermissionEvent], wanted: Request, hours: int) -> None:
    at = BEGIN + timedelta(hours=hours)
    now = timestamp(at)
    struck = [PermissionEvent("correct", "consent", "anna", ("any-use",), now, now, record=r) for r in ("R", "Q")]
    before, after = fold(NOTHING, history), fold(NOTHING, [*history, *struck])
    permitted_by_all = before.judge(["carl"], wanted, at).admitted[0]
    if not before.judge(["anna"], wanted, at).admitted[0] and not permitted_by_all:
        assert not after.judge(["anna"], wanted, at).admitted[0]


@given(st.datetimes(datetime(2024, 2, 28), datetime(2024, 3, 2)), st.integers(1, 10**8))
def test_intervals_are_half_open(start: datetime, length: int) -> None:
    begin = moment(timestamp(start.replace(tzinfo=BEGIN.tzinfo)))
    end = begin + timedelta(milliseconds=length)
    tick = timedelta(milliseconds=1)
    event = PermissionEvent(
        "grant", "consent", "anna", ("HRESCH",), timestamp(begin), timestamp(begin - tick), timestamp(end)
    )
    state = fold(NOTHING, [event])
    found = [state.judge(["anna"], "HRESCH", at).codes[0] for at in (begin - tick, begin, end - tick, end)]
    assert found == [Reason.not_yet_valid, Reason.admitted, Reason.admitted, Reason.expired]


@given(events())
def test_one_spelling(event: PermissionEvent | None) -> None:
    if event is None:
        return
    data = print_event(event)
    assert parse_event(data) == event
    assert data == canonical(plain_event(event))
    assert Reader().read(data) == event


@given(st.lists(events(), max_size=6))
def test_the_fast_reader_reads_the_same(drawn: list[PermissionEvent | None]) -> None:
    reader = Reader()
    for event in drawn:
        if event is not None:
            assert reader.read(print_event(event)) == event


def test_an_event_of_the_first_version_keeps_its_bytes() -> None:
    first = (
        b'{"act":"grant","evidence":null,"kind":"consent","purposes":["health-research"],"recorded_at":'
        b'"2026-11-23T09:30:00.000Z","subject":"p-0123456789abcdef","valid_from":"2026-11-23T09:30:00.000Z",'
        b'"valid_until":null}'
    )
    assert print_event(parse_event(first)) == first


def test_a_default_that_is_printed_is_refused() -> None:
    plain = plain_event(PermissionEvent("grant", "consent", "anna", ("care",), hour(0), hour(0)))
    with pytest.raises(PermissionRecordError, match="at its default"):
        parse_event(canonical(plain | {"record": None}))


@pytest.mark.parametrize(
    "entry", [b"", b"[]", b"{}", b'{"act":"grant"}', b"\xff", b'{"act":1,"subject":2}', b"[" * 100_000]
)
def test_a_damaged_entry_is_an_error(entry: bytes) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        Reader().read(entry)
    assert type(caught.value).__module__ == "fedge.errors"


def test_a_damaged_entry_of_known_terms_is_an_error() -> None:
    reader = Reader()
    data = print_event(PermissionEvent("grant", "consent", "anna", ("care",), hour(0), hour(0)))
    reader.read(data)
    plain = parse(data)
    for name, value in (("subject", ""), ("subject", 3), ("recorded_at", "yesterday"), ("valid_until", hour(0))):
        with pytest.raises(FedgeError):
            reader.read(canonical(plain | {name: value}))


def test_legal_bases_are_those_of_who_admits() -> None:
    permit = PermissionEvent(
        "grant", "permit", "*", ("HRESCH",), hour(0), hour(0), record="P-1", legal_bases=("eu-gdpr:A9-2-j",)
    )
    own = PermissionEvent("grant", "consent", "anna", ("HRESCH",), hour(0), hour(0))
    at = BEGIN + timedelta(hours=1)
    state = fold(NOTHING, [permit, own])
    assert state.judge(["anna"], "HRESCH", at).legal_bases == ("eu-gdpr:A6-1-a", "eu-gdpr:A9-2-a")
    assert state.judge(["carl"], "HRESCH", at).legal_bases == ("eu-gdpr:A9-2-j", "permit:P-1")
    assert len(state.judge(["anna", "carl"], "HRESCH", at).legal_bases) == 4
    assert state.judge(["anna", "carl"], "commercial", at).legal_bases == ()


def test_who_was_erased_is_not_admitted_again() -> None:
    state = fold(NOTHING, [PermissionEvent("grant", "consent", "anna", ("HRESCH",), hour(0), hour(0))])
    at = BEGIN + timedelta(hours=1)
    gone = Permissions(frozenset({"anna"}), state._columns, state._people, state._terms)
    assert gone.judge(["anna"], "HRESCH", at).codes.tolist() == [Reason.erased]
    assert gone.decide("anna", "HRESCH", at).reason == Reason.erased


def test_the_benchmark_compares_like_with_like() -> None:
    assert measured(2_000, seed=7)["same_answers"]
