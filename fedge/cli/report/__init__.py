"""`fedge report`: what a verified log says, for people who do not read logs."""

from __future__ import annotations

import typer

from fedge.cli.lazy import Lazy, group

SERVE_EXAMPLES = """Examples:

  fedge report serve runs/RUN
  fedge report serve runs pack.zip --policy policy.txt
  fedge report serve runs --port 0
"""
COMMANDS = {
    "build": Lazy(
        "fedge.cli.report.build",
        "build_command",
        "Write the report of a run, from its log alone.",
        "Example:  fedge report build runs/RUN",
    ),
    "serve": Lazy(
        "fedge.cli.report.serve",
        "serve_command",
        "Look around in checked bundles in a browser: search, proofs, clients, rounds, receipts.",
        SERVE_EXAMPLES,
    ),
}
app = typer.Typer(cls=group(COMMANDS), no_args_is_help=True, add_completion=False)


@app.callback()
def report() -> None:
    """Make reports of verified logs, check them, and compare them."""
