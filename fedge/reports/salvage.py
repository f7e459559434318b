"""What can still be read of a bundle whose log does not hold: each entry by itself, with what speaks against it.

The verifier stops at the first fault, on purpose: its verdict is about the whole. A reader of a damaged bundle wants to
know which entries the damage has reached. The published hashes tell: if they still lead to the signed root, an entry
whose bytes have the hash at its place is in the log as it was sealed, whatever happened to its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge.audit import verify
from fedge.audit.verify import Entry, Speakers, Unproven, Verification

UNREADABLE = "unreadable"
"""Stands for the event of an entry that is none, or is not there."""
GAP = 100
"""How many tiles may be missing before those after them are not looked for."""
MAX_TILE = verify.WIDTH * (2 + 65_535)
"""Bytes of the largest bundle of entries."""


@dataclass(frozen=True)
class Item:
    """One place of the log: its entry if it can be read, and why it must not be relied on, if so."""

    index: int
    raw: bytes
    entry: Entry | None
    fault: str | None


def items(folder: Path, found: Verification) -> Iterator[Item]:
    """Yield what stands at each place of the log in `folder`, of which the verifier said `found`."""
    if found.entries:
        yield from (Item(e.index, e.raw, e, None) for e in found.entries)
    else:
        yield from _salvaged(folder / "audit")


def _salvaged(audit: Path) -> Iterator[Item]:
    checkpoint = _checkpoint(audit)
    sealed = _sealed(audit, checkpoint)
    speakers = Speakers()
    for index, raw in enumerate(_entries(audit, checkpoint.size if checkpoint else None)):
        yield _judged(index, raw, sealed, speakers)


def _judged(index: int, raw: bytes, sealed: Sequence[bytes] | None, speakers: Speakers) -> Item:
    """Return what stands at `index`."""
    if not raw:
        return Item(index, raw, None, "its bytes are not in the bundle")
    try:
        entry, signed = verify.parse_entry(index, raw)
    except Unproven as error:
        return Item(index, raw, None, f"it cannot be read: {error}")
    return Item(index, raw, entry, _fault(entry, signed, sealed, speakers))


def _fault(entry: Entry, signed: verify.Signed, sealed: Sequence[bytes] | None, speakers: Speakers) -> str | None:
    """Return what speaks against an entry; what it says of keys is taken in if its bytes are those that were sealed."""
    if sealed is not None and (entry.index >= len(sealed) or verify.leaf_hash(entry.raw) != sealed[entry.index]):
        return "its bytes are not those that were sealed in the log at this place"
    try:
        key = speakers.key_of(entry, signed)
    except Unproven as error:
        return f"who signed it cannot be shown: {error}"
    if not key.signed(signed.signature, signed.message):
        return f"the signature of {entry.signer} does not verify"
    return "its signature holds, but no signed root shows that it is in the log" if sealed is None else None


def _checkpoint(audit: Path) -> verify.Checkpoint | None:
    """Return the checkpoint if it is signed by the log that the bundle names, None if it is not."""
    try:
        policy = verify.parse_policy(_text(audit / "policy.txt"))
        checkpoint = verify.parse_checkpoint(_text(audit / "checkpoint"))
        verify.check_signatures(checkpoint, policy.log, policy.witnesses.values())
    except Unproven:
        return None
    return checkpoint


def _sealed(audit: Path, checkpoint: verify.Checkpoint | None) -> Sequence[bytes] | None:
    """Return the published hash of each entry if together they make the signed root, else None."""
    if checkpoint is None:
        return None
    hashes = [h for tile in _tiles(audit, "0", checkpoint.size) for h in _cut(tile)]
    tree = verify.Tree(hashes[: checkpoint.size])
    return hashes if tree.size == checkpoint.size and tree.root(tree.size) == checkpoint.root else None


def _cut(tile: bytes) -> list[bytes]:
    return [tile[i : i + 32] for i in range(0, len(tile), 32)]


def _entries(audit: Path, size: int | None) -> Iterator[bytes]:
    """Yield the bytes at each place; b"" where a bundle of entries is missing or ends too early."""
    counted = 0
    for tile in _tiles(audit, "entries", size):
        width = verify.WIDTH if size is None else min(verify.WIDTH, size - counted)
        inside = _unpacked(tile)
        yield from inside if size is None else [*inside, *[b""] * width][:width]
        counted += width


def _unpacked(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle as far as it goes."""
    entries, place = list[bytes](), 0
    while place + 2 <= len(bundle):
        length = int.from_bytes(bundle[place : place + 2], "big")
        entries.append(bundle[place + 2 : place + 2 + length])
        place += 2 + length
    return entries


def _tiles(audit: Path, level: str, size: int | None) -> Iterator[bytes]:
    """Yield the tiles of `level`, b"" for one that cannot be read; without a `size`, as many as there are."""
    there = _count(audit, level)  # a checkpoint of a liar's own making may sign any size
    for number in range(there if size is None else min(there, -(-size // verify.WIDTH))):
        width = verify.WIDTH if size is None else min(verify.WIDTH, size - number * verify.WIDTH)
        yield _read(audit / verify.tile_path(level, number, width)) or _widest(audit, level, number)


def _count(audit: Path, level: str) -> int:
    """Return one more than the highest number of a tile of `level` that is there; one far out does not count."""
    folder = audit / "tile" / level
    names = [re.sub(r"\.p/\d+$", "", p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file()]
    numbers = [int(re.sub(r"[x/]", "", n)) for n in names if re.fullmatch(r"(x\d{3}/)*\d{3}", n)]
    return min(max(numbers, default=-1) + 1, len(numbers) + GAP)


def _widest(audit: Path, level: str, number: int) -> bytes:
    """Return a tile that is not full, as wide as there is one: what a crash or a thief has left."""
    partial = audit / (verify.tile_path(level, number, verify.WIDTH) + ".p")
    widths = sorted((p for p in partial.glob("*") if p.name.isdecimal()), key=lambda p: int(p.name))
    return _read(widths[-1]) if widths else b""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TILE)
    except OSError:
        return b""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unproven(f"{path.name} cannot be read") from error
