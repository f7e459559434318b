"""The spelling of every scalar in a log entry: a name, a pattern, and the check that holds a record to them.

A field typed `Digest` is a `str` to the type checker and `sha256:<64 hex digits>` to `check`. The same
annotations make the published JSON Schemas, so code, check and documentation cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from fedge.encoding import MAX_SAFE_INTEGER, moment
from fedge.errors import ParseError


@dataclasses.dataclass(frozen=True)
class Form:
    """A named spelling; `pattern` must match the whole text."""

    name: str
    pattern: str


Digest = Annotated[str, Form("digest", "sha256:[0-9a-f]{64}")]
"""SHA-256, as `encoding.digest` prints it."""
Moment = Annotated[str, Form("moment", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")]
"""A time in UTC, as `encoding.timestamp` prints it."""
Decimal = Annotated[str, Form("decimal", r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]\d+)?|-?inf")]
"""A number, as `encoding.decimal` prints it."""
Code = Annotated[str, Form("code", r"[a-z0-9][a-z0-9_.:-]{0,63}")]
"""A word of a fixed vocabulary, e.g. a reason or a mechanism."""
Name = Annotated[str, Form("name", r"[a-z0-9][a-z0-9._-]{0,63}")]
"""A client's name, see `ids.client_id`."""
KeyId = Annotated[str, Form("key id", "[0-9a-f]{16}")]
"""`PublicKey.key_id`."""
Key = Annotated[str, Form("key", "ed25519:[A-Za-z0-9+/]{43}=")]
"""`PublicKey.text`."""
VerifierKey = Annotated[str, Form("verifier key", r"[^\s+]{1,200}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}")]
"""A signed-note vkey of an Ed25519 key: `name+hash+base64(type || key)`."""
Text = Annotated[str, Form("text", r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,1000}")]
"""Free text of at most 1,000 characters on one line."""
Bucket = Annotated[str, Form("bucket", r"0|1-9|[1-9]0+-[1-9]9+")]
"""A range that `counts.bucket` prints."""


def check(kind: Any, value: Any, path: str = "") -> None:
    """Raise ParseError, with its path, unless `value` of dataclass `kind` is spelled as its fields' forms say."""
    for name, hint in hints(kind).items():
        _check(hint, getattr(value, name), f"{path}.{name}" if path else name)


@cache
def hints(kind: Any) -> dict[str, Any]:
    """Return the field types of a dataclass with their forms."""
    resolved = typing.get_type_hints(kind, include_extras=True)
    return {f.name: resolved[f.name] for f in dataclasses.fields(kind)}


def form_of(hint: Any) -> Form | None:
    """Return the form that `hint` carries, if any."""
    marks = getattr(hint, "__metadata__", ())
    return next((m for m in marks if isinstance(m, Form)), None)


def optional(hint: Any) -> Any:
    """Return the type inside `X | None`, or None if `hint` does not admit null."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return None
    return next(a for a in typing.get_args(hint) if a is not type(None))


def _check(hint: Any, value: Any, path: str) -> None:
    if inner := optional(hint):
        if value is not None:
            _check(inner, value, path)
    elif dataclasses.is_dataclass(hint):
        check(hint, value, path)
    elif typing.get_origin(hint) is tuple:
        for index, item in enumerate(value):
            _check(typing.get_args(hint)[0], item, f"{path}[{index}]")
    elif typing.get_origin(hint) is Mapping:
        for key, item in value.items():
            _check_text(form_of(typing.get_args(hint)[0]), key, f"{path} key")
            _check(typing.get_args(hint)[1], item, f"{path}.{key}")
    else:
        _check_scalar(hint, value, path)


def _check_scalar(hint: Any, value: Any, path: str) -> None:
    if form := form_of(hint):
        _check_text(form, value, path)
    elif hint is int and not 0 <= value <= MAX_SAFE_INTEGER:
        raise ParseError(f"{path}: {value} is not a count between 0 and 2**53 - 1")


def _check_text(form: Form | None, value: str, path: str) -> None:
    if form is None:
        return
    if not re.fullmatch(form.pattern, value, re.ASCII) or (form.name == "moment" and not moment(value)):
        raise ParseError(f"{path}: {value!r} is not a {form.name} (pattern {form.pattern})")
