"""The index of one bundle: made once, when it is checked; every page asks it for the few rows that it shows.

A file of SQLite in a private folder, as long as the server runs. It holds a copy of the entries, packed as the log
packs them: what a page shows is what was checked, whatever happens to the bundle's files afterwards. Words are found
by SQLite's full-text index, proofs are made from the stored hashes of the tree: nothing but the file grows with the
log.
"""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from fedge.audit import merkle, tiles
from fedge.audit.verify import Tree
from fedge.reports.salvage import UNREADABLE, Item

SCHEMA = """
CREATE TABLE entries (number INTEGER PRIMARY KEY, event TEXT NOT NULL, signer TEXT NOT NULL, client TEXT NOT NULL,
  round INTEGER, at TEXT NOT NULL, seq INTEGER, said TEXT NOT NULL, fault TEXT);
CREATE TABLE bundles (number INTEGER PRIMARY KEY, packed BLOB NOT NULL);
CREATE TABLE nodes (level INTEGER, place INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, place)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(text, content='');
"""
KEYS = """
CREATE INDEX by_event ON entries (event, number);
CREATE INDEX by_client ON entries (client, event, number);
CREATE INDEX by_round ON entries (round, number);
CREATE INDEX by_time ON entries (at, number);
CREATE INDEX by_fault ON entries (number) WHERE fault IS NOT NULL;
"""
SAID = (
    "work", "outcome", "reason", "organisation", "scope", "kind", "accepted", "void", "withdrawn_at", "requested_at",
    "effective_at",
)  # fmt: skip
"""Members that a list of entries shows."""
PAGE = 50
"""Entries on one page."""


@dataclass(frozen=True)
class Row:
    """One entry as a list shows it; `said` holds the members of SAID that it has."""

    number: int
    event: str
    signer: str
    client: str
    round: int | None
    at: str
    seq: int | None
    said: Mapping[str, Any]
    fault: str | None


@dataclass(frozen=True)
class Query:
    """What is searched for; an empty member asks for nothing. `since` and `until` are beginnings of times."""

    event: str = ""
    client: str = ""
    round: int | None = None
    text: str = ""
    since: str = ""
    until: str = ""
    faulty: bool = False


@dataclass(frozen=True)
class Found:
    """One page of what was found, and how many there are in all."""

    rows: Sequence[Row]
    total: int
    page: int

    @property
    def pages(self) -> int:
        """How many pages there are; at least one."""
        return max(1, -(-self.total // PAGE))


def build(path: Path, items: Iterable[Item], tree: Tree | None) -> int:
    """Write the index of `items` to the new file `path`; return how many there are.

    `tree` is there if the log's files hold, and then proofs can be drawn.
    """
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {SCHEMA}")
        count = sum(_write(db, number, part) for number, part in enumerate(_batched(items, tiles.WIDTH)))
        for level, hashes in enumerate(tree.levels if tree else []):
            db.executemany("INSERT INTO nodes VALUES (?, ?, ?)", ((level, i, h) for i, h in enumerate(hashes)))
        db.executescript(KEYS)
        db.commit()
    return count


def _batched(items: Iterable[Item], width: int) -> Iterator[list[Item]]:
    waiting = iter(items)
    while part := list(islice(waiting, width)):
        yield part


def _write(db: sqlite3.Connection, number: int, part: Sequence[Item]) -> int:
    packed = zlib.compress(tiles.pack([item.raw for item in part]), 1)
    db.execute("INSERT INTO bundles VALUES (?, ?)", (number, packed))
    db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, part))
    db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", ((i.index, _text(i)) for i in part))
    return len(part)


def _row(item: Item) -> tuple[Any, ...]:
    if item.entry is None:
        return (item.index, UNREADABLE, "", "", None, "", None, "{}", item.fault)
    entry, said = item.entry, item.entry.payload
    shown = {k: said[k] for k in SAID if said.get(k)}
    client = said.get("client") or ""
    numbers = (said.get("round"), said["at"], said.get("seq"))
    return (item.index, entry.event, entry.signer, client, *numbers, json.dumps(shown), item.fault)


def _text(item: Item) -> str:
    """Return all that can be searched for in an entry: its values, but not the names of its own members."""
    return " ".join([item.entry.event, item.entry.signer, *_leaves(item.entry.payload)]) if item.entry else ""


def _leaves(value: Any, *, inside: bool = False) -> Iterator[str]:
    match value:
        case Mapping():
            for key, inner in value.items():
                yield from [key] if inside else []  # clients, reasons, metrics
                yield from _leaves(inner, inside=True)
        case list():
            for inner in value:
                yield from _leaves(inner)
        case str() | int():
            yield str(value)


class Index:
    """An index that is read: one for each request, closed at its end."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Yield the index at `path`."""
        index = cls(path)
        try:
            yield index
        finally:
            index._db.close()

    def search(self, query: Query, page: int = 1) -> Found:
        """Return page `page` (from 1) of the entries that `query` asks for, in the order of the log."""
        where, values = _where(query)
        total = int(self._db.execute(f"SELECT count(*) FROM entries {where}", values).fetchone()[0])
        page = max(1, min(page, -(-total // PAGE)))
        rows = self._db.execute(
            f"SELECT * FROM entries {where} ORDER BY number LIMIT ? OFFSET ?", (*values, PAGE, (page - 1) * PAGE)
        )
        return Found([_read(r) for r in rows], total, page)

    def row(self, number: int) -> Row | None:
        """Return entry `number` as a list shows it."""
        found = self._db.execute("SELECT * FROM entries WHERE number = ?", (number,)).fetchone()
        return _read(found) if found else None

    def raw(self, number: int) -> bytes:
        """Return the bytes of entry `number`; b"" for one that is not in the bundle."""
        (packed,) = self._db.execute("SELECT packed FROM bundles WHERE number = ?", (number // tiles.WIDTH,)).fetchone()
        return tiles.unpack(zlib.decompress(packed))[number % tiles.WIDTH]

    def of_round(self, number: int) -> list[Row]:
        """Return the entries that speak of one round."""
        found = self._db.execute("SELECT * FROM entries WHERE round = ? ORDER BY number", (number,))
        return [_read(r) for r in found]

    def counts(self) -> dict[str, int]:
        """Return how many entries of each type there are."""
        return dict(self._db.execute("SELECT event, count(*) FROM entries GROUP BY event ORDER BY min(number)"))

    def faults(self) -> int:
        """Return how many entries must not be relied on."""
        return int(self._db.execute("SELECT count(*) FROM entries WHERE fault IS NOT NULL").fetchone()[0])

    @property
    def size(self) -> int:
        """The number of leaves of the tree; 0 if no tree holds."""
        return int(self._db.execute("SELECT count(*) FROM nodes WHERE level = 0").fetchone()[0])

    def hashes(self, addresses: Sequence[merkle.Address]) -> list[bytes]:
        """Return the hashes of complete subtrees (this is a `merkle.Hashes`)."""
        asked = "SELECT hash FROM nodes WHERE level = ? AND place = ?"
        return [self._db.execute(asked, address).fetchone()[0] for address in addresses]


def _read(row: tuple[Any, ...]) -> Row:
    number, event, signer, client, round_, at, seq, said, fault = row
    return Row(number, event, signer, client, round_, at, seq, json.loads(said), fault)


def _where(query: Query) -> tuple[str, list[Any]]:
    parts: list[tuple[str, Any]] = [
        ("event = ?", query.event),
        ("client = ?", query.client),
        ("round = ?", query.round),
        ("at >= ?", query.since),
        ("at < ?", query.until + "~" if query.until else ""),  # ~ comes after all that a time is made of
        ("number IN (SELECT rowid FROM words WHERE words MATCH ?)", _match(query.text)),
    ]
    asked = [(text, value) for text, value in parts if value not in ("", None)]
    texts = [text for text, _ in asked] + (["fault IS NOT NULL"] if query.faulty else [])
    return ("WHERE " + " AND ".join(texts) if texts else ""), [value for _, value in asked]


def _match(text: str) -> str:
    """Return the full-text query for entries that hold every word of `text`, each at least as its beginning.

    Each word goes in quotes: what it holds is never an operator.
    """
    words = re.findall(r"[^\s\x00\"]+", text)
    if text.strip() and not any(re.search(r"\w", w) for w in words):
        return '"\uffff"'  # nothing but signs, which the index does not hold
    return " ".join(f'"{w}"*' for w in words if re.search(r"\w", w))
