"""A reader of tiled logs written from the C2SP texts alone: it shares no code with `fedge`.

https://c2sp.org/signed-note, /tlog-checkpoint, /tlog-cosignature, /tlog-tiles, /tlog-proof; RFC 6962 for hashing.
Only the standard library and `cryptography`. It fetches resources by their path, as over HTTP.
"""

import base64
import hashlib
import struct
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Fetch = Callable[[str], bytes]


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def mth(hashes: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, over leaf hashes: the definition, not an algorithm made of it."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def verifier(vkey: str) -> tuple[str, bytes, int, Ed25519PublicKey]:
    name, _, rest = vkey.partition("+")
    stated, _, encoded = rest.partition("+")
    raw = base64.b64decode(encoded, validate=True)
    assert hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() == stated
    return name, bytes.fromhex(stated), raw[0], Ed25519PublicKey.from_public_bytes(raw[1:])


def opened(note: str, vkey: str) -> tuple[str, int | None] | None:
    """Return the note's text if `vkey` has signed it, with the time of a cosignature."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    name, key_id, kind, key = verifier(vkey)
    for line in signatures.splitlines():
        dash, signer, encoded = line.split(" ")
        raw = base64.b64decode(encoded, validate=True)
        if (dash, signer, raw[:4]) != ("\u2014", name, key_id):
            continue
        if kind == 0x01:
            key.verify(raw[4:], text.encode())
            return text, None
        (seconds,) = struct.unpack(">Q", raw[4:12])
        key.verify(raw[12:], f"cosignature/v1\ntime {seconds}\n{text}".encode())
        return text, seconds
    return None


def checkpoint(text: str) -> tuple[str, int, bytes]:
    origin, size, root = text.split("\n")[:3]
    assert size == str(int(size))
    return origin, int(size), base64.b64decode(root, validate=True)


def tile(level: str, n: int, width: int) -> str:
    digits = f"{n:d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    path = "/".join(["x" + g for g in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{path}" + ("" if width == 256 else f".p/{width}")


def bundle(data: bytes) -> list[bytes]:
    entries, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">H", data, at)
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    assert at == len(data)
    return entries


def tiles_of(size: int) -> list[tuple[int, int, int]]:
    """Return (level, number, width) of every hash tile of a tree: full ones, then the partial one, if any."""
    found, level = [], 0
    while count := size // 256**level:
        found += [(level, n, 256) for n in range(count // 256)]
        found += [(level, count // 256, count % 256)] if count % 256 else []
        level += 1
    return found


def read(fetch: Fetch, vkey: str) -> tuple[int, bytes, list[bytes]]:
    """Return size, root and entries of a log after checking the signature, every tile, and every entry."""
    signed = opened(fetch("checkpoint").decode(), vkey)
    assert signed is not None, "the log has not signed its checkpoint"
    origin, size, root = checkpoint(signed[0])
    assert origin == vkey.partition("+")[0]
    entries = []
    for n in range(-(-size // 256)):
        entries += bundle(fetch(tile("entries", n, min(256, size - 256 * n))))
    hashes = [leaf(e) for e in entries]
    assert len(hashes) == size
    assert mth(hashes) == root, "the entries are not those of the checkpoint"
    for level, n, width in tiles_of(size):
        span = 256**level
        expected = [mth(hashes[i * span : (i + 1) * span]) for i in range(n * 256, n * 256 + width)]
        assert fetch(tile(str(level), n, width)) == b"".join(expected), tile(str(level), n, width)
    return size, root, entries


def proved(proof: str, vkey: str) -> bytes:
    """Return the entry in a tlog-proof after checking that its hashes lead from it to a checkpoint of the log."""
    head, _, note = proof.partition("\n\n")
    first, extra, index, *path = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1"
    signed = opened(note, vkey)
    assert signed is not None
    _, size, root = checkpoint(signed[0])
    entry = base64.b64decode(extra.removeprefix("extra "), validate=True)
    at, last, found = int(index.removeprefix("index ")), size - 1, leaf(entry)
    for line in path:  # RFC 9162, section 2.1.3.2
        sibling = base64.b64decode(line, validate=True)
        assert last > 0
        if at % 2 or at == last:
            found = hashlib.sha256(b"\x01" + sibling + found).digest()
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            found = hashlib.sha256(b"\x01" + found + sibling).digest()
        at, last = at // 2, last // 2
    assert last == 0
    assert found == root
    return entry
