"""The end of a report: how long things are kept, what it took, when rules apply, how to check, what words mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fedge.encoding import moment
from fedge.reports.document.blocks import Block, Bullets, Cell, Heading, Para, Table, Text
from fedge.reports.document.say import DASH, Say, short
from fedge.reports.words import law, octets

KEPT: Mapping[str, int | None] = {"log": 6, "ehds": 12, "docs": None, "records": None}
"""What is kept, and for how many months after the last entry; None where only people know when it begins."""


def retention(say: Say) -> Iterator[Block]:
    """Yield how long each thing is kept, and not before when it may go."""
    last = say.run["run"]["last_at"]
    rows = [
        [
            (say.cell(say(f"retention.{what}")),),
            (say.cell(say(f"retention.{what}_period")),),
            (say.cell(say(f"retention.{what}_basis")),),
            (say.cell(_earliest(say, what, months, last["value"]), tone="" if months else "warn"),),
        ]
        for what, months in KEPT.items()
    ]
    yield Heading(2, say("retention.title"), f"retention-{say.index}")
    yield Para((say.cell(say("retention.lead", last=short(last["value"])), last["entries"]),))
    yield Table("", [say(f"head.{n}") for n in ("what", "period", "basis", "earliest")], rows)
    yield Para(say.line("retention.note"))


def _earliest(say: Say, what: str, months: int | None, last: str | None) -> str:
    if months is None:
        return say(f"retention.{what}_date")
    return _later(moment(last), months).strftime("%Y-%m-%d") if last else DASH


def _later(at: datetime, months: int) -> datetime:
    """Return the same day `months` later, or the first day after it if that month is shorter."""
    year, month = divmod(at.month - 1 + months, 12)
    first = at.replace(year=at.year + year, month=month + 1, day=1)
    try:
        return first.replace(day=at.day)
    except ValueError:
        return _later(first, 1)


def resources(say: Say) -> Iterator[Block]:
    """Yield what the run took at each client."""
    rows: list[list[Text]] = []
    for c in say.run["clients"]:
        took = c["resources"]
        if took["wall_ms"]["value"] is None:
            continue
        energy = took["energy_mj"]["value"]
        rows.append(
            [
                (say.cell(c["client"]),),
                (say.cell(say.took(took["wall_ms"]["value"])),),
                (say.cell(say.took(took["cpu_ms"]["value"])),),
                (say.cell(octets(took["bytes_in"]["value"])),),
                (say.cell(octets(took["bytes_out"]["value"])),),
                (say.cell(DASH if energy is None else f"{energy / 1000:.1f} J"),),
                say.bare(took["device"]),
                say.bare(c["formats"]),
                say.source(took["wall_ms"]["entries"]),
            ]
        )
    names = ("client", "wall", "cpu", "bytes_in", "bytes_out", "energy", "device", "format", "source")
    yield Heading(2, say("resources.title"), f"resources-{say.index}", "ATTESTED")
    yield Table(say("resources.caption"), [say(f"head.{n}") for n in names], rows, frozenset(range(1, 6)))


def ending(say: Say) -> Iterator[Block]:
    """Yield what is the same for all runs: dates of the law, how to check, what words mean."""
    found = law()
    rules = [[(Cell(say.words.of("law", r["what"])),), (Cell(r["from"]),), (Cell(r["source"]),)] for r in found["rule"]]
    yield Heading(2, say("law.title"), "law")
    yield Para(say.line("law.lead", as_of=found["as_of"]))
    yield Table("", [say(f"head.{n}") for n in ("rule", "applies", "basis")], rules)
    yield Heading(2, say("verify.title"), "verify")
    yield Bullets([say.line(f"verify.step{n}") for n in range(1, 5)], ordered=True)
    words = [[(Cell(say.words.of("glossary_terms", n)),), (Cell(t),)] for n, t in _glossary(say)]
    yield Heading(2, say("glossary.title"), "glossary")
    yield Table("", [say("head.term"), say("head.meaning")], words)


def _glossary(say: Say) -> Sequence[tuple[str, str]]:
    return [(n, t) for n, t in say.words.texts["glossary"].items() if n != "title"]


def entries(say: Say, listed: Sequence[Any], count: int) -> Iterator[Block]:
    """Yield the entries themselves, folded away; each can be pointed at."""
    rows = [
        [
            (say.cell(str(e.index)),),
            (say.cell(say.words.of("events", e.event)),),
            (say.cell(e.signer),),
            (say.cell(short(e.payload["at"])),),
            (say.cell(_about(say, e.payload)),),
        ]
        for e in listed
    ]
    rest = say("page.more_rows", n=count - len(rows)) if count > len(rows) else ""
    anchors = [f"r{say.index}-entry-{e.index}" for e in listed]
    names = ("entry", "event", "signer", "when", "about")
    folded = f"{say('page.entries', n=f'{count:,}')}"
    yield Heading(2, say("ask.entries"), f"entries-{say.index}")
    yield Table("", [say(f"head.{n}") for n in names], rows, frozenset({0}), rest, folded, anchors)


def _about(say: Say, said: Mapping[str, Any]) -> str:
    parts = [f"{say('head.round')} {said['round']}"] if said.get("round") is not None else []
    parts += [say.words.of("outcomes", said["outcome"])] if said.get("outcome") else []
    parts += [say.words.reason(said["reason"])] if said.get("reason") else []
    return ", ".join(parts)
