"""Names of things: typed strings, so that a client can never pass for a subject."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import NewType

from fedge.errors import ParseError

RunId = NewType("RunId", str)
ClientId = NewType("ClientId", str)
"""Short public name of a client, e.g. `hospital-1`; the log names it by key id."""
SubjectId = NewType("SubjectId", str)
"""Pseudonym of a person; never leaves the client."""
Lineage = NewType("Lineage", str)
"""Name of a data set as its owner keeps it: the thing a privacy budget belongs to, across runs."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def client_id(text: str) -> ClientId:
    """Return `text` as a client's name; lower case letters, digits, `.`, `_`, `-`, at most 64."""
    if not _NAME.fullmatch(text):
        raise ParseError(f"{text!r} is not a client name (lower case letters, digits, '.', '_', '-')")
    return ClientId(text)


def run_id(task: str, seed: int, started: datetime) -> RunId:
    """Return a readable run name, e.g. `cancer-7-20261123-093000-120`."""
    return RunId(f"{task}-{seed}-{started:%Y%m%d-%H%M%S}-{started.microsecond // 1000:03d}")


def pseudonym(secret: bytes, identifier: str) -> SubjectId:
    """Return a keyed pseudonym of `identifier`; without `secret` it can be neither guessed nor linked."""
    return SubjectId("p-" + hmac.new(secret, identifier.encode(), hashlib.sha256).hexdigest()[:16])
