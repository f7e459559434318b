"""The report's tables as CSV, for people who count in spreadsheets: `data_use`, `ropa`, `withdrawals`, `events`.

Rows come one after the other, straight from the entries, so that a log of any length takes no more memory. Every cell
passes `visible.csv_cell`: what a client wrote is never carried out as a formula. Column names are the same in all
languages; the name of the last column, which is empty, carries the digest of `report.json`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fedge.audit.leaves import EVENTS
from fedge.audit.verify import Entry
from fedge.reports.document.gdpr import ropa_rows
from fedge.reports.document.say import Say
from fedge.reports.evidence import Scope
from fedge.reports.visible import csv_cell
from fedge.reports.words import words

Row = dict[str, Any]
Report = Mapping[str, Any]
Logs = Sequence[Sequence[Entry]]

DATA_USE = (
    "run", "entry", "at", "client", "dataset", "dataset_version", "work", "round", "attempt", "purpose", "legal_bases",
    "outcome", "reason", "eligible", "used", "excluded", "snapshot_digest", "policy_digest", "mechanism", "unit",
    "epsilon_round", "epsilon_total", "budget_epsilon", "delta", "secure_aggregation", "model_in", "update", "code",
)  # fmt: skip
ROPA = ("run", "client", "controller", "purposes", "legal_bases", "dataset", "subjects", "recipients", "transfers",
        "erasure", "measures", "entries")  # fmt: skip
WITHDRAWALS = ("run", "entries", "kind", "client", "asked_at", "effective_at", "milliseconds", "round", "commitment",
               "models", "models_from", "models_to")  # fmt: skip
EVENTS_COLUMNS = ("run", "entry", "at", "event", "aims", "signer", "client", "round", "outcome", "reason")


def data_use(report: Report, logs: Logs) -> Iterator[Row]:
    """Yield every use of data, and every refusal to use any, as its client stated it."""
    for run, entry in _entries(report, logs):
        if entry.event == "data_use":
            yield {"run": run["name"], "entry": entry.index} | _use(entry.payload)


def _use(said: Mapping[str, Any]) -> Row:
    privacy, counts = said["privacy"], said["counts"]
    named = {name: said[name] for name in ("at", "client", "work", "round", "attempt", "purpose", "outcome", "reason")}
    spent = {
        name: privacy[name]
        for name in ("mechanism", "unit", "epsilon_round", "epsilon_total", "budget_epsilon", "delta")
    }
    return {
        **named,
        **spent,
        "dataset": said["dataset"]["lineage"],
        "dataset_version": said["dataset"]["version"],
        "legal_bases": " ".join(said["legal_bases"]),
        "eligible": counts["eligible"],
        "used": counts["used"],
        "excluded": " ".join(f"{reason}:{n}" for reason, n in counts["excluded"].items()),
        "snapshot_digest": said["permission"]["snapshot_digest"],
        "policy_digest": said["permission"]["policy_digest"],
        "secure_aggregation": str(said["secure_aggregation"]).lower(),
        "model_in": said["model_in"],
        "update": said["update"],
        "code": said["digests"]["code"],
    }


def ropa(report: Report, _logs: Logs) -> Iterator[Row]:
    """Yield the rows for each controller's record of processing (GDPR, Art. 30)."""
    for index, run in enumerate(report["runs"]):
        yield from ({"run": run["name"]} | row for row in ropa_rows(Say(words(report["language"]), run, index)))


def withdrawals(report: Report, _logs: Logs) -> Iterator[Row]:
    """Yield every withdrawal and erasure, with its time to effect."""
    for run in report["runs"]:
        yield from ({"run": run["name"]} | act for act in run["acts"])


def events(report: Report, logs: Logs) -> Iterator[Row]:
    """Yield every entry, with the aims of Art. 12(2) that it serves."""
    for run, entry in _entries(report, logs):
        said = entry.payload
        yield {
            "run": run["name"],
            "entry": entry.index,
            "event": entry.event,
            "aims": " ".join(EVENTS[entry.event].aims),
            "signer": entry.signer,
            "reason": said.get("kind") or said.get("reason"),
            **{name: said.get(name) for name in ("at", "client", "round", "outcome")},
        }


TABLES: Mapping[str, tuple[Sequence[str], Callable[[Report, Logs], Iterator[Row]]]] = {
    "data_use.csv": (DATA_USE, data_use),
    "ropa.csv": (ROPA, ropa),
    "withdrawals.csv": (WITHDRAWALS, withdrawals),
    "events.csv": (EVENTS_COLUMNS, events),
}


def lines(name: str, report: Report, digest: str, logs: Logs) -> Iterator[str]:
    """Yield the lines of table `name`, the heads first; `digest` is that of the report's canonical bytes."""
    columns, rows = TABLES[name]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180
    writer.writerow([*columns, f"report.json {digest}"])
    for row in rows(report, logs):
        writer.writerow([*(csv_cell(row[c]) for c in columns), ""])
        yield _taken(text)
    yield _taken(text)


def _taken(text: io.StringIO) -> str:
    """Return what was written, and forget it."""
    written = text.getvalue()
    text.seek(0)
    text.truncate()
    return written


def _entries(report: Report, logs: Logs) -> Iterator[tuple[Mapping[str, Any], Entry]]:
    asked = report["scope"]
    scope = Scope(asked["client"], asked["since"], asked["until"])
    for run, entries in zip(report["runs"], logs, strict=True):
        yield from ((run, entry) for entry in entries if scope.covers(entry))
