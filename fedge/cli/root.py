"""All commands under one roof."""

from __future__ import annotations

from typing import Annotated

import typer

from fedge import __version__
from fedge.cli import approve, audit, budget, consent, erase, keys, report, run

app = typer.Typer(
    name="fedge",
    help="Privacy-first federated learning: permission per record, a budget the client owns, a log nobody rewrites.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """Privacy-first federated learning."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command("run", epilog=run.RUN_EXAMPLES)(run.run_command)
app.command("demo")(run.demo_command)
app.add_typer(audit.app, name="audit")
app.add_typer(budget.app, name="budget")
consent.app.command(
    "erase", epilog="Example:  fedge consent erase runs/RUN/clients/hospital-1 patient-00042 --identifier"
)(erase.erase_command)
app.add_typer(consent.app, name="consent")
app.command("approve", epilog="Example:  fedge approve runs/RUN/clients/hospital-1 --show")(approve.approve_command)
app.add_typer(keys.app, name="keys")
app.command("report")(report.report_command)
app.command("check")(report.check_command)
