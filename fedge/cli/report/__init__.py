"""`fedge report`: what a verified log says, for people who do not read logs."""

from __future__ import annotations

import typer

from fedge.cli.lazy import Lazy, group

COMMANDS = {
    "build": Lazy(
        "fedge.cli.report.build",
        "build_command",
        "Write the report of a run, from its log alone.",
        "Example:  fedge report build runs/RUN",
    ),
}
app = typer.Typer(cls=group(COMMANDS), no_args_is_help=True, add_completion=False)


@app.callback()
def report() -> None:
    """Make reports of verified logs, check them, and compare them."""
