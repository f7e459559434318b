"""Mechanisms as data: written and read back, and nothing unknown is ever free."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import ParseError
from fedge.privacy.events import Event, Gaussian, NonPrivate, SampledGaussian, Unit, from_record, to_record

UNITS: st.SearchStrategy[Unit] = st.sampled_from(get_args(Unit))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(SampledGaussian, st.floats(0.001, 1), st.floats(0.1, 50), st.integers(1, 10**6), UNITS),
    st.builds(Gaussian, st.floats(0.1, 50), st.integers(1, 10**6), UNITS),
    st.just(NonPrivate()),
)
GOOD = to_record(SampledGaussian(0.1, 1.0, 10))


@given(EVENTS)
def test_written_and_read_back(event: Event) -> None:
    assert from_record(to_record(event)) == event


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"mechanism": "laplace"},
        {"mechanism": "non_private", "steps": 1},
        GOOD | {"steps": 0},
        GOOD | {"steps": "10"},
        GOOD | {"steps": 10.0},
        GOOD | {"steps": True},
        GOOD | {"sample_rate": "0"},
        GOOD | {"sample_rate": "1.5"},
        GOOD | {"sample_rate": 0.1},
        GOOD | {"noise_multiplier": "nan"},
        GOOD | {"noise_multiplier": "-1.0"},
        GOOD | {"noise_multiplier": "1"},
        GOOD | {"noise_multiplier": None},
        GOOD | {"unit": "record"},
        GOOD | {"unit": "person"},
        {"mechanism": "non_private", "unit": "client"},
        {k: v for k, v in GOOD.items() if k != "steps"},
    ],
)
def test_what_is_no_event_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        from_record(record)
