"""`fedge budget`: what a data owner has spent, how far it will reach, and the owner's decision how much there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from fedge import compose
from fedge.cli.clients import client_folders, one_client
from fedge.cli.output import Format, FormatOption, console, number, print_json
from fedge.encoding import utc_now
from fedge.errors import ConfigError
from fedge.ids import Lineage
from fedge.privacy import filter as privacy_filter
from fedge.privacy.budget import Budget, Schedule, rounds_left
from fedge.privacy.events import Event, Gaussian, NonPrivate, SampledGaussian
from fedge.privacy.ledger import Ledger
from fedge.rounds.folder import ClientFolder, RunFolder

app = typer.Typer(
    help="The privacy budget of each data set: its owner's, across runs.", no_args_is_help=True, add_completion=False
)
MOST = 100_000
"""No forecast looks further than this many rounds."""

FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A run, a client's folder, or a home of clients.")
]


@app.command(epilog="Example:  fedge budget show runs/RUN")
def show(path: FolderArgument, output: FormatOption = Format.text) -> None:
    """Show what every data set has spent under both adjacencies, and what is left."""
    now = utc_now()
    rows = [_row(name, ledger, lineage, budget, now) for name, ledger, lineage, budget in _held(path)]
    if output is Format.json:
        print_json(rows)
        return
    renewed, unfinished = any(row["period_days"] for row in rows), any(row["unfinished"] for row in rows)
    titles = {
        "spent": "spent",
        "spent_replace_one": "replace\none",
        **({"counted": "this\nperiod"} if renewed else {}),
        "budget": "budget",
        "left": "left",
    }
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("data set", overflow="fold")
    for title in (*titles.values(), "delta", "spends", *(["unfinished"] if unfinished else [])):
        table.add_column(title, justify="right")
    for row in rows:
        cells = [number(row[key]) for key in titles] + [f"{row['delta']:g}", str(row["spends"])]
        table.add_row(row["data_set"], *cells, *([str(row["unfinished"])] if unfinished else []))
    console.print(table)
    console.print(_about(rows, renewed), style="dim")


@app.command(
    epilog="Examples:\n\n  fedge budget forecast runs/RUN\n\n"
    "  fedge budget forecast CLIENT --sample-rate 0.1 --noise-multiplier 2 --steps 20"
)
def forecast(
    path: FolderArgument,
    sample_rate: Annotated[float | None, typer.Option(help="Of a round's steps; 1 for all records.")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(help="Noise of a round's steps.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a round.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """Say how many more rounds fit: at given settings, or those of each data set's last spend, or the run's recipe."""
    given, now = _given(sample_rate, noise_multiplier, steps), utc_now()
    rows = []
    for name, ledger, lineage, budget in _held(path):
        spent = ledger.spent(lineage)
        event = (replace(given, unit=budget.unit) if given else None) or (
            spent[-1] if spent else _planned(path, lineage)
        )
        if event is not None:
            rows.append(_forecast(name, ledger, lineage, budget, event, now))
    if not rows:
        raise ConfigError(
            f"nothing was spent in {path} yet and it is no run with a recipe; name the settings of a round with "
            "--sample-rate, --noise-multiplier and --steps"
        )
    if output is Format.json:
        print_json(rows)
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("data set", overflow="fold")
    table.add_column("a round")
    for title in ("rounds left", "spent then", "budget"):
        table.add_column(title, justify="right")
    for row in rows:
        left = "no limit" if row["rounds_left"] is None else str(row["rounds_left"])
        table.add_row(row["data_set"], row["a_round"], left, number(row["spent_then"]), number(row["budget"]))
    console.print(table)
    console.print(
        f"At the settings named, from now on, add/remove one {' or '.join(sorted({row['unit'] for row in rows}))}; "
        f"looked ahead {MOST} rounds.",
        style="dim",
    )


@app.command(
    "set", epilog="Example:  fedge budget set CLIENT cancer/hospital-1 --epsilon 1 --period-days 365 --total 8"
)
def set_budget(
    path: Annotated[Path, typer.Argument(metavar="CLIENT", help="One client's folder.")],
    lineage: Annotated[str, typer.Argument(metavar="DATASET", help="The data set, as `fedge budget show` names it.")],
    epsilon: Annotated[float, typer.Option(help="The most that may be spent: ever, or within a period.")],
    delta: Annotated[float, typer.Option(help="At this delta.")] = 1e-5,
    period_days: Annotated[
        int | None, typer.Option(help="Renew: only what was spent in the last so many days counts.")
    ] = None,
    total: Annotated[float, typer.Option(help="Beside a period: the most that may ever be spent.")] = math.inf,
    schedule: Annotated[
        str, typer.Option(help="fixed: settings never follow results. adaptive: they may; judged by a filter.")
    ] = "fixed",
) -> None:
    """Set the budget of one data set; what is spent stays spent, and stays in the total."""
    if schedule not in ("fixed", "adaptive"):
        raise ConfigError(f"--schedule: expected fixed or adaptive; found {schedule!r}")
    chosen: Schedule = "adaptive" if schedule == "adaptive" else "fixed"
    ledger, name, now = _ledger(one_client(path)), Lineage(lineage), utc_now()
    before = ledger.budget(name)
    try:
        period = None if period_days is None else timedelta(days=period_days)
        budget = Budget(epsilon, delta, period, total, chosen, before.unit if before else "record")
    except (ValueError, OverflowError) as error:
        raise ConfigError(str(error)) from error
    ledger.set_budget(name, budget, now)
    counted = budget.cost(ledger.counted(name, now))
    console.print(
        f"{lineage}: {number(counted)} of {epsilon:g} spent{_every(budget)} ({budget.statement.describe(delta)})",
        soft_wrap=True,
    )
    if budget.period:
        console.print(
            f"in all {number(budget.cost(ledger.spent(name)))}, of {number(total)} that may ever be spent. What leaves "
            f"the period is not forgotten: the guarantee for a {budget.unit} is the total.",
            soft_wrap=True,
            style="dim",
        )


def _held(path: Path) -> Iterator[tuple[str, Ledger, Lineage, Budget]]:
    """Yield every data set with a budget at or below `path`, with its client's name and ledger."""
    for name, folder in client_folders(path).items():
        ledger = _ledger(folder)
        for lineage in ledger.lineages():
            budget = ledger.budget(lineage)
            if budget is not None:
                yield name, ledger, lineage, budget


def _row(name: str, ledger: Ledger, lineage: Lineage, budget: Budget, now: datetime) -> dict[str, Any]:
    events, counted = ledger.spent(lineage), budget.cost(ledger.counted(lineage, now))
    spent = budget.cost(events)
    left = min(budget.epsilon - counted, budget.for_ever - spent) if math.isfinite(budget.epsilon) else math.inf
    return {
        "client": name,
        "data_set": lineage,
        "spent": spent,
        "spent_replace_one": budget.cost(events, "replace-one"),
        "spent_if_adaptive": privacy_filter.epsilon(events, budget.delta, unit=budget.unit),
        "counted": counted,
        "budget": budget.epsilon,
        "left": left,
        "delta": budget.delta,
        "period_days": budget.period.days if budget.period else None,
        "total": budget.for_ever,
        "schedule": budget.schedule,
        "unit": budget.unit,
        "accountant": budget.statement.accountant,
        "spends": len(events),
        "unfinished": sum(r.lineage == lineage for r in ledger.unfinished()),
    }


def _forecast(
    name: str, ledger: Ledger, lineage: Lineage, budget: Budget, event: Event, now: datetime
) -> dict[str, Any]:
    spent, recent = ledger.spent(lineage), ledger.counted(lineage, now) if budget.period else None
    left = rounds_left(budget, spent, event, MOST, recent) if math.isfinite(budget.epsilon) else None
    return {
        "client": name,
        "data_set": lineage,
        "a_round": _named(event),
        "unit": budget.unit,
        "rounds_left": left,
        "spent_then": None if left is None else budget.cost([*spent, *[event] * left]),
        "budget": budget.epsilon,
        "delta": budget.delta,
    }


def _given(sample_rate: float | None, noise_multiplier: float | None, steps: int | None) -> SampledGaussian | None:
    """Return the event that the options name, None if they name none. Raises ConfigError for half of one."""
    if sample_rate is None and noise_multiplier is None and steps is None:
        return None
    if noise_multiplier is None or steps is None:
        raise ConfigError("a round's settings are --noise-multiplier, --steps and (1 if left out) --sample-rate")
    try:
        return SampledGaussian(1.0 if sample_rate is None else sample_rate, noise_multiplier, steps)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _planned(path: Path, lineage: Lineage) -> Event | None:
    """Return what one round of the run in `path` does to `lineage`, None if it is no run's folder."""
    from fedge.calibration import recipe_of  # here: only this question needs torch
    from fedge.learning.recipe import event

    file = RunFolder(path).config_yaml
    if not file.is_file() or lineage.endswith("/evaluation"):
        return None
    return event(recipe_of(compose.from_yaml(file.read_text(encoding="utf-8"))))


def _named(event: Event) -> str:
    match event:
        case SampledGaussian(sample_rate, noise, steps):
            return f"{steps} steps, rate {sample_rate:g}, noise {noise:g}"
        case Gaussian(noise, steps):
            return f"{steps} on {'the whole client' if event.unit == 'client' else 'all records'}, noise {noise:g}"
        case NonPrivate():
            return "no noise"


def _every(budget: Budget) -> str:
    return f" in the last {budget.period.days} days" if budget.period else ""


def _about(rows: Sequence[Mapping[str, Any]], renewed: bool) -> str:
    """Return the words that belong beside the numbers."""
    accountants = " and ".join(sorted({row["accountant"] for row in rows}))
    unit = " or ".join(sorted({row["unit"] for row in rows}))
    said = (
        f"Epsilon for one {unit} at the delta named, by {accountants}. Spent, budget and left: a {unit} more or less "
        f"(add/remove). Replace-one: another {unit} in its place, the same spends. An unfinished spend (a crash, or a "
        "job going on) counts as spent."
    )
    return said + (" What has left the period still counts as spent: the total is what composes." if renewed else "")


def _ledger(folder: ClientFolder) -> Ledger:
    return Ledger(folder.journal("spends"))
