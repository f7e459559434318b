"""Every row of the table is what the engine decides, plainly and in columns; the document prints these rows."""

from pathlib import Path
from types import ModuleType

import pytest

from fedge.consent import conditions, purposes
from fedge.consent.decision import decide
from fedge.consent.grants import NOTHING, Reason, fold
from fedge.encoding import timestamp
from tests.consent.cases import NOW, PERSON, Case, all_cases, events_of, rendered

DOCUMENT = Path(__file__).parents[2] / "docs" / "consent.md"
CASES = list(all_cases())


@pytest.mark.parametrize("case", CASES, ids=[f"{n}: {c.on_file} {c.asked}" for n, c in enumerate(CASES)])
def test_case(case: Case) -> None:
    events = events_of(case.given)
    own, everyone = ([e for e in events if e.subject == subject] for subject in (PERSON, "*"))
    decided = decide(own, everyone, case.request, timestamp(NOW))
    assert decided.reason == case.verdict, decided
    assert fold(NOTHING, events).judge([PERSON], case.request, NOW).codes.tolist() == [case.verdict]


def test_there_are_enough_and_every_reason_occurs() -> None:
    assert len(CASES) >= 60
    assert {case.verdict for case in CASES} == set(Reason) - {Reason.erased}  # which is the life cycle's to decide


def test_the_document_prints_these_rows() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = "<!-- cases -->\n", "<!-- end of cases -->"
    assert text.partition(begin)[2].partition(end)[0].strip() == rendered().strip(), (
        "print tests.consent.cases.rendered()"
    )


@pytest.mark.parametrize("module", [purposes, conditions], ids=["purposes", "conditions"])
def test_the_document_prints_the_tables_of_the_code(module: ModuleType) -> None:
    name = module.__name__.rpartition(".")[2]
    printed = DOCUMENT.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")[2].partition("<!-- end of")[0]
    assert printed.splitlines() == [line for line in str(module.__doc__).splitlines() if line.startswith("|")]


def test_the_tables_of_the_code_are_what_the_code_does() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in str(purposes.__doc__).splitlines() if "|" in line
    ]
    table = {row[0]: row[1:] for row in rows[2:]}
    assert {name: row[0] or None for name, row in table.items()} == purposes.PARENTS
    codes = {
        c.partition(" (")[0]: name for name, row in table.items() for cell in row[1:] for c in cell.split(", ") if c
    }
    assert codes == purposes.CODES
