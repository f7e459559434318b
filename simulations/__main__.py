"""Play every scenario and print a table: `python -m simulations [NAME ...]`; exit code 1 if a claim does not hold."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from simulations import budget_exhausted, consent_withdrawn, healthy, nobody_permits, old_log_restored
from simulations.scenario import Scenario

SCENARIOS = {
    module.SCENARIO.name: module.SCENARIO
    for module in (healthy, consent_withdrawn, budget_exhausted, nobody_permits, old_log_restored)
}


def main(names: Sequence[str]) -> int:
    """Play the scenarios of these names, all by default; return the exit code."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"there is no scenario {unknown[0]!r}; known: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # of libraries, about libraries
    console, table = Console(), Table(box=box.SIMPLE_HEAD)
    for column in ("scenario", "claim", "holds"):
        table.add_column(column)
    results = [_play(SCENARIOS[name], console, table) for name in names or SCENARIOS]
    console.print(table)
    return 0 if all(results) else 1


def _play(scenario: Scenario, console: Console, table: Table) -> bool:
    console.print(f"[bold]{scenario.name}[/]: {scenario.story}")
    with tempfile.TemporaryDirectory() as out:
        claims = scenario.play(Path(out))
    for place, claim in enumerate(claims):
        table.add_row("" if place else scenario.name, claim.text, "[green]yes[/]" if claim.holds else "[bold red]NO[/]")
    return all(claim.holds for claim in claims)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
