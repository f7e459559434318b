"""`fedge lineage`: which rounds and model versions a person's records went into, from the client's private index."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from fedge.cli.clients import client_of_run, person_of_run, stores_of
from fedge.cli.entries import RunArgument, entries_of
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.rounds import lineage

app = typer.Typer(
    help="Which rounds and models a person's records went into.", no_args_is_help=True, add_completion=False
)

ClientOption = Annotated[str, typer.Option("--client", "-c", help="The client that holds the person's records.")]
SubjectOption = Annotated[str, typer.Option("--subject", "-s", help="A pseudonym (p-…), or with --identifier a name.")]
IdentifierOption = Annotated[bool, typer.Option("--identifier", help="SUBJECT is a name, not a pseudonym.")]


@app.callback()
def lineage_commands() -> None:
    """Which rounds and models a person's records went into."""


@app.command(epilog="Example:  fedge lineage impact runs/RUN --client hospital-1 --subject p-0123456789abcdef")
def impact(
    run: RunArgument,
    client: ClientOption,
    subject: SubjectOption,
    identifier: IdentifierOption = False,
    output: FormatOption = Format.text,
) -> None:
    """List the rounds that read a person's records, and every model version that includes them or descends from one."""
    stores, entries = stores_of(client_of_run(run, client)), entries_of(run)
    name = str(entries[0].payload["run"])
    known = person_of_run(stores, name, subject, identifier)
    found = lineage.uses(stores.memory, stores.approvals, name, known)
    including = lineage.models_with(entries, found)
    rows = [
        {
            "work": u.leaf.work,
            "round": u.leaf.round,
            "at": u.leaf.at,
            "outcome": u.leaf.outcome,
            "in_pool": u.pooled,
            "read": u.read,
            "model_in": u.leaf.model_in,
        }
        for u in found
    ]
    models = [{"round": round_, "model": model} for round_, model in including.items()]
    if output is Format.json:
        print_json({"run": name, "subject": known, "uses": rows, "models": models})
        return
    _print(rows, models)


def _print(rows: list[dict[str, Any]], models: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("The person's records were in no round of this run.")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("work", "round", "outcome", "in the pool", "read"):
        table.add_column(name)
    for row in rows:
        words = ("yes" if row["in_pool"] else "no", "yes" if row["read"] else "no")
        table.add_row(row["work"], str(row["round"]), row["outcome"], *words)
    console.print(table)
    if not models:
        console.print("No released model includes them.")
        return
    console.print(f"{len(models)} model versions include the person, or descend from one that does:")
    for model in models:
        console.print(f"  after round {model['round']}: {model['model']}", soft_wrap=True)
