"""The published JSON Schemas: as the code makes them, and what real entries are held to by a validator of others."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fedge.audit.leaves import EVENTS
from fedge.audit.schemas import event_schema, schema_file
from fedge.running import Result

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("event", EVENTS)
def test_the_published_file_is_up_to_date(event: str) -> None:
    text = (PUBLISHED / f"{event}.schema.json").read_text(encoding="utf-8")
    assert text == schema_file(event), "run: fedge audit schema --out docs/schemas"
    jsonschema.Draft202012Validator.check_schema(event_schema(event))


def test_no_file_is_published_for_an_event_that_is_not() -> None:
    assert {p.name for p in PUBLISHED.iterdir()} == {f"{event}.schema.json" for event in EVENTS}


def payloads(finished: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in finished.verification.entries:
        yield entry.event, dict(entry.payload)


def test_real_entries_are_valid(finished: Result) -> None:
    seen = set()
    for event, payload in payloads(finished):
        jsonschema.validate(payload, event_schema(event), jsonschema.Draft202012Validator)
        seen.add(event)
    assert {"run_open", "client_enrol", "data_use", "withdrawal_effective", "round_close", "run_close"} <= seen


def test_every_member_matters(finished: Result) -> None:
    event, payload = next((e, p) for e, p in payloads(finished) if e == "data_use")
    validator = jsonschema.Draft202012Validator(event_schema(event))
    for name in payload:
        assert not validator.is_valid({k: v for k, v in payload.items() if k != name}), f"{name} may be left out"
    for name, value in (("at", "yesterday"), ("round", -1), ("round", 1.5), ("client", "A"), ("more", 1)):
        assert not validator.is_valid(copy.deepcopy(payload) | {name: value}), (name, value)
