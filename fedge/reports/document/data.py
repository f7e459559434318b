"""Who took part, with which data, under which permission; and what became of people's withdrawals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedge.audit.counts import bounds
from fedge.errors import ParseError
from fedge.reports import plots
from fedge.reports.document.blocks import Block, Heading, Para, Plot, Table, Text
from fedge.reports.document.say import DASH, Say, digest, short

DRAWN = 24
"""Bars that one plot can hold and still be read."""


def who(say: Say) -> Iterator[Block]:
    """Yield who took part."""
    yield Heading(2, say("ask.who"), f"who-{say.index}")
    rows = []
    for c in say.run["clients"]:
        counts = [_count(c, *names) for names in (("submitted",), ("refused", "skipped"), ("failed",))]
        reasons = [f"{say.words.reason(code)} ({n['value']})" for code, n in c["reasons"].items()]
        left = "" if c["retired"]["value"] is None else f"; {say('who.retired', n=c['retired']['value'])}"
        rows.append(
            [
                (say.cell(c["client"] + left),),
                say.bare(c["organisation"]),
                *[(say.cell(str(n)),) for n in counts],
                (say.cell("; ".join(reasons) or DASH),),
                say.source(c["enrolled"]["entries"]),
                say.source(c["statements"]["entries"]),
            ]
        )
    names = ("client", "organisation", "updates", "refused", "failed", "reasons", "enrolled", "source")
    yield Table(say("who.caption"), [say(f"head.{n}") for n in names], rows, frozenset({2, 3, 4}))


def _count(client: Mapping[str, Any], *outcomes: str) -> int:
    return sum(figure["value"] for name, figure in client["outcomes"].items() if name in outcomes)


def data(say: Say) -> Iterator[Block]:
    """Yield which data were used and which were left out."""
    yield Heading(2, say("ask.data"), f"data-{say.index}", "ATTESTED")
    yield Para(say.line("data.lead"))
    clients = [c for c in say.run["clients"] if c["data"]["used"]["value"] is not None]
    reasons = sorted({reason for c in clients for reason in c["data"]["excluded"]}, key=_order(say))
    rows = [
        [
            (say.cell(c["client"]),),
            say.bare(c["data"]["lineage"]),
            say.bare(c["data"]["eligible"]),
            say.bare(c["data"]["used"]),
            *[(say.cell(c["data"]["excluded"].get(r, {"value": "0"})["value"]),) for r in reasons],
            say.source(c["data"]["used"]["entries"]),
        ]
        for c in clients
    ]
    head = [say(f"head.{n}") for n in ("client", "dataset", "permitted", "used")]
    head += [say.words.reason(r) for r in reasons] + [say("head.source")]
    yield Table(say("data.caption"), head, rows, frozenset(range(2, 4 + len(reasons))))
    yield from _drawn(say, clients, reasons)


def _drawn(say: Say, clients: list[Mapping[str, Any]], reasons: list[str]) -> Iterator[Block]:
    stacks = {}
    for c in clients[:DRAWN]:
        parts = {say("data.used"): _middle(c["data"]["used"]["value"])}
        parts |= {say.words.reason(r): _middle(n["value"]) for r in reasons if (n := c["data"]["excluded"].get(r))}
        stacks[c["client"]] = {name: n for name, n in parts.items() if n}
    if any(stacks.values()):
        title = say("data.plot")
        yield Plot(plots.bars(stacks, title, say("data.records")), title, _summary(stacks))


def _middle(text: str) -> float:
    """Return the middle of a range of counts; a stranger's spelling counts as none."""
    try:
        return sum(bounds(text)) / 2
    except ParseError:
        return 0.0


def _summary(stacks: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(f"{n}: " + ", ".join(f"{k} {v:g}" for k, v in parts.items()) for n, parts in stacks.items())


def _order(say: Say) -> Any:
    known = list(say.words.texts["reasons"])
    return lambda reason: (known.index(reason) if reason in known else len(known), reason)


def permission(say: Say) -> Iterator[Block]:
    """Yield the permissions that held, and the withdrawals with their time to effect."""
    yield Heading(2, say("ask.permission"), f"permission-{say.index}", "ATTESTED")
    yield Para(say.line("permission.lead", purpose=say.value(say.run["run"]["purpose"])))
    rows = [
        [
            (say.cell(c["client"]),),
            say.bare(c["legal_bases"]),
            (say.cell(short(c["permission"]["as_of"]["value"])),),
            say.bare(c["permission"]["engine"]),
            say.bare(c["permission"]["snapshots"]),
            say.bare(c["permission"]["policies"]),
            say.source(c["permission"]["as_of"]["entries"]),
        ]
        for c in say.run["clients"]
        if c["permission"]["as_of"]["value"] is not None
    ]
    names = ("client", "bases", "as_of", "engine", "snapshots", "policies", "source")
    yield Table(say("permission.caption"), [say(f"head.{n}") for n in names], rows, frozenset({4, 5}))
    yield from _acts(say)


def _acts(say: Say) -> Iterator[Block]:
    acts = say.run["acts"]
    if not acts:
        yield Para(say.line("permission.none"))
        return
    names = ("kind", "client", "asked", "took", "round", "person", "model", "source")
    rows = [_act(say, act) for act in acts]
    yield Table(say("permission.acts"), [say(f"head.{n}") for n in names], rows, frozenset({3, 4}))
    stacks = {
        f"{n + 1} {a['client']}": {say(f"permission.{a['kind']}"): max(0.0, a["milliseconds"] / 1000)}
        for n, a in enumerate(acts[:DRAWN])
    }
    title = say("permission.plot")
    summary = "; ".join(f"{a['client']}: {say.took(a['milliseconds'])}" for a in acts[:DRAWN])
    yield Plot(plots.bars(stacks, title, say("permission.seconds")), title, summary)


def _act(say: Say, act: Mapping[str, Any]) -> list[Text]:
    if act["models"]:
        models = say("permission.models", first=act["models_from"], last=act["models_to"])
    else:
        models = say("permission.models_none")
    return [
        (say.cell(say(f"permission.{act['kind']}")),),
        (say.cell(act["client"]),),
        (say.cell(short(act["asked_at"])),),
        (say.cell(say.took(act["milliseconds"])),),
        (say.cell(say.plain(act["round"])),),
        (say.cell(digest(act["commitment"]), code=True),),
        (say.cell(models),),
        say.source(act["entries"]),
    ]
