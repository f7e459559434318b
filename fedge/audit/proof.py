"""Receipts: one entry's place in the log, in one file that is checked with public keys alone.

    c2sp.org/tlog-proof@v1
    extra <base64 entry>   (may be left out)
    index <n>
    <base64 hash>   (any number of lines)

    <checkpoint note>

The entry is in the receipt where it is to stand by itself, as the extra data that the format has a line for; nothing
vouches for that line, so the entry is believed only once its hash leads to the root. Frozen copy of the draft
https://c2sp.org/tlog-proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedge.audit.checkpoint import MAX_DIGITS, Checkpoint, parse_body
from fedge.audit.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from fedge.audit.note import Note, VerifierKey, parse, verify
from fedge.encoding import b64decode, b64encode
from fedge.errors import ParseError

HEADER, EXTRA = "c2sp.org/tlog-proof@v1", "extra "
MAX_HASHES, MAX_ENTRY_BYTES = 63, 65_535


@dataclass(frozen=True)
class Receipt:
    """An entry's index, the hashes beside its path, the checkpoint they lead to, and the entry if it is to be there."""

    index: int
    proof: tuple[bytes, ...]
    note: Note
    entry: bytes | None = None

    @property
    def text(self) -> str:
        """The receipt as text; the inverse of `parse_receipt`."""
        hashes = "".join(f"{b64encode(h)}\n" for h in self.proof)
        extra = "" if self.entry is None else f"extra {b64encode(self.entry)}\n"
        return f"{HEADER}\n{extra}index {self.index}\n{hashes}\n{self.note.text}"

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint in the note."""
        return parse_body(self.note.body)


def parse_receipt(text: str) -> Receipt:
    """Return the receipt in `text`; nothing is verified yet. Raises ParseError."""
    head, blank, note = text.partition("\n\n")
    header, *lines = head.split("\n")
    entry = b64decode(lines.pop(0).removeprefix(EXTRA)) if lines and lines[0].startswith(EXTRA) else None
    number = lines[0].removeprefix("index ") if lines else ""
    if not blank or header != HEADER or not number.isdecimal() or not number.isascii() or len(number) > MAX_DIGITS:
        raise ParseError("not a tlog-proof receipt")
    if entry is not None and not 0 < len(entry) <= MAX_ENTRY_BYTES:
        raise ParseError(f"the entry in a receipt has 1 to {MAX_ENTRY_BYTES:,} bytes")
    hashes = tuple(b64decode(line) for line in lines[1:])
    if len(hashes) > MAX_HASHES or any(len(h) != HASH_BYTES for h in hashes):
        raise ParseError("a receipt's proof has at most 63 hashes of 32 bytes")
    receipt = Receipt(int(number), hashes, parse(note), entry)
    if receipt.text != text:
        raise ParseError("the receipt is not in its one canonical spelling")
    return receipt


def verify_receipt(receipt: Receipt, entry: bytes, log: VerifierKey) -> Checkpoint:
    """Return the checkpoint that `entry` is proved to be under. Raises SignatureError, ParseError, ProofError."""
    verify(receipt.note, log)
    return verify_included(receipt, entry)


def verify_included(receipt: Receipt, entry: bytes) -> Checkpoint:
    """Return the checkpoint whose tree holds `entry`; its signature is NOT checked. Raises ParseError, ProofError."""
    found = receipt.checkpoint
    verify_inclusion(receipt.index, found.size, leaf_hash(entry), receipt.proof, found.root)
    return found
