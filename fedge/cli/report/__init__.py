"""`fedge report`: what a verified log says, for people who do not read logs."""

from __future__ import annotations

import typer

from fedge.cli.lazy import Lazy, group

SERVE_EXAMPLES = """Examples:

  fedge report serve runs/RUN

  fedge report serve runs pack.zip --policy policy.txt

  fedge report serve runs --port 0  (on any free port)
"""
BUILD_EXAMPLES = """Examples:

  fedge report build runs/RUN
  fedge report build runs/RUN --client hospital-1 --language de
  fedge report build runs/RUN-1 runs/RUN-2 --from 7d --out quarter
  fedge report build public.zip --policy policy.txt --key auditor.key --out checked
"""

COMMANDS = {
    "build": Lazy(
        "fedge.cli.report.build",
        "build_command",
        "Write the report of runs from their logs alone: JSON, HTML, PDF, CSV, and one ZIP to hand over.",
        BUILD_EXAMPLES,
    ),
    "check": Lazy(
        "fedge.cli.report.check",
        "check_command",
        "Resolve every reference in the log, and find every number that was edited, in any form.",
        "Example:  fedge report check runs/RUN/report/pack.zip --policy policy.txt",
    ),
    "diff": Lazy(
        "fedge.cli.report.diff",
        "diff_command",
        "List what changed between two reports; what may be a substantial modification is flagged.",
        "Example:  fedge report diff runs/RUN-1 runs/RUN-2",
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
