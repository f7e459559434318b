"""The report of one run as `report.html`: what stands in a run's folder when it has ended."""

from __future__ import annotations

from collections.abc import Sequence

from fedge.audit.verify import Verification
from fedge.encoding import canonical, digest
from fedge.files import write_atomically
from fedge.reports.document import document
from fedge.reports.html import html
from fedge.reports.judged import Judged
from fedge.reports.report import Request, report
from fedge.rounds.folder import RunFolder


def write_report(folder: RunFolder, verification: Verification, request: Request) -> None:
    """Write `report.html` for the run in `folder`, from what `verification` has accepted."""
    found = Judged(folder.root.resolve().name, verification, verification.entries)
    write_atomically(folder.report, render([found], request).encode())


def render(runs: Sequence[Judged], request: Request) -> str:
    """Return the report of `runs` as HTML; every string from a log is escaped."""
    plain = report(runs, request)
    return html(document(plain, digest(canonical(plain)), [run.entries for run in runs]))
