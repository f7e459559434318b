"""Tables and dates, in and out."""

import csv
from datetime import date, datetime, timedelta
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.consent import tabular
from fedge.consent.dates import bounds
from fedge.consent.events import PermissionEvent
from fedge.consent.grants import Reason
from fedge.consent.importing import take
from fedge.consent.store import PermissionStore
from fedge.encoding import timestamp
from fedge.errors import PermissionRecordError
from tests.consent.bringing import HERE, verdict, written
from tests.consent.cases import NOW
from tests.consent.drawing import histories


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2028-02-29", "2028-02-29T00:00:00.000Z", "2028-03-01T00:00:00.000Z"),
        ("2028-02", "2028-02-01T00:00:00.000Z", "2028-03-01T00:00:00.000Z"),
        ("2027-12", "2027-12-01T00:00:00.000Z", "2028-01-01T00:00:00.000Z"),
        ("2027", "2027-01-01T00:00:00.000Z", "2028-01-01T00:00:00.000Z"),
        ("2026-07-01T14:00:00+02:00", "2026-07-01T12:00:00.000Z", "2026-07-01T12:00:00.000Z"),
    ],
)
def test_dates(text: str, first: str, after: str) -> None:
    assert tuple(map(timestamp, bounds(text))) == (first, after)


def test_a_day_has_the_hours_of_its_time_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    spring, autumn = (bounds(day, berlin) for day in ("2026-03-29", "2026-10-25"))
    assert [(b - a).total_seconds() / 3600 for a, b in (spring, autumn)] == [23, 25]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-02-29",
        "2026-13",
        "0000",
        "0999",
        "9999-12-31",
        "2026-07-01T12:00:00",
        "26-1-1",
        "2026-07-01T25:00:00Z",
        "x",
    ],
)
def test_no_dates(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        bounds(text)


@given(
    st.dates(datetime(1000, 1, 2).date(), datetime(9998, 12, 30).date()),
    st.sampled_from(["UTC", "Asia/Tokyo", "Europe/Berlin"]),
)
def test_days_follow_each_other_without_a_gap(day: date, zone: str) -> None:
    where = ZoneInfo(zone)
    assert bounds(day.isoformat(), where)[1] == bounds((day + timedelta(days=1)).isoformat(), where)[0]


def test_csv_with_a_mapping(store: PermissionStore, tmp_path: Path) -> None:
    path = written(
        tmp_path, "f.csv", "Patient;Answer;Signed;Until\nanna;yes;2026-01-10;2026-07-01\nbert;no;2026-01-11;\n"
    )
    layout = tabular.Layout(
        now=NOW,
        columns={"Patient": "subject", "Answer": "act", "Signed": "valid_from", "Until": "valid_until"},
        given={"purposes": "HRESCH"},
    )
    assert take(store, tabular.entries(path, layout), NOW).accepted == 2
    assert (verdict(store, "anna"), verdict(store, "bert")) == (Reason.admitted, Reason.refused)
    assert store.history("anna")[0].valid_until == "2026-07-02T00:00:00.000Z"


def test_an_opt_out_register_is_a_list_of_numbers(store: PermissionStore, tmp_path: Path) -> None:
    path = written(tmp_path, "f.csv", "nhs_number\nanna\nbert\n")
    given = {"kind": "opt_out", "act": "grant", "purposes": "any-use", "valid_from": "2026-01-01"}
    layout = tabular.Layout(now=NOW, columns={"nhs_number": "subject"}, given=given)
    assert take(store, tabular.entries(path, layout), NOW).accepted == 2
    assert take(store, tabular.entries(path, layout), NOW).known == 2
    assert verdict(store, "bert") == Reason.opt_out


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("anna,maybe,HRESCH,2026-01-01", "act"),
        ("anna,yes,WHATEVER,2026-01-01", "purposes"),
        ("anna,yes,HRESCH,31.12.2026", "valid_from"),
    ],
)
def test_a_row_not_understood_is_a_refusal(store: PermissionStore, tmp_path: Path, row: str, code: str) -> None:
    path = written(tmp_path, "f.csv", f"subject,act,purpose,valid_from\n{row}\n")
    report = take(store, tabular.entries(path, HERE), NOW)
    assert report.not_understood == {code: 1}
    assert verdict(store) == Reason.unreadable


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "no column says 'subject'"),
        ("subject,subject,act,purpose\n1,2,3,4\n", "two columns"),
        ('subject,act,purpose\n"anna,yes,HRESCH\n', "not CSV"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(PermissionRecordError, match=why):
        list(tabular.entries(written(tmp_path, "f.csv", content), HERE))


def test_rows_with_faults_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "f.csv", "subject,act,purpose\n,yes,HRESCH\nanna,yes\n\nanna,yes,HRESCH\n")
    found = list(tabular.entries(path, HERE))
    assert [(e.place, e.refused) for e in found[:2]] == [
        ("line 2", "names no subject"),
        ("line 3", "has 2 fields, the first line names 3"),
    ]
    assert found[2].events[0].subject == "anna"


def test_a_cell_is_never_a_formula() -> None:
    out = StringIO()
    for dangerous in ("=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\t=1"):
        event = PermissionEvent("grant", "consent", dangerous, ("care",), timestamp(NOW), timestamp(NOW))
        out.seek(0)
        out.truncate()
        tabular.write([event], out)
        assert next(csv.DictReader(StringIO(out.getvalue())))["subject"] == f"'{dangerous}"


@given(histories(("anna", "bert")))
def test_csv_out_and_in_again(history: list[PermissionEvent]) -> None:
    out = StringIO()
    tabular.write(history, out)
    rows = list(csv.DictReader(StringIO(out.getvalue())))
    assert [(r["act"], r["subject"], r["recorded_at"]) for r in rows] == [
        (e.act, e.subject, e.recorded_at) for e in history
    ]
