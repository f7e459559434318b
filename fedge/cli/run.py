"""`fedge run`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from fedge import compose, results, running
from fedge.cli.live import LiveTable
from fedge.cli.output import Format, FormatOption, console, number, print_json
from fedge.errors import AuditError, ConfigError
from fedge.privacy.accountant import STATEMENT
from fedge.rounds.folder import RunFolder
from fedge.running import Result


def run_command(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the configuration in conf/.")
    ] = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Run every combination of a=1,2 b=x,y.")] = False,
    cfg: Annotated[str | None, typer.Option(metavar="job", help="Print the configuration and leave.")] = None,
    output: FormatOption = Format.text,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what the run has come to.")] = False,
) -> None:
    """Run federated learning, or go on with a stopped run (resume=FOLDER)."""
    given = list(overrides or [])
    if cfg is not None:
        _print_config(cfg, given)
        return
    if not multirun:
        print_results([_one(given, output, quiet)], output)
        return
    points = compose.sweep(given)
    finished = []
    for place, point in enumerate(points, start=1):
        if output is Format.text:
            console.print(f"[bold]run {place} of {len(points)}:[/] {' '.join(point)}")
        finished.append((point, _one(list(point), output, quiet)))
    _sweep_report(finished, output)


def _one(overrides: list[str], output: Format, quiet: bool) -> Result:
    resumed = [o.partition("=")[2] for o in overrides if o.startswith("resume=")]
    others = [o for o in overrides if not o.startswith("resume=")]
    if resumed and others:
        raise ConfigError(f"resume= goes on with the configuration of that run; it takes no {others[0]!r} beside it")
    table = None if quiet or output is Format.json else LiveTable(console)
    with table or nullcontext():
        watch = table.watch() if table else None
        return running.resume(Path(resumed[0]), watch=watch) if resumed else running.run(*others, watch=watch)


def _print_config(cfg: str, overrides: list[str]) -> None:
    if cfg != "job":
        raise ConfigError(f"--cfg: expected job; found {cfg!r}")
    typer.echo(compose.to_yaml(compose.compose(overrides)), nl=False)


def print_results(finished: list[Result], output: Format = Format.text) -> None:
    """Print what runs have come to. Raises AuditError if a log does not hold."""
    for result in finished:
        summary = results.read_json(RunFolder(result.folder).summary)
        if output is Format.json:
            print_json(summary | {"folder": str(result.folder)})
        else:
            _print_result(result, summary)
        if not result.verification.holds:
            raise AuditError(f"the log of {result.folder} does not hold; see: fedge audit verify {result.folder}")


def _print_result(result: Result, summary: Mapping[str, Any]) -> None:
    folder, headline = RunFolder(result.folder), summary["headline"]
    score = result.scores.get(headline)
    console.print(f"[bold]federated[/]: {headline} [bold]{number(score, 3)}[/] on the public test set")
    console.print(f"  {_privacy(summary)}", soft_wrap=True)
    if result.federated:
        said = result.federated
        console.print(
            f"  on the clients' own held-back records, asked with noise: {number(said['accuracy'], 3)} "
            f"± {number(said['accuracy_error'], 3)}"
        )
    if result.central and score is not None:
        gap = result.central[headline] - score
        console.print(
            f"[bold]central[/], no privacy, all permitted records pooled: {headline} "
            f"{number(result.central[headline], 3)} → private federated is [bold]{_distance(gap)}[/]",
            soft_wrap=True,
        )
    if result.alone:
        alone = ", ".join(f"{name} {number(values[headline], 3)}" for name, values in result.alone.items())
        console.print(f"[bold]each alone[/], no privacy: {alone}", soft_wrap=True)
    console.print()
    rows = [
        ("model", folder.model),
        ("metrics", f"{folder.metrics}, {folder.metrics_csv.name}"),
        ("log", folder.audit),
        ("plots", folder.root / "plots"),
        ("report", folder.report),
    ]
    for name, path in rows:
        console.print(f"  {name:<8} {path}", soft_wrap=True)
    verdict = "[green]the log holds[/]" if result.verification.holds else "[bold red]THE LOG DOES NOT HOLD[/]"
    console.print(f"\n{verdict}; check it yourself: [bold]fedge audit verify {result.folder}[/]", soft_wrap=True)


def _privacy(summary: Mapping[str, Any]) -> str:
    """Return what the run's epsilon is about; no number stands without its unit, its delta and its noise."""
    if summary["epsilon"] is None:
        return "without differential privacy: updates may reveal records"
    unit = summary["privacy"]
    shared_whole = unit == "client" and summary["noise_at"] == "distributed"
    sampling = "no" if summary.get("mechanism") == "banded" or shared_whole else STATEMENT.sampling
    statement = replace(STATEMENT, unit=unit, sampling=sampling)
    whom = "training record" if unit == "record" else f"{unit} with all training records"
    said = f"epsilon {number(summary['epsilon'])} for each {whom} ({statement.describe(summary['delta'])})"
    if summary["noise_at"] == "distributed":
        said += f", even if clients collude with the server (up to {summary['colluding']})"
    if summary["noise_at"] == "server":
        said += ", against all but the server, which sees each update and adds the noise"
    if summary["noise"] == "seeded":
        said += ", in simulation: seeded noise can be repeated and protects nobody; privacy.noise=secure does"
    return said


def _distance(gap: float) -> str:
    points = abs(100 * gap)
    return "as good" if points < 0.05 else f"{points:.1f} points {'below' if gap > 0 else 'above'}"


def _sweep_report(finished: list[tuple[tuple[str, ...], Result]], output: Format) -> None:
    if output is Format.json:
        print_json(
            [
                {"overrides": point, "folder": str(r.folder), "scores": r.scores, "epsilon": r.epsilon}
                for point, r in finished
            ]
        )
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("overrides", "scores", "epsilon", "folder"):
        table.add_column(name)
    for point, result in finished:
        scores = ", ".join(f"{name} {number(value, 3)}" for name, value in result.scores.items())
        table.add_row(" ".join(point), scores, number(result.epsilon), str(result.folder))
    console.print(table)
