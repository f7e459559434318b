"""What came out: privacy spent, how good the model is, what went wrong, whether it is intact, what happened when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from fedge.encoding import moment
from fedge.reports import plots
from fedge.reports.document.blocks import Block, Facts, Heading, Para, Plot, Table
from fedge.reports.document.say import DASH, Say, digest, short

LINES = 8
"""Clients that one plot can tell apart; of more it shows the most, the middle and the least."""
ROUNDS = 200
"""Rounds that the page lists."""
UNITS = (("s", 1), ("min", 60), ("h", 3600), ("d", 86_400))

Points = list[tuple[float, float]]


def privacy(say: Say) -> Iterator[Block]:
    """Yield how much privacy is spent, of which budget."""
    promise = say.run["privacy"]
    private = promise["unit"]["value"] not in {None, "none"}
    yield Heading(2, say("ask.privacy"), f"privacy-{say.index}", "ATTESTED")
    if not private:
        yield Para(say.line("privacy.none"), tone="warn")
        return
    said = {n: say.words.of("values", say.value(promise[n])) for n in promise if n != "seeded"}
    unit = said.pop("unit")
    yield Para(
        (
            say.cell(
                say("privacy.promise", unit=unit[:1].upper() + unit[1:], unit_word=unit, **said),
                promise["unit"]["entries"],
            ),
        )
    )
    yield Para(say.line("privacy.lead", unit=unit))
    rows = []
    for c in say.run["clients"]:
        p = c["privacy"]
        rows.append(
            [
                (say.cell(c["client"]),),
                *[say.number(p[n]) for n in ("epsilon_total", "budget", "left")],
                say.bare(p["delta"]),
                say.number(p["noise_multiplier"]),
                say.number(p["clip_norm"]),
                say.source(p["epsilon_total"]["entries"]),
            ]
        )
    names = ("client", "epsilon", "budget", "left", "delta", "noise", "clip", "source")
    yield Table("", [say(f"head.{n}") for n in names], rows, frozenset(range(1, 7)))
    yield from _spent(say)


def _spent(say: Say) -> Iterator[Block]:
    curves = {c["client"]: _points(c["privacy"]["curve"]) for c in say.run["clients"]}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return
    title, budgets = say("privacy.plot"), _budgets(say, curves)
    if len(lines := _told_apart(curves)) > LINES:
        lines, title = _range(say, curves), say("privacy.plot_many")
    svg = plots.lines(lines, title, say("head.round"), say("head.epsilon"), limits=budgets)
    yield Plot(svg, title, "; ".join(f"{n}: {p[-1][1]:.3g}" for n, p in lines.items()))


def _told_apart(curves: Mapping[str, Points]) -> dict[str, Points]:
    """Return each curve once, under the names of all clients that it is the curve of: one would hide the others."""
    whose: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for client, points in curves.items():
        whose.setdefault(tuple(points), []).append(client)
    return {_together(names): list(points) for points, names in whose.items()}


def _together(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 3 else f"{names[0]} … {names[-1]} ({len(names)})"


def _budgets(say: Say, curves: Mapping[str, Points]) -> dict[str, float]:
    """Return the budgets as lines to draw: one for each amount, named by whose it is."""
    whose: dict[float, list[str]] = {}
    for c in say.run["clients"]:
        if c["privacy"]["budget"]["value"] is not None and c["client"] in curves:
            whose.setdefault(float(c["privacy"]["budget"]["value"]), []).append(c["client"])
    amounts = sorted(whose)[:3] + sorted(whose)[3:][-1:]  # of very many the least three and the most
    return {_whose(say, whose[amount]): amount for amount in amounts}


def _whose(say: Say, clients: list[str]) -> str:
    if len(clients) > 2:
        return say("privacy.budget_of_many", n=len(clients), client=clients[0])
    return say("privacy.budget_of", client=", ".join(clients))


def _range(say: Say, curves: Mapping[str, Points]) -> dict[str, Points]:
    """Return the most, the middle and the least of many curves, at the rounds where the longest has points."""
    rounds = [x for x, _ in max(curves.values(), key=len)]
    columns = [sorted(_at(points, x) for points in curves.values()) for x in rounds]
    picks = {"most": max, "middle": median, "least": min}
    return {
        say(f"privacy.{n}"): [(x, float(pick(v))) for x, v in zip(rounds, columns, strict=True)]  # type: ignore[operator]
        for n, pick in picks.items()
    }


def _at(points: Points, x: float) -> float:
    """Return how much was spent by round `x`: the last total stated by then."""
    return next((y for at, y in reversed(points) if at <= x), 0.0)


def _points(row: Mapping[str, Any]) -> Points:
    return [(float(x), float(y)) for x, y in row["points"] if math.isfinite(float(y))]


def quality(say: Say) -> Iterator[Block]:
    """Yield how good the model became, and what it was like at the end."""
    scores = say.run["evaluations"]
    yield Heading(2, say("ask.quality"), f"quality-{say.index}")
    said = scores["federated"]["values"]
    if "accuracy" in said:
        error, n = say.decimal(said.get("accuracy_error"), 2), say.plain(scores["federated"]["n"])
        text = say("quality.federated", accuracy=say.decimal(said["accuracy"]), error=error, n=n)
        yield Para((say.cell(text, scores["federated"]["entries"]),))
    if not scores["curves"]:
        yield Para(say.line("quality.none"))
    for name in sorted(scores["curves"], key=lambda n: (n == "loss", n)):
        points, title = _points(scores["curves"][name]), say("quality.plot", metric=name)
        if points:
            svg = plots.lines({name: points}, title, say("head.round"), name)
            yield Plot(svg, title, f"{name}: {points[0][1]:.3g} … {points[-1][1]:.3g}")


def wrong(say: Say) -> Iterator[Block]:
    """Yield what went wrong, and who stepped in."""
    found = say.run["notable"]
    yield Heading(2, say("ask.wrong"), f"wrong-{say.index}")
    if not found["rows"]:
        yield Para(say.line("page.none"))
        return
    rows = [
        [
            (say.cell(short(n["at"])),),
            (say.cell(say.words.of("events", n["event"])),),
            (say.cell(n["client"] or DASH),),
            (say.cell(say.plain(n["round"])),),
            (say.cell(say.words.reason(n["reason"]) + (f": {n['detail']}" if n["detail"] else "")),),
            say.source(n["entries"]),
        ]
        for n in found["rows"]
    ]
    more = found["count"] - len(rows)
    names = ("when", "what", "client", "round", "reason", "source")
    rest = say("page.more_rows", n=more) if more > 0 else ""
    yield Table(say("wrong.caption"), [say(f"head.{n}") for n in names], rows, frozenset({3}), rest)


def intact(say: Say) -> Iterator[Block]:
    """Yield every answer of the verifier, and what of the bundle cannot be used."""
    found = say.run["verification"]
    yield Heading(2, say("ask.intact"), f"intact-{say.index}")
    yield Para(say.line("intact.lead"))
    rows = [
        [(say.cell(say.words.of("checks", c["name"])),), (say.cell("", grade=c["grade"]),), (say.cell(c["text"]),)]
        for c in found["checks"]
    ]
    yield Table("", [say(f"head.{n}") for n in ("question", "grade", "answer")], rows)
    yield Facts(
        [
            (
                say("intact.root"),
                (say.cell(f"{found['root'] or DASH} ({say('page.entries', n=found['entries'])})", code=True),),
            ),
            (say("intact.vouched"), (say.cell(", ".join(found["cosigned_by"]) or say("intact.nobody")),)),
        ]
    )
    if found["damage"]:
        yield Heading(3, say("intact.damage"))
        torn = [[(say.cell(d["where"], tone="bad"),), (say.cell(d["reason"], tone="bad"),)] for d in found["damage"]]
        yield Table("", [say("head.where"), say("head.reason")], torn)


def time(say: Say) -> Iterator[Block]:
    """Yield the time line of events."""
    events = say.run["events"]
    moments = {say.words.of("events", e["event"]): [moment(at).timestamp() for at in e["times"]] for e in events}
    everything = [x for lane in moments.values() for x in lane]
    if not everything:
        return
    start, length = min(everything), max(everything) - min(everything)
    unit, scale = next((u for u in reversed(UNITS) if length >= 3 * u[1]), UNITS[0])
    title = say("time.plot")
    lanes = {name: [(x - start) / scale for x in lane] for name, lane in moments.items()}
    yield Heading(2, say("ask.time"), f"time-{say.index}")
    svg = plots.timeline(lanes, title, f"{unit} ({say('head.first')}: {short(events[0]['first_at'])})")
    yield Plot(svg, title, "; ".join(f"{name}: {min(x):.3g} … {max(x):.3g} {unit}" for name, x in lanes.items() if x))


def rounds(say: Say) -> Iterator[Block]:
    """Yield the rounds one by one; of very many, those that differ and the last."""
    found = say.run["rounds"]
    if not found:
        return
    shown = found if len(found) <= ROUNDS else _telling(found)
    rows = [
        [
            (say.cell(str(r["round"])),),
            (say.cell(short(r["at"])),),
            (say.cell(str(r["accepted"])),),
            (say.cell(_others(say, r), tone="warn" if r["void"] else ""),),
            (say.cell(digest(r["model"]), code=True),),
            say.source(r["entries"]),
        ]
        for r in shown
    ]
    names = ("round", "closed", "accepted", "others", "model", "source")
    rest = say("page.more_rows", n=len(found) - len(shown)) if len(shown) < len(found) else ""
    yield Heading(2, say("ask.rounds"), f"rounds-{say.index}")
    yield Table(say("rounds.caption"), [say(f"head.{n}") for n in names], rows, frozenset({0, 2}), rest)


def _telling(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rounds that differ from those before, the first and the last: at most ROUNDS."""
    usual = found[0]["accepted"]
    odd = [r for r in found[1:-1] if r["void"] or r["accepted"] != usual]
    return [found[0], *odd[: ROUNDS - 2], found[-1]]


def _others(say: Say, row: Mapping[str, Any]) -> str:
    void = [f"{say('rounds.void')}: {say.words.reason(row['reason'])}"] if row["void"] else []
    counted = row["named"] or [[str(n), outcome, reason] for outcome, reason, n in row["others"]]
    return "; ".join([*void, *(_other(say, *other) for other in counted)]) or DASH


def _other(say: Say, who: str, outcome: str, reason: str | None) -> str:
    return f"{who} {say.words.of('outcomes', outcome)}" + (f" ({say.words.reason(reason)})" if reason else "")
