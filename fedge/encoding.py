"""Canonical bytes, strict parsing, digests: one spelling for every fact.

`canonical(value)` prints RFC 8785 JSON; `parse(data)` accepts exactly what `canonical` prints, so
`parse(canonical(v)) == v` and `canonical(parse(b)) == b`. Floats never enter signed bytes (two printers
disagree on them); they travel as decimal strings made by `decimal`.

`to_plain` / `from_plain` carry frozen dataclasses to and from plain values. The same strict decoder guards
the configuration, the wire and the log: an unknown key, a missing key or a wrong type is an error with its path.

Source: RFC 8785 (JSON Canonicalization Scheme), https://www.rfc-editor.org/rfc/rfc8785
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, TypeVar

import rfc8785

from fedge.errors import ConfigError, FedgeError, ParseError

T = TypeVar("T")
_SCALARS = frozenset({str, int, float, bool, type(None)})
Plain = None | bool | int | str | list[Any] | dict[str, Any]

MAX_SAFE_INTEGER = 2**53 - 1


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of plain `value`.

    Raises ParseError for floats, integers beyond 2**53 - 1, and anything that is not plain JSON.
    """
    try:
        if _is_simple(value):
            return _ENCODER.encode(value).encode("utf-8")
        _refuse_floats(value, "$")
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise ParseError(f"value has no canonical JSON form: {error}") from error


def parse(data: bytes) -> Any:
    """Return the plain value of canonical JSON bytes; the inverse of `canonical`.

    Raises ParseError for duplicate keys, floats, or any spelling other than the canonical one.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        raise ParseError(f"not JSON: {error}") from error
    if canonical(value) != data:
        raise ParseError("JSON is not in canonical form (RFC 8785): spacing, key order or escapes differ")
    return value


def digest(data: bytes) -> str:
    """Return `sha256:<hex>` of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def decimal(value: float) -> str:
    """Return the shortest decimal string that reads back as `value`; `inf` for infinity."""
    if math.isnan(value):
        raise ParseError("NaN cannot be recorded")
    return repr(float(value))


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 UTC with milliseconds, e.g. `2026-11-23T09:30:00.000Z`."""
    if moment.tzinfo is None:
        raise ParseError("a moment without a time zone cannot be recorded")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def moment(text: str) -> datetime:
    """Return the datetime of a `timestamp` string; the inverse of `timestamp`, as strict."""
    try:
        value = datetime.fromisoformat(text)  # reads more than the one spelling; printing again refuses the rest
        canonical_text = timestamp(value)
    except (ValueError, OverflowError, ParseError) as error:
        raise ParseError(f"{text!r} is not a time like 2026-11-23T09:30:00.000Z") from error
    if canonical_text != text:
        raise ParseError(f"{text!r} is not a time like 2026-11-23T09:30:00.000Z")
    return value


def b64encode(data: bytes) -> str:
    """Return standard padded base64."""
    return base64.b64encode(data).decode("ascii")


def b64decode(text: str) -> bytes:
    """Return the bytes of standard padded base64; lenient spellings raise ParseError."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ParseError(f"not base64: {error}") from error
    if b64encode(data) != text:
        raise ParseError("base64 is not in its one canonical spelling")
    return data


def to_plain(value: Any) -> Any:
    """Return dataclasses, mappings and sequences as dicts and lists; leaves other values as they are."""
    if type(value) in _SCALARS:  # nearly all of them; the questions below are slow
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in _fields(type(value))}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [to_plain(v) for v in value]
    return value


def from_plain(cls: type[T], value: Any, error: type[FedgeError] = ConfigError, path: str = "") -> T:
    """Decode plain `value` strictly into `cls`: a dataclass, a union, a literal, a container or a scalar.

    An integer is accepted where a float is expected; nothing else is converted. Raises `error` with the
    dotted path, what was expected, what was found, and the nearest known key or value.
    """
    return typing.cast(T, _decode(cls, value, error, path))


def _decode(kind: Any, value: Any, error: type[FedgeError], path: str) -> Any:  # noqa: PLR0911 - one line a kind
    if kind is Any or kind is object:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, error, path)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return _decode_literal(args, value, error, path)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, value, error, path)
    if origin is tuple:
        return tuple(_decode(args[0], v, error, f"{path}[{i}]") for i, v in enumerate(_list(value, error, path)))
    if origin is list:
        return [_decode(args[0], v, error, f"{path}[{i}]") for i, v in enumerate(_list(value, error, path))]
    if origin in (dict, Mapping):
        return {k: _decode(args[1], v, error, _join(path, k)) for k, v in _dict(value, error, path).items()}
    return _decode_scalar(kind, value, error, path)


def _decode_record(kind: Any, value: Any, error: type[FedgeError], path: str) -> Any:
    given = _dict(value, error, path)
    hints, fields = _hints(kind), _fields(kind)
    for key in given:
        if key not in fields:
            raise error(f"unknown key {_join(path, key)!r}{_near(key, list(fields))}")
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in given and not optional:
            raise error(f"missing key {_join(path, name)!r}: expected {_name(hints[name])}")
    decoded = {k: _decode(hints[k], v, error, _join(path, k)) for k, v in given.items()}
    try:
        return kind(**decoded)
    except ValueError as fault:  # __post_init__ states bounds as ValueError
        raise error(f"{path or 'configuration'}: {fault}") from fault


def _decode_literal(choices: tuple[Any, ...], value: Any, error: type[FedgeError], path: str) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return value
    options = ", ".join(str(c) for c in choices)
    raise error(f"{path}: expected one of {options}; found {value!r}{_near(str(value), [str(c) for c in choices])}")


def _decode_union(choices: tuple[Any, ...], value: Any, error: type[FedgeError], path: str) -> Any:
    if value is None and type(None) in choices:
        return None
    faults = []
    for choice in choices:
        if choice is not type(None):
            try:
                return _decode(choice, value, error, path)
            except error as fault:
                faults.append(fault)
    raise (faults[0] if len(faults) == 1 else error(f"{path}: expected {_names(choices)}; found {_found(value)}"))


def _decode_scalar(kind: Any, value: Any, error: type[FedgeError], path: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if kind is float and type(value) is float and math.isnan(value):
        raise error(f"{path}: expected a number; found NaN")
    if type(value) is not kind:
        raise error(f"{path}: expected {_name(kind)}; found {_found(value)}")
    return value


def _dict(value: Any, error: type[FedgeError], path: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise error(f"{path or 'value'}: expected a mapping; found {_found(value)}")
    return value


def _list(value: Any, error: type[FedgeError], path: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise error(f"{path}: expected a list; found {_found(value)}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@cache
def _fields(kind: type) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _name(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _names(typing.get_args(kind))
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _names(kinds: tuple[Any, ...]) -> str:
    return " or ".join(_name(k) for k in kinds)


def _found(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def _near(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(sorted(known)) or 'nothing'}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [k for k, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ParseError("JSON object has the same key twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ParseError(f"JSON constant {name} is not allowed")


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)
"""Prints RFC 8785 for what `_is_simple` admits, three times as fast as the library; all else goes to the library."""


def _is_simple(value: Any) -> bool:
    """Return whether `value` is plain JSON with ASCII keys, which sort alike by code point and by UTF-16 unit."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is dict:
        return all(type(key) is str and key.isascii() and _is_simple(item) for key, item in value.items())
    if kind is list or kind is tuple:
        return all(map(_is_simple, value))
    return kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def _refuse_floats(value: Any, path: str) -> None:
    if isinstance(value, float):
        raise ParseError(f"{path}: floats do not belong in signed bytes; use encoding.decimal")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_floats(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_floats(item, f"{path}[{index}]")


Clock = Callable[[], datetime]
"""A source of the present moment, handed in; `utc_now` is the real one."""


def utc_now() -> datetime:
    """Return the present moment in UTC; called only from the roof, which hands it down as a Clock."""
    return datetime.now(UTC)
