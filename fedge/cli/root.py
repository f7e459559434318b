"""All commands under one roof."""

from __future__ import annotations

from typing import Annotated

import typer

from fedge import __version__
from fedge.cli.lazy import SETTINGS, Lazy, group

RUN_EXAMPLES = """Examples:

  fedge run
  fedge run task=digits privacy.epsilon=4 strategy=fedadam rounds=20
  fedge run task=heart task.folder=PATH
  fedge run --multirun seed=1,2,3 privacy.epsilon=1,4
  fedge run --cfg job task=digits
  fedge run resume=runs/RUN
"""

UNLEARN_EXAMPLES = """Examples:

  fedge unlearn runs/RUN --client hospital-1 --subject p-0123456789abcdef --exact
  fedge unlearn runs/RUN --client hospital-1 --erasure sha256:… --exact
"""

COMMANDS = {
    "run": Lazy(
        "fedge.cli.run",
        "run_command",
        "Run federated learning, or go on with a stopped run (resume=FOLDER).",
        RUN_EXAMPLES,
    ),
    "demo": Lazy(
        "fedge.cli.demo",
        "demo_command",
        "Five hospitals train one model on real patients, privately, under permissions, with a log.",
    ),
    "audit": Lazy(
        "fedge.cli.audit", "app", "Check a run's log with public keys alone, read it, and make evidence of it."
    ),
    "budget": Lazy("fedge.cli.budget", "app", "The privacy budget of each data set: its owner's, across runs."),
    "privacy": Lazy("fedge.cli.privacy", "app", "Find unsound privacy claims, and compute what mechanisms cost."),
    "consent": Lazy("fedge.cli.consent", "app", "Permissions of the people whose records a client holds."),
    "approve": Lazy(
        "fedge.cli.approve",
        "approve_command",
        "Approve the records that a client was found to hold, after showing how many were added, changed or are gone.",
        "Example:  fedge approve runs/RUN/clients/hospital-1 --show",
    ),
    "keys": Lazy("fedge.cli.keys", "app", "Keys of clients and servers: show, change, protect, revoke."),
    "lineage": Lazy("fedge.cli.lineage", "app", "Which rounds and models a person's records went into."),
    "unlearn": Lazy(
        "fedge.cli.unlearn",
        "unlearn_command",
        "Train again without one person, from the last state that they had no part in.",
        UNLEARN_EXAMPLES,
    ),
    "receipt": Lazy(
        "fedge.cli.receipt",
        "receipt_command",
        "Write a person's receipt: a page in plain words, and a proof for each use, that anybody can check offline.",
        "Example:  fedge receipt runs/RUN --client hospital-1 --subject p-0123456789abcdef --out receipt",
    ),
    "report": Lazy("fedge.cli.report", "app", "Make reports of verified logs, check them, and compare them."),
    "check": Lazy("fedge.cli.check", "check_command", "Check what must hold after any crash."),
}

app = typer.Typer(
    name="fedge",
    cls=group(COMMANDS),
    help="Privacy-first federated learning: permission per record, a budget the client owns, a log nobody rewrites.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """Privacy-first federated learning."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
