"""`fedge audit`: check a run's log with public keys alone, and read its entries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from fedge.audit.verify import LIMITS, Verification, verify_run
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.errors import AuditError

app = typer.Typer(help="Check a run's log with public keys alone.", no_args_is_help=True)
STYLE = {"PROVEN": "green", "ATTESTED": "cyan", "MISSING": "yellow", "FAILED": "bold red"}
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]


@app.command(epilog="Example:  fedge audit verify runs/RUN --trust policy.txt")
def verify(
    run: RunArgument,
    trust: Annotated[Path | None, typer.Option(help="A policy file that reached you by another way.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """Check every entry, signature, receipt, the model and the configuration. Exit code 0 if all hold, else 7."""
    found = verify_run(run, trust)
    if output is Format.json:
        print_json(_plain(found))
    else:
        _print(found)
    if not found.holds:
        failed = [c for c in found.checks if c.grade == "FAILED"]
        raise AuditError(f"{run} does not hold: " + "; ".join(f"{c.name}: {c.text}" for c in failed))


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
        console.print(f"[{style}]{check.grade:<8}[/] {check.name}: {check.text}", soft_wrap=True)
    console.print("\nWhat no log can prove:")
    for limit in LIMITS:
        console.print(f"  - {limit}", style="dim", soft_wrap=True)
    if found.holds:
        console.print("\n[bold green]The log holds.[/]")


def _plain(found: Verification) -> dict[str, object]:
    return {
        "holds": found.holds,
        "entries": found.size,
        "root": found.root,
        "cosigned_by": list(found.cosigned_by),
        "quorum": found.quorum,
        "checks": [{"name": c.name, "grade": c.grade, "text": c.text} for c in found.checks],
    }
