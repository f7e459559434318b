"""`fedge report diff`: what changed between two reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from fedge.cli.entries import PIPED
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.cli.report.reading import report_in
from fedge.errors import AuditError
from fedge.reports.diff import changes
from fedge.reports.visible import visible

ReportArgument = Annotated[Path, typer.Argument(metavar="REPORT", help="A report.json, a pack, or a run.")]


def diff_command(before: ReportArgument, after: ReportArgument, output: FormatOption = Format.text) -> None:
    """List what changed: participants, purposes, budgets, code, policies. Exit code as `diff`: 0 none, 1 some, else
    trouble.

    What may be a substantial modification (Regulation (EU) 2024/1689, Art. 3(23)) is flagged; people decide if it is.
    """
    found = changes(_readable(before), _readable(after))
    if output is Format.json:
        members = ("kind", "where", "what", "before", "after", "substantial")
        print_json([{name: getattr(c, name) for name in members} for c in found])
    elif found:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("kind", "where", "what", "before", "after", "possible substantial modification"):
            table.add_column(name, overflow="fold")
        for c in found:
            cells = [escape(visible(text)) for text in (c.kind, c.where, c.what, _short(c.before), _short(c.after))]
            table.add_row(*cells, "[bold yellow]yes[/]" if c.substantial else "")
        console.print(table, width=None if console.is_terminal else PIPED)
    if output is Format.text:
        flagged = sum(c.substantial for c in found)
        console.print(f"{len(found)} changes, {flagged} of them possibly a substantial modification: people decide")
    if found:
        raise typer.Exit(1)


def _readable(path: Path) -> dict[str, Any]:
    """Return the report in `path`. Raises AuditError if its log could not even be opened: everything would differ."""
    found = report_in(path)
    if unread := [run["name"] for run in found["runs"] if run["run"]["run"]["value"] is None]:
        raise AuditError(f"the log of {unread[0]} cannot be read, nothing can be compared; see: fedge audit verify")
    return found


def _short(text: str) -> str:
    return f"{text[:19]}…" if text.startswith("sha256:") else text
