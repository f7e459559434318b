"""Annex IV fragment: each item of the technical documentation, filled from the log or marked for the provider.

Source: Regulation (EU) 2024/1689, Annex IV. Items that no log can fill are left open, never invented.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedge.reports.document.blocks import Block, Cell, Heading, Para, Table, Text
from fedge.reports.document.say import DASH, Say, digest, short
from fedge.reports.words import octets

FILLED = ("i1c", "i6")
PARTIAL = ("i1a", "i1e", "i2a", "i2b", "i2c", "i2d", "i2f", "i2g", "i2h", "i3", "i9")
ITEMS = (
    "i1a", "i1b", "i1c", "i1d", "i1e", "i1f", "i1g", "i1h", "i2a", "i2b", "i2c", "i2d", "i2e", "i2f", "i2g", "i2h",
    "i3", "i4", "i5", "i6", "i7", "i8", "i9",
)  # fmt: skip
CHANGES = ("policy_change", "key_rotate", "key_revoke", "client_retire")


def annex_iv(say: Say) -> Iterator[Block]:
    """Yield the fragment."""
    facts, sources = _facts(say), _sources(say)
    rows = [_row(say, item, facts, sources) for item in ITEMS]
    yield Heading(2, say("annex.title"), f"annex-iv-{say.index}")
    yield Para(say.line("annex.lead"))
    yield Table("", [say(f"head.{n}") for n in ("item", "status", "found", "todo", "source")], rows)


def _row(say: Say, item: str, facts: Mapping[str, str], sources: Mapping[str, str]) -> list[Text]:
    status = "filled" if item in FILLED else "partial" if item in PARTIAL else "open"
    todo = say(f"annex.{item}_todo")
    return [
        (say.cell(say(f"annex.{item}")),),
        (say.cell(say(f"annex.{status}"), tone={"filled": "good", "partial": "", "open": "warn"}[status]),),
        (say.cell(say(f"annex.{item}_log", **facts, n=_number(say, item)) if status != "open" else DASH),),
        (say.cell(todo or DASH, tone="warn" if todo else ""),),
        say.source(sources.get(item, "") if status != "open" else ""),
    ]


def _number(say: Say, item: str) -> int:
    """Return what an item counts."""
    counted = {"i2d": len(say.run["clients"]), "i2f": _count(say, "policy_change"), "i2g": _count(say, "evaluation")}
    return counted.get(item, 0)


def _facts(say: Say) -> dict[str, str]:
    """Return what the sentences of the items need."""
    run, clients, scores = say.run["run"], say.run["clients"], say.run["evaluations"]
    took = {n: sum(c["resources"][n]["value"] or 0 for c in clients) for n in ("cpu_ms", "bytes_out")}
    devices = dict.fromkeys(c["resources"]["device"]["value"] for c in clients if c["resources"]["device"]["value"])
    central = scores["central"]["values"]
    return {
        "purpose": say.value(run["purpose"]),
        "task": say.value(run["task"]),
        "model": digest(run["final_model"]["value"]),
        "code": say.value(run["code_version"]),
        "packages": digest(run["packages_digest"]["value"]),
        "format": say.value(run["model_format"]),
        "devices": ", ".join(devices) or DASH,
        "rounds": say.value(say.run["totals"]["rounds"]),
        "strategy": say.value(run["strategy"]),
        "aggregation": say.value(run["aggregation"]),
        "initial": digest(run["initial_model"]["value"]),
        "config": digest(run["config_digest"]["value"]),
        "cpu": say.took(took["cpu_ms"]),
        "sent": octets(took["bytes_out"]),
        "latest": ", ".join(f"{k} {say.decimal(v)}" for k, v in sorted(central.items())) or DASH,
        "unit": say.words.of("values", say.value(say.run["privacy"]["unit"])),
        "secure": say.plain(any(c["secure_aggregation"]["value"] for c in clients)),
        "changes": str(sum(_count(say, event) for event in CHANGES)),
    }


def _sources(say: Say) -> dict[str, str]:
    """Return which entries fill each item."""
    opening = say.run["run"]["run"]["entries"]
    rounds, scores = say.run["totals"]["rounds"]["entries"], say.run["evaluations"]["count"]["entries"]
    return dict.fromkeys(FILLED + PARTIAL, opening) | {
        "i2a": rounds,
        "i2f": _entries(say, "policy_change"),
        "i2g": scores,
        "i3": scores,
        "i6": rounds,
        "i9": "",
    }


def _event(say: Say, name: str) -> Mapping[str, Any]:
    return next((e for e in say.run["events"] if e["event"] == name), {"count": 0, "entries": ""})


def _count(say: Say, name: str) -> int:
    return int(_event(say, name)["count"])


def _entries(say: Say, name: str) -> str:
    return str(_event(say, name)["entries"])


def art_12(say: Say) -> Iterator[Block]:
    """Yield the kinds of events that were recorded, with the aims that each serves."""
    rows = [
        [
            (say.cell(say.words.of("events", e["event"]) + " "), Cell(e["event"], code=True)),
            (say.cell(say.names(e["aims"], "aims")),),
            (say.cell(f"{e['count']:,}"),),
            (say.cell(short(e["first_at"])),),
            (say.cell(short(e["last_at"])),),
            say.source(e["entries"]),
        ]
        for e in say.run["events"]
    ]
    names = ("event", "aims", "count", "first", "last", "source")
    yield Heading(2, say("art12.title"), f"art-12-{say.index}")
    yield Para(say.line("art12.lead"))
    yield Table("", [say(f"head.{n}") for n in names], rows, frozenset({2}))
