"""`fedge audit`: check a run's log with public keys alone, and read its entries."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from fedge.audit.verify import LIMITS, Unproven, Verification, since, verify_run
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.encoding import utc_now
from fedge.errors import AuditError, ConfigError

app = typer.Typer(help="Check a run's log with public keys alone.", no_args_is_help=True)
STYLE = {"PROVEN": "green", "ATTESTED": "cyan", "DECLARED": "magenta", "MISSING": "yellow", "FAILED": "bold red"}
SHORT = " What is MISSING above was not shown to you."
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]


@app.command(epilog="Example:  fedge audit verify runs/RUN --policy policy.txt --not-older-than 24h")
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder of a run, or its public part.")],
    policy: Annotated[Path | None, typer.Option(help="A policy file that reached you by another way.")] = None,
    expect_run: Annotated[str | None, typer.Option(metavar="RUN", help="Fail unless the log is of this run.")] = None,
    not_older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fail unless witnesses vouched since: 24h, 7d, or a time.")
    ] = None,
    output: FormatOption = Format.text,
) -> None:
    """Check every entry, signature, receipt, the model and the configuration. Exit code 0 if nothing failed, else 7.

    The same as one file that runs without fedge: python fedge/audit/verify.py BUNDLE.
    """
    found = verify_run(bundle, policy, expect_run=expect_run, not_older_than=_since(not_older_than))
    if output is Format.json:
        print_json(found.plain)
    else:
        _print(found)
    if not found.holds:
        raise AuditError(f"{bundle} does not hold: {found.failures}")


def _since(text: str | None) -> datetime | None:
    try:
        return since(text, utc_now()) if text else None
    except Unproven as error:
        raise ConfigError(f"--not-older-than: {error}") from error


@app.command()
def show(run: RunArgument, output: FormatOption = Format.text) -> None:
    """List the entries of a log that holds."""
    found = verify_run(run)
    if not found.entries:
        raise AuditError(f"the entries of {run} cannot be read; see: fedge audit verify {run}")
    if output is Format.json:
        print_json([{"index": e.index, "event": e.event, "signer": e.signer, **e.payload} for e in found.entries])
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("entry", "event", "signed by", "time", "round", "outcome"):
        table.add_column(name)
    for e in found.entries:
        said = " ".join(str(e.payload[k]) for k in ("outcome", "reason") if e.payload.get(k))
        table.add_row(str(e.index), e.event, e.signer, e.payload["at"], str(e.payload.get("round", "")), said)
    console.print(table)


def _print(found: Verification) -> None:
    for check in found.checks:
        style = STYLE[check.grade]
        console.print(f"[{style}]{check.grade:<8}[/] {check.name}: {escape(check.text)}", soft_wrap=True)
    console.print("\nWhat no log can prove:")
    for limit in LIMITS:
        console.print(f"  - {limit}", style="dim", soft_wrap=True)
    if found.holds:
        console.print("\n[bold green]The log holds.[/]" + (SHORT if found.verdict == "MISSING" else ""))
