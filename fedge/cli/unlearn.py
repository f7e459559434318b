"""`fedge unlearn`: redo a run without one person."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from fedge import unlearning
from fedge.cli.clients import client_of_run, person, stores_of
from fedge.cli.entries import RunArgument
from fedge.cli.lineage import ClientOption, IdentifierOption
from fedge.cli.live import LiveTable
from fedge.cli.output import Format, FormatOption, console, number, print_json
from fedge.errors import ConfigError
from fedge.params import digest, load
from fedge.rounds.folder import RunFolder
from fedge.running import Result
from fedge.unlearning import Redo


def unlearn_command(
    run: RunArgument,
    client: ClientOption,
    subject: Annotated[str | None, typer.Option("--subject", "-s", help="Who: a pseudonym, who has withdrawn.")] = None,
    identifier: IdentifierOption = False,
    erasure: Annotated[
        str | None, typer.Option(help="Who: the commitment that `fedge consent erase` printed and the log names.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Redo every round from the last one without the person.")
    ] = False,
    output: FormatOption = Format.text,
) -> None:
    """Train again without one person, from the last state that they had no part in.

    The result is a new run with a log of its own. In a seeded simulation its model equals, byte for byte, that of a run
    that never had the person. The redone rounds are new spends of everybody else; budgets are asked before anything
    begins.
    """
    if not exact:
        raise ConfigError(
            "only exact unlearning is offered, for nothing else can be shown to remove anybody: add --exact"
        )
    if (subject is None) == (erasure is None):
        raise ConfigError("name the person by --subject, or an erased one by --erasure; not both")
    stores = stores_of(client_of_run(run, client))
    who = person(stores, subject, identifier) if subject is not None else None
    redo = unlearning.plan(run, stores, subject=who, erasure=erasure)
    if output is Format.text:
        _announce(redo)
    unlearning.check_affordable(redo)
    table = LiveTable(console) if output is Format.text else None
    with table or nullcontext():
        result = unlearning.unlearn(redo, watch=table.watch() if table else None)
    _report(run, redo, result, output)


def _announce(redo: Redo) -> None:
    console.print(
        f"redoing rounds {redo.first} to {redo.config.rounds}, from the state after round {redo.before.round}"
    )
    for cost in redo.costs:
        console.print(
            f"  {cost.lineage}: epsilon {number(cost.spent)} spent of {number(cost.budget)}, "
            f"{number(cost.after)} after {cost.rounds} more rounds",
            soft_wrap=True,
        )


def _report(run: RunArgument, redo: Redo, result: Result, output: Format) -> None:
    before, after = digest(load(RunFolder(run).model)), digest(load(result.model))
    if output is Format.json:
        print_json(
            {
                "folder": str(result.folder),
                "redone_from": redo.first,
                "scores_before": redo.scores,
                "scores_after": result.scores,
                "model_before": before,
                "model_after": after,
            }
        )
        return
    for name, value in result.scores.items():
        console.print(f"{name} before {number(redo.scores.get(name), 3)}, after {number(value, 3)}")
    console.print(f"model before {before}\nmodel after  {after}", soft_wrap=True)
    console.print(f"new run with its own log: {result.folder}", soft_wrap=True)
