"""A broken bundle is shown red with the reason; what is intact stays readable, and only that is counted."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fedge.audit.note import sign
from fedge.reports.viewer import index
from fedge.running import Result
from tests.audit.forging import CLIENTS, Forger
from tests.reports.test_report import Page
from tests.reports.viewer.conftest import Open

BUNDLE = "/bundle"


def bundle_of_entries(forger: Forger) -> Path:
    return next(p for p in (forger.bundle / "audit" / "tile" / "entries").rglob("2*") if p.is_file())


def change(forger: Forger, number: int) -> None:
    """Change one byte of an entry, in the files alone."""
    path = bundle_of_entries(forger)
    data = bytearray(path.read_bytes())
    place = sum(2 + len(e) for e in forger.entries[:number]) + 2 + len(forger.entries[number]) // 2
    data[place] ^= 1
    path.write_bytes(bytes(data))


def faulty(html: str) -> list[int]:
    return [int(n) for n in re.findall(r'<tr class="faulty"><td class="n"><a href="[^"]*/entries/(\d+)"', html)]


def test_one_changed_byte_is_found_at_its_entry_and_the_others_can_be_read(forger: Forger, opening: Open) -> None:
    number = forger.index_of("DataUse", client="hospital-2", round=2)
    change(forger, number)
    browser = opening(forger.bundle)
    front = browser.get("/").text
    assert "The log does not hold" in front
    assert "an entry was changed" in front
    size = len(forger.entries)
    assert f"{size - 1} of {size} entries can still be relied on" in Page(front).text
    assert faulty(browser.get(f"{BUNDLE}/entries?faulty=1").text) == [number]
    assert "Do not rely on this entry" in browser.get(f"{BUNDLE}/entries/{number}").text
    other = browser.get(f"{BUNDLE}/entries/{number - 1}").text
    assert "In the log, and signed by" in other
    assert "No proof can be drawn" in other
    html = browser.get(BUNDLE).text
    assert "The log does not hold" in html
    assert f"{BUNDLE}/entries?faulty=1" in html
    for page in ("/clients", "/clients/hospital-2", "/rounds", "/rounds/2", "/checks", "/entries"):
        assert browser.get(BUNDLE + page).status_code == 200


def test_what_is_not_intact_is_not_counted(forger: Forger, opening: Open) -> None:
    whole = opening(forger.bundle).get(f"{BUNDLE}/clients/hospital-2").text
    change(forger, forger.index_of("DataUse", client="hospital-2", round=2))
    part = opening(forger.bundle).get(f"{BUNDLE}/clients/hospital-2").text
    assert "<b>3</b> updates submitted" in whole
    assert "<b>2</b> updates submitted" in part


def test_without_a_signed_root_no_entry_can_be_relied_on(forger: Forger, opening: Open) -> None:
    (forger.bundle / "audit" / "checkpoint").write_text("nothing")
    browser = opening(forger.bundle)
    html = browser.get(f"{BUNDLE}/entries").text
    assert len(faulty(html)) == len(forger.entries)
    assert "no signed root shows that it is in the log" in html
    assert "No enrolment of a client can be relied on" in browser.get(f"{BUNDLE}/clients").text
    assert browser.get(f"{BUNDLE}/entries/3/proof").status_code == 404
    assert browser.get(f"{BUNDLE}/entries/3/receipt").status_code == 404


def test_a_changed_first_entry_leaves_nobody_known(forger: Forger, opening: Open) -> None:
    change(forger, 0)
    html = opening(forger.bundle).get(f"{BUNDLE}/entries").text
    assert faulty(html) == list(range(len(forger.entries)))
    assert "speaks without being enrolled" in html


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_bundle_of_entries_that_is_cut_off_shows_what_is_left(forger: Forger, opening: Open, cut: int) -> None:
    path = bundle_of_entries(forger)
    path.write_bytes(path.read_bytes()[:-cut])
    browser = opening(forger.bundle)
    lost = faulty(browser.get(f"{BUNDLE}/entries?faulty=1").text)
    assert 0 < len(lost) < len(forger.entries)
    assert lost == list(range(lost[0], len(forger.entries)))
    for number in (0, *lost):
        assert browser.get(f"{BUNDLE}/entries/{number}").status_code == 200


def test_an_empty_bundle_is_a_page_too(tmp_path: Path, opening: Open) -> None:
    (tmp_path / "nothing" / "audit").mkdir(parents=True)
    browser = opening(tmp_path / "nothing")
    assert "The log does not hold" in browser.get("/").text
    for page in ("", "/entries", "/clients", "/rounds", "/checks"):
        assert browser.get("/nothing" + page).status_code == 200
    assert browser.get("/nothing/entries/0").status_code == 404


def test_a_checkpoint_that_signs_more_entries_than_anybody_has_is_no_endless_work(
    forger: Forger, opening: Open
) -> None:
    forger.publish(CLIENTS)
    text = (forger.bundle / "audit" / "checkpoint").read_text()
    lines = text.split("\n")
    lines[1] = "9" * 15
    note = sign("\n".join(lines[:3]) + "\n", forger.origin, forger.log)
    (forger.bundle / "audit" / "checkpoint").write_text(note.text)
    assert len(faulty(opening(forger.bundle).get(f"{BUNDLE}/entries").text)) > 0


def test_a_liar_with_the_keys_is_found_by_the_receipts_and_every_entry_is_named(forger: Forger, opening: Open) -> None:
    number = forger.index_of("DataUse", client="hospital-2", round=2)
    forger.change(number, counts=replace(forger.leaf(number).counts, eligible="0", used="200-299"))
    forger.mend_chains()
    forger.publish(CLIENTS)
    html = opening(forger.bundle).get(BUNDLE).text
    assert "The log does not hold" in html
    named = re.search(rf'<b>data use:</b> <a href="{BUNDLE}/entries/(\d+)">entry \d+</a>', html)
    assert named is not None
    assert int(named[1]) == number
    assert "Data use failed here:" in opening(forger.bundle).get(f"{BUNDLE}/entries/{number}").text


def test_a_check_that_cannot_be_ended_says_so_and_the_last_one_stands(
    finished: Result, opening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = opening(finished.folder)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "build", full)
    browser.post(f"/{finished.folder.name}/checks")
    html = browser.get(f"/{finished.folder.name}/checks").text
    assert "the check could not be ended" in html
    assert "No space left on device" in html
    assert "no round missing" in html
    monkeypatch.undo()
    browser.post(f"/{finished.folder.name}/checks")
    assert "could not be ended" not in browser.get(f"/{finished.folder.name}/checks").text
