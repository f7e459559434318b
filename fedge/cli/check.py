"""`fedge check`: what must hold after any crash."""

from __future__ import annotations

from fedge.check import check_house
from fedge.cli.entries import RunArgument
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.errors import AuditError


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
