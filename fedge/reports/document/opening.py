"""The top of page one: is it intact, what does it not prove, what was run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedge.reports.document.blocks import Block, Bullets, Cell, Facts, Heading, Para, Table, Text, Tiles, Verdict
from fedge.reports.document.say import Say, short
from fedge.reports.references import parse_refs, refs
from fedge.reports.words import Words

GRADES = ("PROVEN", "ATTESTED", "DECLARED", "MISSING", "FAILED")


def title(words: Words, report: Mapping[str, Any]) -> str:
    """Return what the report is called."""
    runs, client = report["runs"], report["scope"]["client"]
    if len(runs) > 1:
        return words("page.title_many", n=len(runs))
    task = runs[0]["run"]["task"]["value"]
    if task is None:
        return words("page.title_unreadable")
    if client:
        return words("page.title_client", client=client, task=task)
    return words("page.title_one", task=task, n=runs[0]["totals"]["organisations"]["value"])


def verdicts(says: Sequence[Say]) -> Iterator[Block]:
    """Yield one box for each run: whether its log holds."""
    words = says[0].words
    for say in says:
        found = say.run["verification"]
        name = f"{say.run['name']}: " if len(says) > 1 else ""
        yield Verdict(found["holds"], name + words(f"verdict.{'holds' if found['holds'] else 'broken'}"), _why(say))
    yield Para((Cell(words("verdict.attested")),), tone="strong")
    yield Para((Cell(words("verdict.evidence")),))


def _why(say: Say) -> list[Text]:
    found = say.run["verification"]
    if not found["holds"]:
        failed = [c for c in found["checks"] if c["grade"] == "FAILED"]
        told = say("verdict.broken_text", shown=found["shown"], entries=found["entries"])
        return [
            (say.cell(told),),
            *((say.cell(_check_name(say, c["name"]) + ": ", tone="bad"), say.cell(c["text"])) for c in failed),
        ]
    told = say(
        "verdict.holds_text",
        entries=f"{found['entries']:,}",
        cosigned=len(found["cosigned_by"]),
        organisations=say.value(say.run["totals"]["organisations"]),
        quorum=found["quorum"],
    )
    missing = say.line("verdict.missing_text") if found["verdict"] == "MISSING" else ()
    return [(say.cell(told),), *([missing] if missing else [])]


def _check_name(say: Say, name: str) -> str:
    return say.words.of("checks", name)


def scope(words: Words, report: Mapping[str, Any], digest_of_report: str) -> Iterator[Block]:
    """Yield what the report is about, who signs it, and the digest of what it was made from."""
    asked, signer = report["scope"], report["signer"]
    lines = [words("page.made", at=short(report["made_at"]), by=report["made_by"])]
    lines += [words("page.scope_client", client=asked["client"])] if asked["client"] else []
    lines += [words("page.scope_since", since=short(asked["since"]))] if asked["since"] else []
    lines += [words("page.scope_until", until=short(asked["until"]))] if asked["until"] else []
    lines += [words(f"page.signed_{signer['whose']}", key=signer["key"]) if signer else words("page.unsigned")]
    lines += [words("page.digest", digest=digest_of_report)]
    for line in lines:
        yield Para((Cell(line),), tone="dim")


def limits(says: Sequence[Say]) -> Iterator[Block]:
    """Yield what the report does not prove, and how to read the grades."""
    say = says[0]
    keys = ["l1", "l2", "l3", "l4", "erasure"]
    keys += ["seeded"] if any(s.run["privacy"]["seeded"] for s in says) else []
    keys += ["not_private"] if any(s.run["privacy"]["unit"]["value"] == "none" for s in says) else []
    yield Heading(2, say("limits.title"), "limits")
    yield Bullets([*(line for s in says for line in _repeated(s)), *(say.line(f"limits.{key}") for key in keys)])
    yield Heading(3, say("grades.title"))
    yield Bullets([(say.cell("", grade=g), say.cell(" " + say(f"grades.{g}"))) for g in GRADES])


def _repeated(say: Say) -> Iterator[Text]:
    """Yield, if people own several records where a record is what is protected, who says so."""
    if found := say.run["repeated"]:
        clients = ", ".join(dict.fromkeys(row["client"] for row in found))
        source = refs(n for row in found for n in parse_refs(row["entries"])).text
        yield (say.cell(say("limits.repeated", clients=clients), source, tone="bad"),)


def many(says: Sequence[Say]) -> Iterator[Block]:
    """Yield the runs of a report of several, and what was spent across them."""
    say = says[0]
    rows = []
    for s in says:
        run, found, totals = s.run["run"], s.run["verification"], s.run["totals"]
        word = s("verdict.holds" if found["holds"] else "verdict.broken")
        rows.append(
            [
                (s.cell(s.run["name"]),),
                (s.cell(word, tone="good" if found["holds"] else "bad"),),
                s.bare(run["task"]),
                s.bare(run["purpose"]),
                s.bare(totals["rounds"]),
                s.number(totals["epsilon"]),
            ]
        )
    yield Heading(2, say("ask.runs"), "runs")
    names = ("run", "verdict", "task", "purpose", "rounds", "epsilon")
    head = [say(f"{'run' if n in {'task', 'purpose'} else 'head'}.{n}") for n in names]
    yield Table("", head, rows, frozenset({4, 5}))
    yield from _across(says)


def _across(says: Sequence[Say]) -> Iterator[Block]:
    """Yield the largest total that each data set's owner has stated in any of the runs."""
    most: dict[tuple[str, str], tuple[float, Say, Mapping[str, Any]]] = {}
    for say in says:
        for client in say.run["clients"]:
            total, place = client["privacy"]["epsilon_total"], (client["client"], say.value(client["data"]["lineage"]))
            if total["value"] is not None and float(total["value"]) >= most.get(place, (0.0, say, {}))[0]:
                most[place] = (float(total["value"]), say, client)
    say = says[0]
    rows = [
        [
            (say.cell(name),),
            (say.cell(lineage),),
            s.number(client["privacy"]["epsilon_total"]),
            s.number(client["privacy"]["budget"]),
            (s.cell(f"{s.run['name']} "), s.cell("", client["privacy"]["epsilon_total"]["entries"])),
        ]
        for (name, lineage), (_, s, client) in sorted(most.items(), key=lambda item: item[0])
    ]
    head = [say(f"head.{n}") for n in ("client", "dataset", "epsilon", "budget", "source")]
    yield Table(say("run.across"), head, rows, frozenset({2, 3}))


def run(say: Say) -> Iterator[Block]:
    """Yield what was run."""
    said, totals = say.run["run"], say.run["totals"]
    yield Heading(2, say("ask.run"), f"run-{say.index}")
    closed = said["closed_at"]
    ends = (say.cell(say("run.not_closed"), tone="warn"),)
    facts: list[tuple[str, Text]] = [
        ("run", say.figure(said["run"])),
        ("opened", say.figure(said["opened_at"], short(said["opened_at"]["value"]))),
        ("closed", ends if closed["value"] is None else say.figure(closed, short(closed["value"]))),
        ("task", say.figure(said["task"], graded=True)),
        ("purpose", say.figure(said["purpose"], graded=True)),
        ("strategy", say.figure(said["strategy"])),
        ("aggregation", say.figure(said["aggregation"])),
        ("code", say.figure(said["code_version"])),
        ("config", say.figure(said["config_digest"], code=True)),
        ("initial", say.figure(said["initial_model"], code=True)),
        ("model", say.figure(said["final_model"], code=True)),
    ]
    facts += [("continues", say.figure(said["continues"]))] if said["continues"]["value"] else []
    yield Facts([(say(f"run.{key}"), text) for key, text in facts])
    if totals["void"]["value"]:
        yield Para((say.cell(f"{say('run.void_label')}: {totals['void']['value']}", totals["void"]["entries"]),))


def tiles(say: Say) -> Tiles:
    """Return what it came to, in a few large numbers."""
    totals, said, scores = say.run["totals"], say.run["run"], say.run["evaluations"]
    done = say("run.rounds", done=say.value(totals["rounds"]), planned=say.value(said["rounds_planned"]))
    found = [(say.cell(done, totals["rounds"]["entries"]), say("run.rounds_label"))]
    for name in ("updates", "refusals", "withdrawals"):
        found.append((say.cell(say.value(totals[name]), totals[name]["entries"]), say(f"run.{name}_label")))
    headline, central = scores["headline"], scores["central"]
    if headline and headline in central["values"]:
        label = say("run.score_label", metric=headline)
        found.append((say.cell(say.decimal(central["values"][headline]), central["entries"]), label))
    if totals["epsilon"]["value"] is not None:
        found.append(
            (say.cell(say.decimal(totals["epsilon"]["value"]), totals["epsilon"]["entries"]), say("run.epsilon_label"))
        )
    return Tiles(found)
