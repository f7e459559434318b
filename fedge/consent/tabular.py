"""Permission records as tables: CSV in, with a mapping of columns to fields; CSV out, safe to open in a spreadsheet.

A row is one event. Lists are separated by `;`, dates are read as in `dates`, acts also as the words people use. What a
row does not say may be said for all rows (an opt-out register is often a list of numbers and nothing else). A row whose
subject is known and whose rest is not understood is a refusal that says which field it was: closed by default.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, TextIO

from fedge.consent.conditions import condition, is_condition
from fedge.consent.dates import bounds, latest
from fedge.consent.events import ACTS, EVERYONE, FOR_ALL, KINDS, PermissionEvent, plain_event
from fedge.consent.importing import Entry
from fedge.consent.purposes import ANY, purpose
from fedge.consent.sources import opened
from fedge.encoding import timestamp
from fedge.errors import FedgeError, PermissionRecordError

FIELDS = tuple(f.name for f in fields(PermissionEvent) if f.name != "unread")
LISTS = frozenset({"purposes", "excepted", "conditions", "categories", "legal_bases"})
DATES = frozenset({"valid_from", "valid_until", "recorded_at", "version", "data_from", "data_until"})
WORDS: Mapping[str, str] = {
    "yes": "grant", "y": "grant", "true": "grant", "1": "grant", "granted": "grant", "permit": "grant",
    "given": "grant", "no": "refuse", "n": "refuse", "false": "refuse", "0": "refuse", "refused": "refuse",
    "deny": "refuse", "withdrawn": "withdraw", "expired": "expire", "revoked": "revoke",
}  # fmt: skip
ALIASES: Mapping[str, str] = {"purpose": "purposes", "condition": "conditions", "category": "categories"}
DELIMITERS = ",;\t|"
DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""


@dataclass(frozen=True)
class Layout:
    """How a table is read: `columns` map its column names to fields, `given` are fields alike in all rows."""

    now: datetime
    columns: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = UTC
    encoding: str | None = None


def entries(path: Path, layout: Layout) -> Iterator[Entry]:
    """Yield an entry for each row of `path`. Raises PermissionRecordError if its columns are not understood."""
    with opened(path, layout.encoding) as text:
        header, rows = _rows(path, text)
        names = _fields(path, header, layout)
        try:
            for number, row in rows:
                yield _entry(f"line {number}", row, names, layout)
        except csv.Error as error:
            raise PermissionRecordError(f"{path}: not CSV near line {rows.line}: {error}") from error


class _Numbered:
    """Rows with the line on which they end; blank ones are left out."""

    def __init__(self, text: Iterable[str], delimiter: str, first: int) -> None:
        self._reader, self._first = csv.reader(text, delimiter=delimiter, strict=True), first

    @property
    def line(self) -> int:
        return self._first + self._reader.line_num

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for row in self._reader:
            if any(cell.strip() for cell in row):
                yield self.line, row


def _rows(path: Path, text: TextIO) -> tuple[list[str], _Numbered]:
    head = text.readline()
    if not head.strip():
        raise PermissionRecordError(f"{path} is empty: expected a line that names the columns")
    delimiter = max(DELIMITERS, key=head.count)
    header = next(csv.reader(io.StringIO(head), delimiter=delimiter))
    return [name.strip() for name in header], _Numbered(text, delimiter, 1)


def _fields(path: Path, header: list[str], layout: Layout) -> list[str | None]:
    """Return the field that each column holds, None for one that is not read."""
    unknown = [c for c in layout.columns if c not in header]
    if unknown:
        raise PermissionRecordError(f"{path} has no column {unknown[0]!r}; its columns: {', '.join(header)}")
    names = [layout.columns.get(c, ALIASES.get(c.lower(), c.lower() if c.lower() in FIELDS else None)) for c in header]
    wrong = [n for n in {*names, *layout.given} if n is not None and n not in FIELDS]
    if wrong:
        raise PermissionRecordError(f"there is no field {wrong[0]!r}; fields: {', '.join(FIELDS)}")
    twice = [n for n in FIELDS if names.count(n) > 1]
    if twice:
        raise PermissionRecordError(f"{path}: two columns are read as {twice[0]!r}; map one of them to another field")
    missing = [n for n in ("subject", "purposes", "act") if n not in names and n not in layout.given]
    if missing:
        raise PermissionRecordError(
            f"{path}: no column says {missing[0]!r}; its columns: {', '.join(header)}; name one with "
            f"--map COLUMN={missing[0]}, or say it for all rows with --set {missing[0]}=VALUE"
        )
    return names


def _entry(place: str, row: list[str], names: list[str | None], layout: Layout) -> Entry:
    if len(row) != len(names):
        return Entry(place, refused=f"has {len(row)} fields, the first line names {len(names)}")
    said = dict(layout.given) | {n: c.strip() for n, c in zip(names, row, strict=True) if n and c.strip()}
    subject = said.pop("subject", "")
    if not subject:
        return Entry(place, refused="names no subject")
    try:
        return Entry(place, (_event(subject, said, layout),))
    except (ValueError, FedgeError) as error:
        return Entry(place, refused=str(error))


def _event(subject: str, said: dict[str, str], layout: Layout) -> PermissionEvent:
    """Return the event of a row. Raises ValueError or a FedgeError if its parts do not make one."""
    faults: list[str] = []
    values = {name: _value(name, text, layout.zone, faults) for name, text in said.items()}
    plain = {name: value for name, value in values.items() if name not in faults}
    act = plain.get("act")
    kind = plain.setdefault("kind", "permit" if subject == EVERYONE else "consent")
    now = timestamp(layout.now)
    begins = plain.get("valid_from", (now, now, now))
    recorded = plain.get("recorded_at", begins)
    says_yes = act == "grant" and kind != "opt_out"
    common = {"subject": subject, "recorded_at": recorded[0] if says_yes else min(recorded[2], max(now, recorded[0]))}
    if faults:
        if kind in FOR_ALL:
            raise ValueError(f"not understood: {', '.join(faults)}")
        return PermissionEvent(
            "refuse", "consent", purposes=(ANY,), valid_from=common["recorded_at"], unread=tuple(faults), **common
        )
    ends = {n: plain[n][1] for n in ("valid_until", "data_until") if n in plain}
    starts = {n: plain[n][0] for n in ("data_from", "version") if n in plain}
    return PermissionEvent(**(plain | ends | starts | common | {"valid_from": begins[0]}))


def _value(name: str, text: str, zone: tzinfo, faults: list[str]) -> Any:
    """Return what a cell says; what it does not say understandably is added to `faults`."""
    if name in DATES:
        try:
            return timestamp(bounds(text, zone)[0]), timestamp(bounds(text, zone)[1]), timestamp(latest(text, zone))
        except ValueError:
            faults.append(name)
            return None
    if name in LISTS:
        parts = tuple(part.strip() for part in text.split(";") if part.strip())
        return _purposes(parts, name, faults) if name in {"purposes", "excepted"} else _list(parts, name, faults)
    if name == "act":
        text = WORDS.get(text.lower(), text.lower())
    if (name == "act" and text not in ACTS) or (name == "kind" and text not in KINDS):
        faults.append(name)
    return text


def _purposes(parts: tuple[str, ...], name: str, faults: list[str]) -> tuple[str, ...]:
    try:
        return tuple(purpose(part) for part in parts)
    except PermissionRecordError:
        faults.append(name)
        return ()


def _list(parts: tuple[str, ...], name: str, faults: list[str]) -> tuple[str, ...]:
    if name != "conditions":
        return parts
    if not all(map(is_condition, parts)):
        faults.append(name)
    return tuple(map(condition, parts))


# ---- out ---------------------------------------------------------------------------------------------------------


def write(events: Iterable[PermissionEvent], out: TextIO) -> None:
    """Write `events` as CSV with a header; a cell that a spreadsheet would run as a formula begins with `'`."""
    names = [f.name for f in fields(PermissionEvent)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for event in events:
        plain = plain_event(event)
        writer.writerow([_cell(plain.get(name)) for name in names])


def _cell(value: Any) -> str:
    text = ";".join(value) if isinstance(value, list | tuple) else str(value or "")
    return f"'{text}" if text.startswith(DANGEROUS) else text
