"""The published log as static files, which any web server can serve (C2SP tlog-tiles v0.1.0).

    tile/entries/<N>[.p/<W>]   up to 256 entries, each with a 16-bit big-endian length before it
    tile/<L>/<N>[.p/<W>]       up to 256 hashes of level 8 * L

<N> is written in groups of three digits, all but the last with an `x`: 1234067 is `x001/x234/067`. A tile that is not
full ends in `.p/` and its width. Source: https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from fedge.audit.merkle import Hashes
from fedge.errors import ParseError

WIDTH = 256
Entries = Callable[[int, int], Sequence[bytes]]
"""(start, stop) -> the entries of that range"""


def changed(tree: Hashes, entries: Entries, old_size: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every tile that is new or wider than when the log had `old_size` entries."""
    for number in range(old_size // WIDTH, -(-tree.size // WIDTH)):
        bundle = entries(number * WIDTH, min((number + 1) * WIDTH, tree.size))
        yield path("entries", number, len(bundle)), pack(bundle)
    level = 0
    while count := tree.size >> 8 * level:
        for number in range((old_size >> 8 * level) // WIDTH, -(-count // WIDTH)):
            indices = range(number * WIDTH, min((number + 1) * WIDTH, count))
            hashes = tree.hashes([(8 * level, index) for index in indices])
            yield path(str(level), number, len(hashes)), b"".join(hashes)
        level += 1


def path(level: str, number: int, width: int) -> str:
    """Return the path of a tile, e.g. `tile/entries/000.p/12`."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def pack(entries: Sequence[bytes]) -> bytes:
    """Return the bundle of `entries`, each at most 65,535 bytes."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unpack(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle. Raises ParseError if it is cut off."""
    entries, place = [], 0
    while place < len(bundle):
        if place + 2 > len(bundle):
            raise ParseError("the entry bundle is cut off in a length")
        length = struct.unpack_from(">H", bundle, place)[0]
        entry = bundle[place + 2 : place + 2 + length]
        if len(entry) != length:
            raise ParseError("the entry bundle is cut off in an entry")
        entries.append(entry)
        place += 2 + length
    return entries


def bundle_paths(size: int) -> list[str]:
    """Return the paths of all entry bundles of a log of `size` entries."""
    return [path("entries", start // WIDTH, min(WIDTH, size - start)) for start in range(0, size, WIDTH)]
