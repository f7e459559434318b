"""The spelling of every scalar in a log entry: a name, a pattern, and the check that holds a record to them.

A field typed `Digest` is a `str` to the type checker and `sha256:<64 hex digits>` to `check`. The same
annotations make the published JSON Schemas, so code, check and documentation cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

from fedge.encoding import MAX_SAFE_INTEGER, moment
from fedge.errors import ParseError


@dataclasses.dataclass(frozen=True)
class Form:
    """A named spelling; `pattern` must match the whole text."""

    name: str
    pattern: str


Test = Callable[[Any, str], None]
"""(value, path) -> raises ParseError naming the path if the value is misspelled"""

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
Bucket = Annotated[str, Form("bucket", r"0|1-9|[1-9]0{1,15}-[1-9]9{1,15}")]
"""A range that `counts.bucket` prints."""


def check(kind: Any, value: Any, path: str = "") -> None:
    """Raise ParseError, with its path, unless `value` of dataclass `kind` is spelled as its fields' forms say."""
    _test_of(kind)(value, path)


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


@cache
def _test_of(hint: Any) -> Test:
    """Return what holds a value to `hint`: made once per type, for an entry has some sixty members."""
    if inner := optional(hint):
        return _test_optional(_test_of(inner))
    if dataclasses.is_dataclass(hint):
        return _test_record(hint)
    args = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return _test_items(_test_of(args[0]))
    if typing.get_origin(hint) is Mapping:
        return _test_mapping(_test_of(args[0]), _test_of(args[1]))
    if form := form_of(hint):
        return _test_text(form)
    return _test_count if hint is int else _test_nothing


def _test_optional(test: Test) -> Test:
    return lambda value, path: None if value is None else test(value, path)


def _test_record(kind: Any) -> Test:
    tests = {name: _test_of(hint) for name, hint in hints(kind).items()}

    def check_record(value: Any, path: str) -> None:
        for name, test in tests.items():
            test(getattr(value, name), f"{path}.{name}" if path else name)

    return check_record


def _test_items(test: Test) -> Test:
    def check_items(value: Any, path: str) -> None:
        for index, item in enumerate(value):
            test(item, f"{path}[{index}]")

    return check_items


def _test_mapping(key_test: Test, item_test: Test) -> Test:
    def check_mapping(value: Any, path: str) -> None:
        for key, item in value.items():
            key_test(key, f"{path} key")
            item_test(item, f"{path}.{key}")

    return check_mapping


def _test_text(form: Form) -> Test:
    matches = re.compile(form.pattern, re.ASCII).fullmatch

    def check_text(value: Any, path: str) -> None:
        if not matches(value) or (form.name == "moment" and not moment(value)):
            raise ParseError(f"{path}: {value!r} is not a {form.name} (pattern {form.pattern})")

    return check_text


def _test_count(value: Any, path: str) -> None:
    if not 0 <= value <= MAX_SAFE_INTEGER:
        raise ParseError(f"{path}: {value} is not a count between 0 and 2**53 - 1")


def _test_nothing(_value: Any, _path: str) -> None:
    """Accept anything: the decoder has seen to its type."""
