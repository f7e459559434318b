"""What the GDPR asks for: rows for a record of processing (Art. 30) and inputs for an impact assessment (Art. 35).

What only a controller knows is marked as theirs to complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedge.reports.document.blocks import Block, Heading, Para, Table, Text
from fedge.reports.document.say import DASH, Say

ROPA = ("controller", "purposes", "subjects", "recipients", "transfers", "erasure", "measures")
"""The members of Art. 30(1): a, b, c, d, e, f, g."""


def ropa_rows(say: Say) -> list[dict[str, str]]:
    """Return one row for each organisation and data set, in words; the controller's own part is marked."""
    todo = say("page.provider")
    return [
        {
            "client": c["client"],
            "controller": f"{say.value(c['organisation'])}; {todo}",
            "purposes": say.value(c["purposes"]),
            "legal_bases": say.value(c["legal_bases"]),
            "dataset": say.value(c["data"]["lineage"]),
            "subjects": f"{say.value(c['data']['origin'])}; {say.value(c['data']['purpose_of_collection'])}; {todo}",
            "recipients": say("ropa.recipients_log"),
            "transfers": todo,
            "erasure": todo,
            "measures": say(
                "ropa.measures_log",
                unit=say.words.of("values", say.value(c["privacy"]["unit"])),
                secure=say.plain(c["secure_aggregation"]["value"]),
            ),
            "entries": c["privacy"]["unit"]["entries"] or c["enrolled"]["entries"],
        }
        for c in say.run["clients"]
    ]


def ropa(say: Say) -> Iterator[Block]:
    """Yield the rows for a record of processing."""
    rows: list[list[Text]] = []
    for row in ropa_rows(say):
        controller = (say.cell(f"{row['client']}: {row['controller']} ({row['dataset']})"),)
        cells = [(say.cell(row[name]),) for name in ROPA[1:]]
        rows.append([controller, *cells, say.source(row["entries"])])
    yield Heading(2, say("ropa.title"), f"ropa-{say.index}")
    yield Para(say.line("ropa.lead"))
    yield Table("", [*(say(f"ropa.{n}") for n in ROPA), say("head.source")], rows)


def dpia(say: Say) -> Iterator[Block]:
    """Yield what an impact assessment needs of facts, by the letters of Art. 35(7)."""
    facts = _facts(say)
    sources = {
        "a": say.run["run"]["purpose"]["entries"],
        "c": say.run["totals"]["epsilon"]["entries"],
        "d": say.run["totals"]["withdrawals"]["entries"],
    }
    rows = [
        [
            (say.cell(say(f"dpia.{item}")),),
            (say.cell(say(f"dpia.{item}_log", **facts)),),
            (say.cell(say(f"dpia.{item}_todo"), tone="warn"),),
            say.source(sources.get(item, "")),
        ]
        for item in "abcd"
    ]
    yield Heading(2, say("dpia.title"), f"dpia-{say.index}")
    yield Para(say.line("dpia.lead"))
    yield Table("", [say(f"head.{n}") for n in ("item", "found", "todo", "source")], rows)


def _facts(say: Say) -> Mapping[str, Any]:
    run, totals = say.run["run"], say.run["totals"]
    bases = dict.fromkeys(b for c in say.run["clients"] for b in c["legal_bases"]["value"] or [])
    epsilon = totals["epsilon"]["value"]
    return {
        "n": say.run["notable"]["count"],
        "organisations": say.value(totals["organisations"]),
        "purpose": say.value(run["purpose"]),
        "bases": ", ".join(bases) or DASH,
        "epsilon": say("page.unlimited") if epsilon is None else say.decimal(epsilon),
        "delta": say.value(say.run["privacy"]["delta"]),
        "withdrawals": say.value(totals["withdrawals"]),
    }
