"""One check of one bundle: the verifier's verdict, the evidence in what holds, and the index of all entries.

It takes the memory and the time that the log asks for, once; what it returns is small, plain, and can be sent from one
process to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fedge.audit import verify
from fedge.audit.verify import Entry, Unproven, Verification, verify_run
from fedge.reports.bundle import Bundle
from fedge.reports.evidence import Evidence, gather
from fedge.reports.judged import Judged
from fedge.reports.report import EVERYTHING, run_report
from fedge.reports.salvage import Item, items
from fedge.reports.viewer import index


@dataclass(frozen=True)
class Checked:
    """What a check has found. `verification` is without entries: they are in the index at `path`.

    `checkpoint` is the text of the signed checkpoint, "" if the log's files do not hold. `policy` is the text of the
    auditor's policy file, or of the log's own; `witnesses` are the keys of all that the log ever enrolled. `report` is
    what a report says of the run, to be compared with that of another.
    """

    verification: Verification
    evidence: Evidence
    report: Mapping[str, Any]
    entries: int
    counts: Mapping[str, int]
    faults: int
    checkpoint: str
    policy: str
    witnesses: tuple[str, ...]
    path: Path
    at: datetime
    seconds: float = 0.0


def check(bundle: Bundle, policy: Path | None, path: Path, at: datetime) -> Checked:
    """Return what a check of `bundle` finds, begun at `at`; its index goes to the new file `path`.

    Raises OSError or sqlite3.Error if the index cannot be written, MemoryError if the log is too large.
    """
    root, intact = bundle.root, list[Entry]()
    found = verify_run(root, policy)
    log = _log(root, found)
    count = index.build(path, _kept(items(root, found), intact), log.tree if log else None)
    with index.Index.open(path) as asked:
        counts, faults = asked.counts(), asked.faults()
    return Checked(
        verification=replace(found, entries=()),
        evidence=gather(intact),
        report=_compared(run_report(Judged(bundle.name, found, intact), EVERYTHING)),
        entries=count,
        counts=counts,
        faults=faults,
        checkpoint=(root / "audit" / "checkpoint").read_text(encoding="utf-8") if log else "",
        policy=policy.read_text(encoding="utf-8") if policy else log.policy.text if log else "",
        witnesses=tuple(e.payload["witness_key"] for e in intact if e.event == "client_enrol"),
        path=path,
        at=at,
    )


def _kept(stream: Iterable[Item], intact: list[Entry]) -> Iterable[Item]:
    """Pass items on, keeping the entries that nothing speaks against."""
    for item in stream:
        if item.entry is not None and item.fault is None:
            intact.append(item.entry)
        yield item


def _log(root: Path, found: Verification) -> verify.Log | None:
    """Return the log's files if they hold, and hold what the verifier has seen."""
    try:
        log = verify.read_log(root / "audit")
    except Unproven:
        return None
    return log if log.checkpoint.root.hex() == found.root else None


def _compared(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of a run's report is compared with another: not what grows with the log."""
    return {part: report[part] for part in ("name", "run", "privacy", "clients")}
