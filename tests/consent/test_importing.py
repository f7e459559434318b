"""Files from elsewhere: whole or not at all, whatever their form, encoding or faults; and out again."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedge.consent import jsonl, tabular
from fedge.consent.events import PermissionEvent, print_event
from fedge.consent.formats import detect
from fedge.consent.grants import Reason
from fedge.consent.importing import Entry, events_of, take
from fedge.consent.store import PermissionStore
from fedge.encoding import timestamp
from fedge.errors import PermissionRecordError, StorageError
from fedge.journal import MemoryJournal
from tests.consent.bringing import HERE, bring, ndjson, verdict, written
from tests.consent.cases import NOW, r4

# ---- one transaction --------------------------------------------------------------------------------------------


def test_one_bad_entry_and_nothing_is_taken(store: PermissionStore, tmp_path: Path) -> None:
    path = written(tmp_path, "a.ndjson", ndjson(r4(), {"resourceType": "Consent", "status": "active"}))
    report = bring(store, path)
    assert (report.accepted, report.refused, report.taken) == (0, 1, False)
    assert report.rejected[0][0] == "line 2"
    assert store.history() == []
    assert bring(store, path, accept_valid=True).accepted == 1
    assert verdict(store) == Reason.admitted


def test_a_dry_run_says_what_it_would_do_and_does_nothing(store: PermissionStore, tmp_path: Path) -> None:
    report = bring(store, written(tmp_path, "a.ndjson", ndjson(r4())), dry_run=True)
    assert (report.accepted, report.taken) == (1, False)
    assert store.history() == []


def test_a_source_that_fails_half_way_leaves_nothing(store: PermissionStore) -> None:
    def source() -> Iterator[Entry]:
        yield from events_of(
            PermissionEvent("grant", "consent", f"p{n}", ("HRESCH",), timestamp(NOW), timestamp(NOW))
            for n in range(5000)
        )
        raise OSError("the share went away")

    with pytest.raises(OSError, match="went away"):
        take(store, source(), NOW)
    assert store.history() == []
    assert store.state().subjects() == []


def test_a_function_of_your_own_is_a_source(store: PermissionStore) -> None:
    mine = [PermissionEvent("grant", "consent", "anna", ("HRESCH",), timestamp(NOW), timestamp(NOW))]
    assert take(store, events_of(mine), NOW).accepted == 1
    assert verdict(store) == Reason.admitted


def test_importing_again_adds_nothing(store: PermissionStore, tmp_path: Path) -> None:
    path = written(tmp_path, "a.ndjson", ndjson(r4(), r4(id="c2", patient={"reference": "Patient/bert"})))
    assert bring(store, path).accepted == 2
    again = bring(store, path)
    assert (again.accepted, again.known) == (0, 2)


def test_the_future_is_refused(store: PermissionStore, tmp_path: Path) -> None:
    report = bring(store, written(tmp_path, "a.ndjson", ndjson(r4(dateTime="2026-07-01T12:00:01Z"))))
    assert report.refused == 1
    assert "future" in report.rejected[0][1]


def test_a_report_lists_a_thousand_and_counts_all(store: PermissionStore, tmp_path: Path) -> None:
    report = bring(store, written(tmp_path, "a.ndjson", "{}\n" * 1500))
    assert (report.refused, len(report.rejected)) == (1500, 1000)


# ---- encodings, and files that do not hold still ---------------------------------------------------------------


LINE = "subject,act,purpose\nJürgen,yes,HRESCH\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "f.csv", LINE.encode(encoding))
    assert detect(path) == "csv"
    assert next(tabular.entries(path, HERE)).events[0].subject == "Jürgen"


def test_an_encoding_that_does_not_must_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "f.csv", LINE.encode("latin-1"))
    with pytest.raises(PermissionRecordError, match="name its encoding"):
        list(tabular.entries(path, HERE))
    layout = tabular.Layout(now=NOW, encoding="latin-1")
    assert next(tabular.entries(path, layout)).events[0].subject == "Jürgen"
    with pytest.raises(PermissionRecordError, match="no text encoding"):
        list(tabular.entries(path, tabular.Layout(now=NOW, encoding="klingon")))


@pytest.mark.parametrize("how", ["replaced", "appended"])
def test_a_file_that_changes_while_it_is_read(store: PermissionStore, tmp_path: Path, how: str) -> None:
    event = PermissionEvent("grant", "consent", "anna", ("HRESCH",), timestamp(NOW), timestamp(NOW))
    path = written(tmp_path, "a.jsonl", print_event(event) + b"\n")

    def source() -> Iterator[Entry]:
        reading = jsonl.entries(path)
        yield next(reading)
        if how == "replaced":
            written(tmp_path, "b.jsonl", print_event(event) + b"\n").replace(path)
        else:
            with path.open("ab") as file:
                file.write(print_event(event) + b"\n" * 2)
        yield from reading

    with pytest.raises(StorageError, match="import it again"):
        take(store, source(), NOW)
    assert store.history() == []


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"act":"grant","act":"refuse"}', "null", "[" * 10_000, '{"act":"grant"}']
)
def test_bad_lines_have_reasons(tmp_path: Path, line: str) -> None:
    (found,) = jsonl.entries(written(tmp_path, "a.jsonl", line + "\n"))
    assert found.refused


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        detect(tmp_path / "nowhere")


def test_a_large_file_does_not_stay_in_memory(store: PermissionStore) -> None:
    """Entries are drawn from the source no faster than they are written away."""
    drawn: list[int] = []
    written_away: list[int] = []

    def source() -> Iterator[Entry]:
        for n in range(10_000):
            drawn.append(n)
            event = PermissionEvent("grant", "consent", f"p{n}", ("HRESCH",), timestamp(NOW), timestamp(NOW))
            yield Entry(f"line {n}", (event,))
            assert len(drawn) - sum(written_away) <= 2_000

    assert take(store, source(), NOW, on_batch=written_away.append).accepted == 10_000
    assert store.judge(("p9999",), "HRESCH", NOW).admitted.tolist() == [True]


def test_memory_journals_import_too() -> None:
    store = PermissionStore(MemoryJournal())
    event = PermissionEvent("grant", "consent", "anna", ("HRESCH",), timestamp(NOW), timestamp(NOW))
    assert take(store, events_of([event, event]), datetime(2026, 12, 1, tzinfo=UTC)).accepted == 1
