"""Receipts: one entry's place in the log, in one file that is checked with public keys alone.

    c2sp.org/tlog-proof@v1
    index <n>
    <base64 hash>   (any number of lines)

    <checkpoint note>

The entry itself is not in the receipt: whoever holds it hashes it. Frozen copy of the draft https://c2sp.org/tlog-proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedge.audit.checkpoint import MAX_DIGITS, Checkpoint, parse_body
from fedge.audit.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from fedge.audit.note import Note, VerifierKey, parse, verify
from fedge.encoding import b64decode, b64encode
from fedge.errors import ParseError

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63


@dataclass(frozen=True)
class Receipt:
    """An entry's index, the hashes beside its path, and the checkpoint they lead to."""

    index: int
    proof: tuple[bytes, ...]
    note: Note

    @property
    def text(self) -> str:
        """The receipt as text; the inverse of `parse_receipt`."""
        hashes = "".join(f"{b64encode(h)}\n" for h in self.proof)
        return f"{HEADER}\nindex {self.index}\n{hashes}\n{self.note.text}"

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint in the note."""
        return parse_body(self.note.body)


def parse_receipt(text: str) -> Receipt:
    """Return the receipt in `text`; nothing is verified yet. Raises ParseError."""
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    number = lines[1].removeprefix("index ") if len(lines) > 1 else ""
    if not blank or lines[0] != HEADER or not number.isdecimal() or not number.isascii() or len(number) > MAX_DIGITS:
        raise ParseError("not a tlog-proof receipt")
    hashes = tuple(b64decode(line) for line in lines[2:])
    if len(hashes) > MAX_HASHES or any(len(h) != HASH_BYTES for h in hashes):
        raise ParseError("a receipt's proof has at most 63 hashes of 32 bytes")
    receipt = Receipt(int(number), hashes, parse(note))
    if receipt.text != text:
        raise ParseError("the receipt is not in its one canonical spelling")
    return receipt


def verify_receipt(receipt: Receipt, entry: bytes, log: VerifierKey) -> Checkpoint:
    """Return the checkpoint that `entry` is proved to be under. Raises SignatureError, ParseError, ProofError."""
    verify(receipt.note, log)
    found = receipt.checkpoint
    verify_inclusion(receipt.index, found.size, leaf_hash(entry), receipt.proof, found.root)
    return found
