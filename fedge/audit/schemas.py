"""A JSON Schema (draft 2020-12) of every event of the log, made from the very annotations that entries are checked by.

They are published in `docs/schemas/`, for readers who write their own tools; a test holds the files to the code.
Source: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from collections.abc import Mapping
from typing import Any, Literal

from fedge.audit.forms import form_of, hints, optional
from fedge.audit.leaves import EVENTS, payload_type, schema
from fedge.encoding import MAX_SAFE_INTEGER

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def event_schema(event: str) -> dict[str, Any]:
    """Return the schema of the payload of `event`, e.g. `data_use`; KeyError for one that the log does not know."""
    kind = EVENTS[event]
    record = _record(kind)
    record["properties"] = {"schema": {"const": schema(kind)}} | record["properties"]
    record["required"].insert(0, "schema")
    return {
        "$schema": DIALECT,
        "$id": f"urn:fedge:{event}:1",
        "title": schema(kind),
        "description": f"{inspect.getdoc(kind)} Signed by the {kind.party}, payload type {payload_type(kind)}.",
    } | record


def schema_file(event: str) -> str:
    """Return the text of the published file of `event`."""
    return json.dumps(event_schema(event), indent=2, ensure_ascii=False) + "\n"


def _record(kind: Any) -> dict[str, Any]:
    members = hints(kind)
    return {
        "type": "object",
        "properties": {name: _value(hint) for name, hint in members.items()},
        "required": list(members),  # an entry spells every member, also those that the code has a default for
        "additionalProperties": False,
    }


def _value(hint: Any) -> dict[str, Any]:
    if inner := optional(hint):
        return {"anyOf": [_value(inner), {"type": "null"}]}
    if dataclasses.is_dataclass(hint):
        return _record(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return {"type": "array", "items": _value(args[0])}
    if origin is Mapping:
        return {"type": "object", "propertyNames": _value(args[0]), "additionalProperties": _value(args[1])}
    if origin is Literal:
        return {"enum": list(args)}
    return _scalar(hint)


def _scalar(hint: Any) -> dict[str, Any]:
    if form := form_of(hint):
        return {"type": "string", "title": form.name, "pattern": f"^(?:{form.pattern})$".replace(r"\d", "[0-9]")}
    if hint is int:
        return {"type": "integer", "minimum": 0, "maximum": MAX_SAFE_INTEGER}
    return {"type": {bool: "boolean", str: "string"}[hint]}
