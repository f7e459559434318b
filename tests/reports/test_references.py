"""References: one spelling for each set of entries, and it reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import ParseError
from fedge.reports.evidence.series import MOST, Series
from fedge.reports.references import parse_refs, refs

SPELLED = {
    "": [],
    "7": [7],
    "0,1": [0, 1],
    "7-9": [7, 8, 9],
    "12+101x1000": list(range(12, 12 + 101 * 1000, 101)),
    "0,2-4,9,30+10x3": [0, 2, 3, 4, 9, 30, 40, 50],
}


@pytest.mark.parametrize("text", SPELLED)
def test_one_spelling(text: str) -> None:
    assert refs(SPELLED[text]).text == text
    assert list(parse_refs(text)) == SPELLED[text]
    assert len(parse_refs(text)) == len(SPELLED[text])


@given(st.lists(st.integers(0, 10**6), max_size=60))
def test_what_is_printed_reads_back(numbers: list[int]) -> None:
    printed = refs(numbers)
    assert list(printed) == sorted(set(numbers))
    assert parse_refs(printed.text) == printed
    assert all(n in printed for n in numbers) and -1 not in printed


@pytest.mark.parametrize(
    "text",
    ["a", "01", "7,", "7,7", "9,7", "7-7", "9-7", "5,6,7", "1+1x5", "1+0x3", "1+5x2", "1-9999999999999999"],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_refs(text)


@given(st.integers(1, 5000))
def test_a_long_curve_is_kept_in_few_points_with_both_its_ends(length: int) -> None:
    series: Series[float] = Series()
    for n in range(length):
        series.add(n, n / 2)
    points = series.points
    assert len(points) <= MOST + 2
    assert (points[0], points[-1]) == ((0, 0.0), (length - 1, (length - 1) / 2))
    assert [x for x, _ in points] == sorted({x for x, _ in points})
