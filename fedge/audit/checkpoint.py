"""Checkpoints and cosignatures: the log's root at a size, signed by the log, vouched for by witnesses.

    <origin>
    <size>
    <base64 root>

A cosignature (type 0x04) covers `cosignature/v1`, the time and the checkpoint; its bytes are the time as 64-bit
big-endian seconds, then the signature. Sources: https://c2sp.org/tlog-checkpoint v1.0.0, https://c2sp.org/tlog-cosignature
v1.0.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from fedge.audit.merkle import HASH_BYTES
from fedge.audit.note import COSIGNATURE, Signature, VerifierKey
from fedge.encoding import b64decode, b64encode
from fedge.errors import ParseError, SignatureError
from fedge.signing import PrivateKey

MAX_DIGITS = 16
"""A size below 10**16: more than a log will ever hold, and small enough to parse."""
MAX_SECONDS = 2**37
"""A time before the year 6325; later ones are no times that a clock shows."""


@dataclass(frozen=True)
class Checkpoint:
    """What a log commits to: its name, its size, its root."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root)}\n"


@lru_cache(maxsize=8)
def parse_body(body: str) -> Checkpoint:
    """Return the checkpoint in a note's text. Raises ParseError for extension lines and other spellings."""
    lines = body.split("\n")
    if len(lines) != 4 or not lines[1].isascii() or not lines[1].isdecimal() or len(lines[1]) > MAX_DIGITS:
        raise ParseError("a checkpoint has three lines: origin, size, root")
    found = Checkpoint(lines[0], int(lines[1]), b64decode(lines[2]))
    if not found.origin or found.body != body or len(found.root) != HASH_BYTES:
        raise ParseError("the checkpoint is not in its one canonical spelling")
    return found


def cosign(body: str, name: str, key: PrivateKey, at: datetime) -> Signature:
    """Return the cosignature line of witness `name` for a checkpoint's text."""
    seconds = int(at.timestamp())
    raw = struct.pack(">Q", seconds) + key.sign(_message(body, seconds))
    return Signature(name, VerifierKey(name, COSIGNATURE, key.public).key_id, raw)


def check_cosignature(body: str, signature: Signature, key: VerifierKey) -> datetime:
    """Return the time at which witness `key` vouched for `body`. Raises SignatureError."""
    if not signature.made_by(key) or key.kind != COSIGNATURE or len(signature.raw) != 72:
        raise SignatureError(f"not a cosignature of witness {key.name}")
    seconds = struct.unpack(">Q", signature.raw[:8])[0]
    key.key.verify(signature.raw[8:], _message(body, seconds))
    if seconds >= MAX_SECONDS:
        raise SignatureError(f"witness {key.name} claims a time beyond all calendars")
    return datetime.fromtimestamp(seconds, UTC)


def _message(body: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{body}".encode()
