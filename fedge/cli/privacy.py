"""`fedge privacy`: unsound claims found by reading, and what mechanisms cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.markup import escape

from fedge.cli.output import Format, FormatOption, console, number, print_json
from fedge.encoding import to_plain
from fedge.errors import ConfigError, UnsoundError
from fedge.lint.rules import RULES, Finding
from fedge.lint.target import findings
from fedge.privacy import accountant, selection
from fedge.privacy import filter as privacy_filter
from fedge.privacy.accountant import UNITS
from fedge.privacy.events import SampledGaussian

app = typer.Typer(
    help="Find unsound privacy claims, and compute what mechanisms cost.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
WARNED = 1
EXIT_CODES = f"Exit code: 0 nothing was found, {WARNED} warnings only, {UnsoundError.exit_code} at least one error."
LINT_EXAMPLES = """Examples:

  fedge privacy lint runs/RUN  (a run of fedge)

  fedge privacy lint privacy.noise=secure rounds=50  (a configuration, before it is run)

  fedge privacy lint train.py  (a script that trains with Opacus)

  fedge privacy lint my-flower-app --format json  (the folder of a Flower app)
"""
RateOption = Annotated[float, typer.Option(help="The rate of Poisson sampling; 1 for all records.")]
NoiseOption = Annotated[float, typer.Option(help="Standard deviation of the noise over the clipping norm.")]
StepsOption = Annotated[int, typer.Option(help="Steps, over all rounds and epochs.")]
DeltaOption = Annotated[float, typer.Option(help="At this delta.")]


@app.command(
    epilog=LINT_EXAMPLES, help=f"Name the unsound privacy claims in TARGET; nothing is executed.\n\n{EXIT_CODES}"
)
def lint(
    target: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="A run's folder, KEY=VALUE overrides, a Python file or a folder of them, or a Flower app.",
        ),
    ] = None,
    output: FormatOption = Format.text,
) -> None:
    """Name the unsound privacy claims in TARGET."""
    found = findings(target or [])
    if output is Format.json:
        print_json([_plain(f) for f in found])
    else:
        for finding in found:
            _print(finding)
        errors = sum(f.rule.severity == "error" for f in found)
        console.print(f"{errors} errors, {len(found) - errors} warnings" if found else "nothing unsound was found")
    raise typer.Exit(_code(found))


@app.command(epilog="Example:  fedge privacy rules --format json")
def rules(output: FormatOption = Format.text) -> None:
    """List the rules that `fedge privacy lint` knows, with the reason and the fix of each."""
    if output is Format.json:
        print_json(to_plain(RULES))
        return
    for rule in RULES:
        console.print(f"[bold]{rule.id}[/] ({rule.severity}): {escape(rule.title)}", soft_wrap=True)
        console.print(
            f"  {escape(rule.why)}\n  Fix: {escape(rule.fix)}\n  Source: {escape(rule.source)}", soft_wrap=True
        )


@app.command(epilog="Example:  fedge privacy epsilon --sample-rate 0.01 --noise-multiplier 1 --steps 1000")
def epsilon(
    noise_multiplier: NoiseOption,
    steps: StepsOption,
    sample_rate: RateOption = 1.0,
    delta: DeltaOption = 1e-5,
    unit: Annotated[str, typer.Option(help="What is clipped, sampled and protected: record, subject or client.")] = (
        "record"
    ),
    output: FormatOption = Format.text,
) -> None:
    """Compute what steps of a (sampled) Gaussian mechanism cost: both adjacencies, fixed and adaptive schedules.

    Of client-level privacy a step is a round that the client answers, and the rate that of the server's secret sample.
    With correlated noise (privacy.mechanism=banded) it is a round that the client takes part in, at rate 1.
    """
    chosen = next((known for known in UNITS if known == unit), None)
    if chosen is None:
        raise ConfigError(f"--unit: expected {', '.join(UNITS)}; found {unit!r}")
    event = _event(sample_rate, noise_multiplier, steps, delta)
    costs = {
        "add_remove": accountant.epsilon([event], delta),
        "replace_one": accountant.epsilon([event], delta, adjacency="replace-one"),
        "add_remove_if_adaptive": privacy_filter.epsilon([event], delta),
    }
    if output is Format.json:
        print_json(costs | {"delta": delta, "unit": chosen})
        return
    said = replace(accountant.STATEMENT, unit=chosen, sampling="poisson" if sample_rate < 1 else "no").describe(delta)
    console.print(f"epsilon {number(costs['add_remove'], 3)}  {said}", soft_wrap=True)
    console.print(f"epsilon {number(costs['replace_one'], 3)}  the same, if another {chosen} takes the place of one")
    console.print(f"epsilon {number(costs['add_remove_if_adaptive'], 3)}  add/remove, if settings may follow results")


@app.command(
    "selection", epilog="Example:  fedge privacy selection --mean 10 --sample-rate 0.1 --noise-multiplier 2 --steps 100"
)
def selection_command(
    mean: Annotated[
        float, typer.Option(help="Mean number of tries; the number itself is geometric, drawn and kept secret.")
    ],
    noise_multiplier: NoiseOption,
    steps: StepsOption,
    sample_rate: RateOption = 1.0,
    delta: DeltaOption = 1e-5,
    output: FormatOption = Format.text,
) -> None:
    """Compute what a search costs of which only the best try is ever seen (Papernot and Steinke 2022).

    It changes no ledger: where all tries are seen, as a server sees them, they add up.
    """
    event = _event(sample_rate, noise_multiplier, steps, delta)
    if not mean >= 1:
        raise ConfigError(f"--mean: the mean number of tries is at least 1; found {mean:g}")
    costs = {
        "one_try": accountant.epsilon([event], delta),
        "best_of_secret_number": selection.epsilon(event, delta, mean),
        "all_seen": accountant.epsilon([event] * max(1, round(mean)), delta),
    }
    if output is Format.json:
        print_json(costs | {"delta": delta, "mean": mean})
        return
    console.print(
        f"epsilon at delta {delta:g}, add/remove one record; the score must be part of the steps", style="dim"
    )
    console.print(f"{number(costs['one_try'], 3)}  one try")
    console.print(
        f"{number(costs['best_of_secret_number'], 3)}  only the best of a secret, geometric number of tries is seen"
    )
    console.print(f"{number(costs['all_seen'], 3)}  {max(1, round(mean))} tries that are all seen")


def _event(sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> SampledGaussian:
    if not 0 < delta < 1:
        raise ConfigError(f"--delta: expected a value in (0, 1); found {delta:g}")
    try:
        return SampledGaussian(sample_rate, noise_multiplier, steps)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _code(found: list[Finding]) -> int:
    if any(f.rule.severity == "error" for f in found):
        return UnsoundError.exit_code
    return WARNED if found else 0


def _plain(finding: Finding) -> dict[str, str]:
    rule = finding.rule
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "place": finding.place,
        "seen": finding.seen,
        "title": rule.title,
        "why": rule.why,
        "fix": rule.fix,
        "source": rule.source,
    }


def _print(finding: Finding) -> None:
    rule, colour = finding.rule, "red" if finding.rule.severity == "error" else "yellow"
    console.print(
        f"[bold {colour}]{rule.severity}[/] [bold]{escape(finding.place)}[/] {rule.id}: {escape(rule.title)} "
        f"({escape(finding.seen)})",
        soft_wrap=True,
    )
    console.print(f"  {escape(rule.why)}\n  Fix: {escape(rule.fix)}\n", soft_wrap=True, style="dim")
