"""Log entries as bytes: an event record, signed by the party that states it.

A leaf of the log is the bytes of a DSSE envelope around the canonical JSON of one of the records in `events`; its
payload type is `application/vnd.fedge.<event>+json`, and its payload says `schema: fedge.<event>/1`.

    encode(record, key) -> bytes          decode(bytes) -> (record, envelope)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_args

from fedge.audit.counts import Counts, ExactCounts, bounds, bucket, commitment, opens, publish
from fedge.audit.events import (
    ClientEnrol,
    ClientLeaf,
    ClientRetire,
    ConsentSnapshot,
    DataUse,
    ErasureEffective,
    Evaluation,
    Incident,
    KeyRevoke,
    KeyRotate,
    Leaf,
    PolicyChange,
    RepeatedSubjects,
    ReportIssued,
    RoundClose,
    RunClose,
    RunOpen,
    RunResumed,
    RunStopped,
    UpdateRejected,
    WithdrawalEffective,
)
from fedge.audit.forms import check
from fedge.audit.parts import (
    Continues,
    Dataset,
    Digests,
    Participant,
    Permission,
    PrivacySpend,
    PrivacyStatement,
    Resources,
)
from fedge.audit.rolls import RoundRoll, RunRoll
from fedge.encoding import from_plain, parse, to_plain
from fedge.errors import ParseError
from fedge.signing import Envelope, PrivateKey, envelope_bytes, parse_envelope, seal

__all__ = [
    "EVENTS",
    "MAX_LEAF_BYTES",
    "ROLL",
    "ClientEnrol",
    "ClientLeaf",
    "ClientRetire",
    "ConsentSnapshot",
    "Continues",
    "Counts",
    "DataUse",
    "Dataset",
    "Digests",
    "ErasureEffective",
    "Evaluation",
    "ExactCounts",
    "Incident",
    "KeyRevoke",
    "KeyRotate",
    "Leaf",
    "Participant",
    "Permission",
    "PolicyChange",
    "PrivacySpend",
    "PrivacyStatement",
    "RepeatedSubjects",
    "ReportIssued",
    "Resources",
    "RoundClose",
    "RoundRoll",
    "RunClose",
    "RunOpen",
    "RunResumed",
    "RunRoll",
    "RunStopped",
    "UpdateRejected",
    "WithdrawalEffective",
    "bounds",
    "bucket",
    "commitment",
    "decode",
    "encode",
    "event",
    "opens",
    "payload_type",
    "plain",
    "publish",
    "schema",
]  # fmt: skip

MAX_LEAF_BYTES = 65_535
"""An entry bundle prefixes each entry with a 16-bit length (C2SP tlog-tiles)."""
ROLL = 300
"""So many clients are listed in one entry, whatever they are called; the rest of a list stands in entries before it."""


def event(kind: type[Leaf]) -> str:
    """Return the event name of a leaf class, e.g. `data_use`."""
    return re.sub("(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def schema(kind: type[Leaf]) -> str:
    """Return the schema name of a leaf class, e.g. `fedge.data_use/1`."""
    return f"fedge.{event(kind)}/1"


def payload_type(kind: type[Leaf]) -> str:
    """Return the DSSE payload type of a leaf class, e.g. `application/vnd.fedge.data_use+json`."""
    return f"application/vnd.fedge.{event(kind)}+json"


EVENTS: Mapping[str, type[Leaf]] = {event(kind): kind for kind in get_args(Leaf)}
_BY_TYPE: Mapping[str, type[Leaf]] = {payload_type(kind): kind for kind in get_args(Leaf)}


def plain(leaf: Leaf) -> dict[str, Any]:
    """Return the JSON object that `leaf` is logged as; raises ParseError, with the path, for a wrong spelling."""
    check(type(leaf), leaf)
    body: dict[str, Any] = to_plain(leaf)
    return {"schema": schema(type(leaf))} | body


def encode(leaf: Leaf, key: PrivateKey) -> bytes:
    """Return the bytes of the log entry that states `leaf`, signed by `key`.

    Raises ParseError if a member is misspelled or the entry exceeds MAX_LEAF_BYTES.
    """
    data = envelope_bytes(seal(payload_type(type(leaf)), plain(leaf), key))
    if len(data) > MAX_LEAF_BYTES:
        raise ParseError(f"a {event(type(leaf))} entry of {len(data)} bytes; the log takes {MAX_LEAF_BYTES} at most")
    return data


@lru_cache(maxsize=2048)  # one entry is read by the tally, the book and the report; records are frozen
def decode(data: bytes) -> tuple[Leaf, Envelope]:
    """Return the leaf in a log entry, and its envelope; the signature is NOT checked (see `verify`).

    Raises ParseError for any spelling that `encode` would not have printed.
    """
    envelope = parse_envelope(data)
    kind = _BY_TYPE.get(envelope.payload_type)
    if kind is None:
        raise ParseError(f"{envelope.payload_type!r} is not the type of a log entry; known: {', '.join(EVENTS)}")
    body = parse(envelope.payload)
    if not isinstance(body, dict) or body.pop("schema", None) != schema(kind):
        raise ParseError(f"a {event(kind)} entry must say schema {schema(kind)!r}")
    leaf = from_plain(kind, body, ParseError)
    if to_plain(leaf) != body:  # a member left to its default is not the spelling we print
        raise ParseError(f"a {event(kind)} entry lacks a member")
    check(kind, leaf)
    return leaf, envelope
