"""One spelling for every fact: what is printed is read back, and nothing else is read at all."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge import encoding
from fedge.encoding import canonical, decimal, from_plain, moment, parse, timestamp, to_plain
from fedge.errors import ConfigError, ParseError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
PLAIN = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@given(PLAIN)
def test_print_then_parse_is_the_value(value: Any) -> None:
    assert parse(canonical(value)) == value


@given(PLAIN)
def test_parse_then_print_is_the_bytes(value: Any) -> None:
    data = canonical(value)
    assert canonical(parse(data)) == data


@given(PLAIN, st.sampled_from([" ", "\n", ","]))
def test_another_spelling_is_refused(value: Any, extra: str) -> None:
    with pytest.raises(ParseError):
        parse(canonical(value) + extra.encode())


@given(st.binary(max_size=40))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with contextlib.suppress(ParseError):
        assert canonical(parse(data)) == data


def test_canonical_bytes_are_those_of_the_standard() -> None:
    """RFC 8785, section 3.2.3: keys are sorted by UTF-16 code units."""
    given_ = {"\u20ac": "Euro Sign", "\r": "Carriage Return", "\u0080": "Control", "\U0001f600": "Emoji", "1": "One"}
    assert list(json.loads(canonical(given_))) == ["\r", "1", "\u0080", "\u20ac", "\U0001f600"]
    assert canonical({"b": [1, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,null]}'.encode()


@pytest.mark.parametrize("value", [1.0, {"a": [0.5]}, float("nan"), float("inf")])
def test_floats_are_refused(value: Any) -> None:
    with pytest.raises(ParseError, match="float"):
        canonical(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), object(), {1: 2}, {"a"}, b"bytes", "\ud800"])
def test_what_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(ParseError):
        canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',  # one key twice
        b'{"b":1,"a":1}',  # another order
        b'{ "a":1}',
        b'"\\u0041"',  # an escape that is not needed
        b"1.0",
        b"1e2",
        b"-0",
        b"NaN",
        b"Infinity",
        b"9007199254740993",
        b"\xff",
        b"",
        b"{",
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse(data[:])


@pytest.mark.parametrize("depth", [100, 300, 900, 990, 2000])
def test_deep_nesting_is_parsed_or_refused_never_a_crash(depth: int) -> None:
    try:
        assert parse(b"[" * depth + b"]" * depth) is not None
    except ParseError:
        assert depth > 100


@given(st.floats(allow_nan=False))
def test_decimal_reads_back(value: float) -> None:
    assert float(decimal(value)) == value


def test_decimal_refuses_what_is_no_number() -> None:
    with pytest.raises(ParseError):
        decimal(float("nan"))


@given(MOMENTS)
def test_timestamp_and_moment_are_inverse(at: datetime) -> None:
    whole = at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert moment(timestamp(at)) == whole


def test_timestamp_is_utc_with_milliseconds() -> None:
    at = datetime(2026, 11, 23, 10, 30, 0, 1999, timezone(timedelta(hours=1)))
    assert timestamp(at) == "2026-11-23T09:30:00.001Z"
    with pytest.raises(ParseError, match="time zone"):
        timestamp(datetime(2026, 11, 23))


@pytest.mark.parametrize(
    "text",
    ["2026-11-23T09:30:00Z", "2026-11-23T09:30:00.1Z", "2026-11-23T09:30:00.000+00:00", "2026-02-30T00:00:00.000Z", ""],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        moment(text)


@given(st.binary(max_size=40))
def test_base64_reads_back(data: bytes) -> None:
    assert encoding.b64decode(encoding.b64encode(data)) == data


@pytest.mark.parametrize("text", ["QQ", "QR==", "QQ==\n", " QQ==", "Q-==", "é"])
def test_lenient_base64_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        encoding.b64decode(text)


# ---- from_plain: values in, frozen values out, or the path and the fix ------------------------------------------


@dataclass(frozen=True)
class Inner:
    rate: float
    kind: Literal["mean", "median"] = "mean"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate is not below 0")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    count: int = 1
    flag: bool = False
    parts: tuple[int, ...] = ()
    others: Mapping[str, Inner] = field(default_factory=dict)
    note: str | None = None


INNERS = st.builds(Inner, st.floats(0, 1e9), st.sampled_from(["mean", "median"]))
OUTERS = st.builds(
    Outer,
    TEXT,
    INNERS,
    st.integers(),
    st.booleans(),
    st.tuples(st.integers(), st.integers()),
    st.dictionaries(TEXT, INNERS, max_size=3),
    st.none() | TEXT,
)


@given(OUTERS)
def test_to_plain_and_from_plain_are_inverse(value: Outer) -> None:
    assert from_plain(Outer, to_plain(value)) == value


GOOD: dict[str, Any] = {"name": "n", "inner": {"rate": 1}}


def test_a_whole_number_is_a_number_and_nothing_else_is_converted() -> None:
    assert from_plain(Outer, GOOD).inner == Inner(1.0)
    assert isinstance(from_plain(Outer, GOOD).inner.rate, float)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cuont": 2}, ["'cuont'", "did you mean 'count'"]),
        ({"zzzz": 2}, ["'zzzz'", "known here:", "count", "inner"]),
        ({"inner": {"rate": 1, "knd": "mean"}}, ["'inner.knd'", "'kind'"]),
        ({"inner": {}}, ["missing key 'inner.rate'", "a number"]),
        ({"inner": {"rate": "1"}}, ["inner.rate", "a number", "'1' (str)"]),
        ({"inner": {"rate": True}}, ["inner.rate", "True (bool)"]),
        ({"inner": {"rate": float("nan")}}, ["inner.rate", "NaN"]),
        ({"inner": {"rate": -1.0}}, ["inner", "rate is not below 0"]),
        ({"inner": {"rate": 1, "kind": "meen"}}, ["inner.kind", "mean, median", "did you mean 'mean'"]),
        ({"inner": [1]}, ["inner", "a mapping"]),
        ({"count": 1.0}, ["count", "a whole number", "1.0 (float)"]),
        ({"count": True}, ["count", "a whole number"]),
        ({"flag": 1}, ["flag", "true or false"]),
        ({"parts": [1, "2"]}, ["parts[1]", "a whole number"]),
        ({"parts": 3}, ["parts", "a list"]),
        ({"others": {"x": {"rate": None}}}, ["others.x.rate", "a number"]),
        ({"note": 7}, ["note", "text"]),
    ],
)
def test_the_error_names_the_key_what_was_expected_and_what_is_near(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        from_plain(Outer, GOOD | change)
    assert [w for w in words if w not in str(error.value)] == []


def test_the_error_is_of_the_kind_that_was_asked_for() -> None:
    with pytest.raises(ParseError):
        from_plain(Outer, {"name": 1}, ParseError)
