"""What pages say: values computed from checked evidence, a screenful at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from fedge.audit.verify import Check, Entry, Verification
from fedge.reports import plots
from fedge.reports.evidence import ClientEvidence, Evidence
from fedge.reports.viewer.checking import Checked
from fedge.reports.visible import visible

LINES = 8
"""Lines of a plot; of more clients the highest, the middle and the lowest are drawn."""

BY_CLIENT = "signed by the client, which alone could know it"
BY_SERVER = "signed by the server; nobody else can recompute it from the log"
DECIDED = "decided or typed by people at the server, and signed by it"
GRADES: Mapping[str, tuple[str, str]] = {
    "data_use": ("ATTESTED", BY_CLIENT),
    "consent_snapshot": ("ATTESTED", BY_CLIENT),
    "withdrawal_effective": ("ATTESTED", BY_CLIENT),
    "erasure_effective": ("ATTESTED", BY_CLIENT),
    "key_rotate": ("ATTESTED", BY_CLIENT),
    "update_rejected": ("ATTESTED", BY_SERVER),
    "evaluation": ("ATTESTED", BY_SERVER),
    "report_issued": ("ATTESTED", BY_SERVER),
}
"""What an entry's content is worth; DECLARED for all others."""
RECOMPUTED: Mapping[str, str] = {
    "round_roll": "no round missing",
    "round_close": "no round missing",
    "run_roll": "end of the log",
    "run_close": "end of the log",
}
"""Entries whose content the verifier recomputes, and the check that does."""


def grade(entry: Entry, fault: str | None, found: Verification) -> tuple[str, str]:
    """Return the grade of what an entry says, and why."""
    if fault is not None:
        return "FAILED", fault
    check = RECOMPUTED.get(entry.event)
    if check is not None:
        if any(c.name == check and c.grade == "PROVEN" for c in found.checks):
            return "PROVEN", "recomputed by the verifier from the other entries"
        return "ATTESTED", "signed by the server; the check that recomputes it does not hold"
    return GRADES.get(entry.event, ("DECLARED", DECIDED))


def linked(text: str, run: str) -> Markup:
    """Return a sentence of the verifier in which each entry that it names is a link."""
    safe = str(escape(visible(text)))
    return Markup(re.sub(r"\bentry (\d{1,15})\b", rf'<a href="/{escape(run)}/entries/\1">entry \1</a>', safe))


def failures(checked: Checked) -> list[Check]:
    """Return the checks that failed."""
    return [c for c in checked.verification.checks if c.grade == "FAILED"]


def against(checked: Checked, number: int) -> list[Check]:
    """Return the checks that failed at entry `number`."""
    return [c for c in failures(checked) if re.search(rf"\bentry {number}\b", c.text)]


@dataclass(frozen=True)
class Totals:
    """Figures of a run at a glance."""

    updates: int
    refusals: int
    void: int
    epsilon: float | None
    score: tuple[str, float, int] | None
    private: bool
    seeded: bool


def totals(evidence: Evidence) -> Totals:
    """Return the figures at a glance; `score` is a metric of the final model, its value, and the entry that says so."""
    spent = [c.epsilon_total for c in evidence.clients if c.epsilon_total is not None]
    said = evidence.run.get("privacy_statement", {})
    central = evidence.evaluations.central
    values = central.payload["values"] if central else {}
    name = next((n for n in sorted(values) if n != "loss"), next(iter(values), None))
    return Totals(
        updates=sum(r.accepted for r in evidence.rounds),
        refusals=sum(c.outcomes.get("refused", 0) + c.outcomes.get("skipped", 0) for c in evidence.clients),
        void=sum(r.void for r in evidence.rounds),
        epsilon=max(spent, default=None),
        score=(name, float(values[name]), central.index) if name and central else None,
        private=said.get("unit", "none") != "none",
        seeded=str(said.get("noise_source", "")).startswith("seeded"),
    )


def run_plots(evidence: Evidence) -> list[Markup]:
    """Return the plots of a run: how good the model was, and what each client has spent."""
    drawn = [
        plots.lines({visible(n): points}, f"{visible(n).capitalize()} of the model on the public test set", "round", n)
        for n, points in evidence.evaluations.curves.items()
        if n != "loss"
    ]
    if any(c.epsilon for c in evidence.clients):
        drawn.append(_spent(_few(evidence.clients), "Privacy spent by each client, as it states it (epsilon)"))
    return [Markup(p) for p in drawn]


def client_plot(client: ClientEvidence) -> Markup:
    """Return the plot of what one client has spent of its budget."""
    return Markup(_spent([client], f"Epsilon spent by {visible(client.client)}, against its budget"))


def _spent(clients: Sequence[ClientEvidence], title: str) -> str:
    lines = {visible(c.client): [p for p in c.epsilon if math.isfinite(p[1])] for c in clients}
    budgets = {c.budget for c in clients if c.budget is not None and math.isfinite(c.budget)}
    limits = {f"budget {b:g}": b for b in sorted(budgets)[-LINES:]}
    return plots.lines({n: v for n, v in lines.items() if v}, title, "round", "epsilon", limits=limits)


def _few(clients: Sequence[ClientEvidence]) -> Sequence[ClientEvidence]:
    if len(clients) <= LINES:
        return clients
    order = sorted((c for c in clients if c.epsilon), key=lambda c: c.epsilon_total or 0)
    return list({c.client: c for c in (order[-1], order[len(order) // 2], order[0])}.values()) if order else []


@dataclass(frozen=True)
class Part:
    """Some of a long list, and where in it."""

    rows: Sequence[Any]
    total: int
    page: int
    pages: int


def part(rows: Sequence[Any], page: int, size: int = 100) -> Part:
    """Return page `page` (from 1) of `rows`."""
    pages = max(1, -(-len(rows) // size))
    page = max(1, min(page, pages))
    return Part(rows[(page - 1) * size : page * size], len(rows), page, pages)


def beside(a: Checked, b: Checked) -> list[tuple[str, str, str]]:
    """Return the figures of two runs: what each is, and its value in both."""
    return [(name, first, second) for (name, first), (_, second) in zip(_figures(a), _figures(b), strict=True)]


def _figures(of: Checked) -> list[tuple[str, str]]:
    sums = totals(of.evidence)
    return [
        ("opened", str(of.evidence.run.get("at", "—"))[:19].replace("T", " ")),
        ("clients", str(len(of.evidence.clients))),
        ("rounds", str(len(of.evidence.rounds))),
        ("updates accepted", str(sums.updates)),
        ("orders refused", str(sums.refusals)),
        ("withdrawals", str(len(of.evidence.withdrawals))),
        ("largest epsilon spent", "—" if sums.epsilon is None else f"{sums.epsilon:.4g}"),
        ("score of the final model", f"{sums.score[0]} {sums.score[1]:.4g}" if sums.score else "—"),
        ("entries", f"{of.entries:,}"),
    ]
