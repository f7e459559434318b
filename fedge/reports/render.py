"""The report: one HTML file, no script, nothing from elsewhere, made from verified log entries alone.

What a reader sees is in `templates/report.html`; what it says is computed here and in `evidence`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from fedge.audit.verify import LIMITS, Verification
from fedge.encoding import moment
from fedge.files import write_atomically
from fedge.reports import plots
from fedge.reports.evidence import ClientEvidence, Evidence, gather
from fedge.reports.words import REASONS, octets
from fedge.rounds.folder import RunFolder


def write_report(folder: RunFolder, verification: Verification) -> None:
    """Write `report.html` for the run in `folder`, from what `verification` has accepted."""
    write_atomically(folder.report, render(verification).encode())


def render(verification: Verification) -> str:
    """Return the report as HTML; every string from the log is escaped."""
    evidence = gather(verification.entries)
    return page(
        "report.html",
        verification=verification,
        limits=LIMITS,
        evidence=evidence,
        run=evidence.run,
        headline=_headline(evidence),
        federated=_federated(evidence),
        totals=_totals(evidence),
        withdrawals=[_withdrawal(e.index, e.payload) for e in evidence.withdrawals],
        plots=[Markup(p) for p in _plots(evidence)],
        excluded=_excluded(evidence),
        private=evidence.run.get("privacy_statement", {}).get("unit", "none") != "none",
        seeded=evidence.run.get("privacy_statement", {}).get("noise_source", "").startswith("seeded"),
    )


def page(template: str, **values: Any) -> str:
    """Return the page that `template` makes of `values`, in the one style of all pages; every string is escaped."""
    environment = Environment(
        loader=PackageLoader("fedge.reports"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"reason": _reason, "number": _number, "seconds": _seconds, "octets": octets}
    style = Markup((resources.files("fedge.reports") / "templates" / "report.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, **values)


def _headline(evidence: Evidence) -> Mapping[str, Any] | None:
    """Return the score of the final model on the public test set: the first metric that is not the loss."""
    central = [e for e in evidence.evaluations if e.payload["scope"] == "central"]
    if not central:
        return None
    values = central[-1].payload["values"]
    name = next((n for n in sorted(values) if n != "loss"), "loss")
    return {"name": name, "value": float(values[name]), "entry": central[-1].index}


def _federated(evidence: Evidence) -> Mapping[str, Any] | None:
    found = [e for e in evidence.evaluations if e.payload["scope"] == "federated"]
    if not found:
        return None
    values = {name: float(v) for name, v in found[-1].payload["values"].items()}
    clients = {n.removeprefix("accuracy."): v for n, v in values.items() if n.startswith("accuracy.")}
    return {
        "entry": found[-1].index,
        "accuracy": values["accuracy"],
        "error": values["accuracy_error"],
        "clients": clients,
        "n": found[-1].payload["n"],
    }


def _totals(evidence: Evidence) -> Mapping[str, Any]:
    spent = [c.epsilon_total for c in evidence.clients if c.epsilon_total is not None]
    return {
        "refusals": sum(c.outcomes.get("refused", 0) + c.outcomes.get("skipped", 0) for c in evidence.clients),
        "updates": sum(r.accepted for r in evidence.rounds),
        "void": sum(r.void for r in evidence.rounds),
        "epsilon": max(spent) if spent else None,
    }


def _withdrawal(index: int, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    took = moment(payload["effective_at"]) - moment(payload["withdrawn_at"])
    return {
        "entry": index,
        "client": payload["client"],
        "withdrawn_at": payload["withdrawn_at"],
        "seconds": took.total_seconds(),
        "round": payload["round"],
        "commitment": payload["subject_commitment"],
    }


def _excluded(evidence: Evidence) -> list[str]:
    """Return every reason for which some client left records out, in a fixed order."""
    found = {reason for client in evidence.clients for reason in client.excluded}
    return sorted(found, key=list(REASONS).index if found <= set(REASONS) else None)


def _plots(evidence: Evidence) -> list[str]:
    central = [e.payload for e in evidence.evaluations if e.payload["scope"] == "central"]
    names = sorted({name for payload in central for name in payload["values"]}, key=lambda n: (n == "loss", n))
    drawn = [
        plots.lines(
            {name: [(p["round"], float(p["values"][name])) for p in central if name in p["values"]]},
            f"{name.capitalize()} on the public test set, by round",
            "round",
            name,
        )
        for name in names
    ]
    spent = {c.client: [p for p in c.epsilon if math.isfinite(p[1])] for c in evidence.clients}
    drawn.append(
        plots.lines(
            {name: points for name, points in spent.items() if points},
            "Privacy spent by each client, as it states it (epsilon)",
            "round",
            "epsilon",
            limits=_budgets(evidence.clients),
        )
    )
    return drawn


def _budgets(clients: tuple[ClientEvidence, ...]) -> dict[str, float]:
    return {f"budget of {c.client}": c.budget for c in clients if c.budget is not None and math.isfinite(c.budget)}


def _reason(code: str) -> str:
    return REASONS.get(code, code.replace("_", " "))


def _number(value: float | str | None, digits: int = 3) -> str:
    if value is None:
        return "—"
    number = float(value)
    return "unlimited" if math.isinf(number) else f"{number:.{digits}g}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.0f} min"
