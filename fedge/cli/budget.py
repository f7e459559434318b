"""`fedge budget`: what a data owner has spent, and the owner's decision how much there is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from fedge.cli.clients import client_folders, one_client
from fedge.cli.output import Format, FormatOption, console, number, print_json
from fedge.encoding import utc_now
from fedge.errors import ConfigError
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy.accountant import STATEMENT
from fedge.privacy.budget import Budget
from fedge.privacy.ledger import Ledger
from fedge.rounds.folder import ClientFolder

app = typer.Typer(
    help="The privacy budget of each data set: its owner's, across runs.", no_args_is_help=True, add_completion=False
)


@app.command(epilog="Example:  fedge budget show runs/RUN")
def show(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run, a client's folder, or a home of clients.")],
    output: FormatOption = Format.text,
) -> None:
    """Show what every data set has spent, and what is left."""
    rows = [row for name, folder in client_folders(path).items() for row in _rows(name, folder)]
    if output is Format.json:
        print_json(rows)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("data set", "spent", "budget", "left", "delta", "spends", "unfinished"):
        table.add_column(name, justify="left" if name == "data set" else "right")
    for row in rows:
        numbers = [number(row[key]) for key in ("spent", "budget", "left")]
        table.add_row(row["data_set"], *numbers, f"{row['delta']:g}", str(row["spends"]), str(row["unfinished"]))
    console.print(table)
    console.print(
        f"Epsilon, {STATEMENT.unit}-level, {STATEMENT.adjacency} one record, {STATEMENT.accountant}. "
        "An unfinished spend (a crash, or a job going on) counts as spent.",
        style="dim",
    )


@app.command("set", epilog="Example:  fedge budget set runs/RUN/clients/hospital-1 cancer/hospital-1 --epsilon 8")
def set_budget(
    path: Annotated[Path, typer.Argument(metavar="CLIENT", help="One client's folder.")],
    lineage: Annotated[str, typer.Argument(metavar="DATASET", help="The data set, as `fedge budget show` names it.")],
    epsilon: Annotated[float, typer.Option(help="The most that may ever be spent.")],
    delta: Annotated[float, typer.Option(help="At this delta.")] = 1e-5,
) -> None:
    """Set the budget of one data set; what is spent stays spent."""
    if math.isnan(epsilon) or epsilon <= 0 or not 0 < delta < 1:
        raise ConfigError("a budget has epsilon above 0 and delta in (0, 1)")
    ledger = _ledger(one_client(path))
    ledger.set_budget(Lineage(lineage), Budget(epsilon, delta), utc_now())
    console.print(
        f"{lineage}: {number(ledger.epsilon(Lineage(lineage), delta))} of {epsilon:g} spent at delta {delta:g}"
    )


def _rows(name: str, folder: ClientFolder) -> list[dict[str, Any]]:
    ledger = _ledger(folder)
    unfinished = ledger.unfinished()
    rows = []
    for lineage in ledger.lineages():
        budget = ledger.budget(lineage)
        if budget is None:
            continue
        spent = ledger.epsilon(lineage, budget.delta)
        left = budget.epsilon - spent if math.isfinite(budget.epsilon) else math.inf
        rows.append(
            {
                "client": name,
                "data_set": lineage,
                "spent": spent,
                "budget": budget.epsilon,
                "left": left,
                "delta": budget.delta,
                "spends": len(ledger.spent(lineage)),
                "unfinished": sum(r.lineage == lineage for r in unfinished),
            }
        )
    return rows


def _ledger(folder: ClientFolder) -> Ledger:
    return Ledger(SqliteJournal(folder.ledger, "spends"))
