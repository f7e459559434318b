"""`fedge report build`: write the report of a run, from its log alone."""

from __future__ import annotations

from fedge.audit.verify import verify_run
from fedge.cli.entries import RunArgument
from fedge.cli.output import console
from fedge.errors import AuditError
from fedge.reports.render import write_report
from fedge.rounds.folder import RunFolder


def build_command(run: RunArgument) -> None:
    """Write the report of a run anew, from its log alone.

    Exit code 7 if the log does not hold; the report says why.
    """
    if not (run / "audit").is_dir():
        raise AuditError(f"{run} holds no audit/ folder: name the folder of a run")
    found = verify_run(run)
    write_report(RunFolder(run), found)
    console.print(str(RunFolder(run).report), soft_wrap=True)
    if not found.holds:
        raise AuditError(f"the log of {run} does not hold; the report says so, and why")
