"""`fedge report` and `fedge check`."""

from __future__ import annotations

from fedge.audit.verify import verify_run
from fedge.check import check_house
from fedge.cli.entries import RunArgument
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.errors import AuditError
from fedge.reports.render import write_report
from fedge.rounds.folder import RunFolder


def report_command(run: RunArgument) -> None:
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


def check_command(run: RunArgument, output: FormatOption = Format.text) -> None:
    """Check what must hold after any crash.

    No refund, no fork, nothing released that is not in the log. Exit code 7 if a promise is broken.
    """
    promises = check_house(run)
    if output is Format.json:
        print_json([{"promise": p.name, "kept": p.kept, "text": p.text} for p in promises])
    else:
        for promise in promises:
            mark = "[green]kept  [/]" if promise.kept else "[bold red]BROKEN[/]"
            console.print(f"{mark} {promise.name}: {promise.text}", soft_wrap=True)
    if not all(p.kept for p in promises):
        raise AuditError(f"{run} breaks a promise; see above")
