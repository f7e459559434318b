"""`fedge audit`: check a run's log with public keys alone, and read its entries."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fedge.audit.verify import LIMITS, Unproven, Verification, since, verify_run
from fedge.cli.lazy import Lazy, group
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.encoding import utc_now
from fedge.errors import AuditError, ConfigError

COMMANDS = {
    "verify": Lazy(
        "fedge.cli.audit",
        "verify",
        "Check every entry, signature, receipt, the model and the configuration.",
        "Example:  fedge audit verify runs/RUN --policy policy.txt --not-older-than 24h",
    ),
    "show": Lazy(
        "fedge.cli.entries",
        "show",
        "List the entries of a log; exit code 7 if they cannot be read.",
        "Example:  fedge audit show runs/RUN --client hospital-1 --event data_use --since 24h",
    ),
    "uses": Lazy(
        "fedge.cli.entries",
        "uses",
        "List every use of data, as the client that holds it has stated it; a refused order is listed too.",
        "Example:  fedge audit uses runs/* --dataset cancer/hospital-1",
    ),
    "schema": Lazy(
        "fedge.cli.entries",
        "schema",
        "Print the JSON Schema of an entry's type, or list all types.",
        "Example:  fedge audit schema data_use",
    ),
    "prove": Lazy(
        "fedge.cli.evidence",
        "prove",
        "Make the proof that an entry is in the log: one .tlog-proof with the entry and the cosigned checkpoint.",
        "Example:  fedge audit prove runs/RUN 7 --out entry.tlog-proof",
    ),
    "receipt": Lazy(
        "fedge.cli.evidence",
        "receipt",
        "Check one receipt by itself: that its entry is in the log, and who vouches for that.",
        "Example:  fedge audit receipt entry.tlog-proof --policy policy.txt",
    ),
    "reconcile": Lazy(
        "fedge.cli.evidence",
        "reconcile",
        "Compare the log with the clients' own records; name what was dropped, forked, hidden.",
        "Example:  fedge audit reconcile runs/RUN",
    ),
    "findings": Lazy(
        "fedge.cli.evidence",
        "findings",
        "List what clients have found against a server's log, with what became of it.",
        "Example:  fedge audit findings runs/RUN",
    ),
    "trust-again": Lazy(
        "fedge.cli.evidence",
        "trust_again",
        "Let a client work again for a log it has found false.",
        "Example:  fedge audit trust-again runs/RUN/clients/hospital-1 RUN --because 'database restored'",
    ),
    "export": Lazy(
        "fedge.cli.evidence",
        "export",
        "Write what anybody may see of a run, ready to be served and checked: log, receipts, keys, verifier, README.",
        "Example:  fedge audit export runs/RUN public.zip --zip",
    ),
}
app = typer.Typer(cls=group(COMMANDS), no_args_is_help=True, add_completion=False)
STYLE = {"PROVEN": "green", "ATTESTED": "cyan", "DECLARED": "magenta", "MISSING": "yellow", "FAILED": "bold red"}
SHORT = " What is MISSING above was not shown to you."


@app.callback()
def audit() -> None:
    """Check a run's log with public keys alone, read it, and make evidence of it."""


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


def _print(found: Verification) -> None:
    for check in found.checks:
        style = STYLE[check.grade]
        console.print(f"[{style}]{check.grade:<8}[/] {check.name}: {escape(check.text)}", soft_wrap=True)
    console.print("\nWhat no log can prove:")
    for limit in LIMITS:
        console.print(f"  - {limit}", style="dim", soft_wrap=True)
    if found.holds:
        console.print("\n[bold green]The log holds.[/]" + (SHORT if found.verdict == "MISSING" else ""))
