"""Signed notes: a text, a blank line, and signature lines (C2SP signed-note v1.0.0).

    <text ending in a newline>

    — <key name> <base64(key id[4] || signature)>

Parsing is strict: what `parse` accepts, `Note.text` prints back byte for byte. Source: https://c2sp.org/signed-note
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from fedge.encoding import b64decode, b64encode
from fedge.errors import ParseError, SignatureError
from fedge.signing import PrivateKey, PublicKey

ED25519, COSIGNATURE = 0x01, 0x04
"""Signature types: plain Ed25519 for the log, timestamped cosignature for witnesses."""
MAX_SIGNATURES = 5_000
"""Every client of a run is a witness, and each that vouches adds a line to the published checkpoint."""
MAX_NOTE_BYTES = 1_000_000
_DASH = "\u2014"


@dataclass(frozen=True)
class VerifierKey:
    """A named public key of one signature type: `name+hash+base64(type || key)`."""

    name: str
    kind: int
    key: PublicKey

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name, newline, type, key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key.raw).digest()[:4]

    @property
    def text(self) -> str:
        """The vkey spelling; the inverse of `verifier_key`."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.kind]) + self.key.raw)}"


@dataclass(frozen=True)
class Signature:
    """One signature line: `raw` is what follows the key id."""

    name: str
    key_id: bytes
    raw: bytes

    @property
    def line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH} {self.name} {b64encode(self.key_id + self.raw)}\n"

    def made_by(self, key: VerifierKey) -> bool:
        """Return whether the line claims to be made by `key`; says nothing of whether it verifies."""
        return (self.name, self.key_id) == (key.name, key.key_id)


@dataclass(frozen=True)
class Note:
    """A text and its signatures."""

    body: str
    signatures: tuple[Signature, ...]

    @property
    def text(self) -> str:
        """The note as text; the inverse of `parse`."""
        return self.body + "\n" + "".join(s.line for s in self.signatures)

    def with_signatures(self, more: tuple[Signature, ...]) -> Note:
        """Return the note with `more` signature lines at its end."""
        return Note(self.body, self.signatures + more)


def verifier_key(text: str) -> VerifierKey:
    """Return the key that a vkey names. Raises ParseError for any other spelling, or a hash that does not fit."""
    name, _, rest = text.partition("+")
    data = b64decode(rest.partition("+")[2])
    if len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
        raise ParseError(f"{text!r} is not the verifier key of an Ed25519 signer")
    key = VerifierKey(checked_name(name), data[0], PublicKey(data[1:]))
    if key.text != text:
        raise ParseError(f"verifier key {text!r} contradicts its own hash")
    return key


def checked_name(name: str) -> str:
    """Return `name` if it can name a key: not empty, no space of any kind, no plus."""
    if not name or "+" in name or re.search(r"\s|[\x00-\x1f\x7f]", name):
        raise ParseError(f"{name!r} cannot name a key: it must not be empty or hold spaces or '+'")
    return name


def sign(body: str, name: str, key: PrivateKey) -> Note:
    """Return the note of `body`, signed as the log does (type 0x01)."""
    vkey = VerifierKey(checked_name(name), ED25519, key.public)
    return Note(body, (Signature(name, vkey.key_id, key.sign(body.encode())),))


@lru_cache(maxsize=8)  # a checkpoint comes back in every request, receipt and pin of its round
def parse(text: str) -> Note:
    """Return the note in `text`; signatures are NOT checked. Raises ParseError."""
    if len(text) > MAX_NOTE_BYTES or re.search(r"[\x00-\x09\x0b-\x1f]", text):
        raise ParseError("a note holds no control characters but newlines")
    body, blank, lines = text.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise ParseError("a note is a text, a blank line and signature lines")
    signatures = tuple(_signature(line) for line in lines[:-1].split("\n"))
    if len(signatures) > MAX_SIGNATURES:
        raise ParseError(f"a note with more than {MAX_SIGNATURES} signatures")
    note = Note(body + "\n", signatures)
    if note.text != text:
        raise ParseError("the note is not in its one canonical spelling")
    return note


@lru_cache(maxsize=8)  # what has verified verifies again; an error is not kept
def verify(note: Note, key: VerifierKey) -> None:
    """Raise SignatureError unless `note` bears exactly one signature that claims to be `key`'s, and it verifies."""
    claimed = [s for s in note.signatures if s.made_by(key)]
    if len(claimed) != 1:
        raise SignatureError(f"the note bears {len(claimed)} signatures of {key.name}, expected one")
    _verify(key.key, claimed[0].raw, note.body)


@lru_cache(maxsize=64)  # thousands of witnesses in one process look at the same checkpoint; what fails is not kept
def _verify(key: PublicKey, signature: bytes, body: str) -> None:
    key.verify(signature, body.encode())


def _signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    data = b64decode(encoded)
    if dash != _DASH or len(data) < 5:
        raise ParseError(f"{line!r} is not a signature line")
    return Signature(checked_name(name), data[:4], data[4:])
