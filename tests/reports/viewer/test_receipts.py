"""Receipts are judged against the open bundles; one of something that the log no longer holds speaks against it."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fedge.running import Result
from tests.audit.attacks import truncates_the_tail
from tests.audit.forging import Forger
from tests.reports.test_report import Page
from tests.reports.viewer.conftest import Open


def receipts(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "receipts" / "hospital-1").glob("*"))}


def send(browser: TestClient, files: dict[str, bytes]) -> str:
    answer = browser.post("/receipts", files=[("receipt", item) for item in files.items()])
    assert answer.status_code == 200
    return Page(answer.text).text


def test_receipts_of_a_log_that_holds_hold(browser: TestClient, finished: Result) -> None:
    files = receipts(finished.folder)
    text = send(browser, files)
    assert text.count("It holds.") == len(files) > 3
    assert "still holds it: entry" in text
    assert "It does not hold" not in text


def test_the_bundles_own_receipt_of_an_entry_has_a_page(browser: TestClient, finished: Result, home: str) -> None:
    for entry in finished.verification.entries:
        answer = browser.get(f"{home}/entries/{entry.index}/receipt")
        assert answer.status_code == (200 if entry.by_client else 404)
        assert ("It holds." in answer.text) == entry.by_client
        assert ("Proof of inclusion as a tree" in answer.text) == entry.by_client


def test_a_receipt_of_an_entry_that_was_cut_off_is_evidence_against_the_log(
    forger: Forger, opening: Open, finished: Result
) -> None:
    truncates_the_tail(forger)
    name, data = list(receipts(finished.folder).items())[-1]
    text = send(opening(forger.bundle), {name: data})
    assert "the log was cut or rewritten" in text
    assert "It holds." not in text


@pytest.mark.parametrize("change", ["index", "hash", "entry", "signature", "end", "text", "bytes"])
def test_a_changed_receipt_does_not_hold(browser: TestClient, finished: Result, change: str) -> None:
    name, data = next(iter(receipts(finished.folder).items()))
    lines = data.decode().split("\n")
    number = next(i for i, line in enumerate(lines) if line.startswith("index "))
    match change:
        case "index":
            lines[number] = "index 7"
        case "hash":
            lines[number + 1], lines[number + 2] = lines[number + 2], lines[number + 1]
        case "entry":
            lines[1] = lines[1].replace("A", "B", 1)
        case "signature":
            lines[-2] = lines[-2][:-10] + "AAAAAAAAA="
        case "end":
            lines = lines[:-3]
        case "text":
            lines = ["hello"]
    changed = b"\xff\xfe" if change == "bytes" else "\n".join(lines).encode()
    text = send(browser, {name: changed})
    assert "It does not hold." in text
    assert "It holds." not in text


def test_a_receipt_of_a_log_that_is_not_open_says_so(browser: TestClient, finished: Result) -> None:
    name, data = next(iter(receipts(finished.folder).items()))
    other = data.replace(f"fedge/{finished.folder.name}".encode(), b"fedge/another-run")
    assert "no bundle of that log is open" in send(browser, {name: other})


def test_no_file_is_an_answer_too(browser: TestClient) -> None:
    assert "No file was chosen" in Page(browser.post("/receipts", files={"other": ("a", b"b")}).text).text
