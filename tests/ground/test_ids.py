"""Names: readable where they are public, unguessable where they stand for a person."""

from datetime import UTC, datetime

import pytest

from fedge.errors import ParseError
from fedge.ids import client_id, pseudonym, run_id


@pytest.mark.parametrize("text", ["hospital-1", "a", "9", "a.b_c-d", "a" * 64])
def test_a_client_name(text: str) -> None:
    assert client_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "A", "a b", "a/b", "../a", "a\n", "é", "a" * 65, "<b>"])
def test_what_is_no_client_name(text: str) -> None:
    with pytest.raises(ParseError, match="client name"):
        client_id(text)


def test_a_run_is_named_by_task_seed_and_moment() -> None:
    assert run_id("cancer", 7, datetime(2026, 11, 23, 9, 30, 0, 120_999, UTC)) == "cancer-7-20261123-093000-120"


def test_a_pseudonym_depends_on_the_secret_and_on_the_person() -> None:
    one = pseudonym(b"a" * 32, "patient-1")
    assert one == pseudonym(b"a" * 32, "patient-1")
    assert len({one, pseudonym(b"b" * 32, "patient-1"), pseudonym(b"a" * 32, "patient-2")}) == 3
    assert "patient" not in one
