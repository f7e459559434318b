"""`fedge audit show`, `uses` and `schema`: read what is in a log, and what an entry looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from fedge.audit.leaves import EVENTS
from fedge.audit.schemas import event_schema, schema_file
from fedge.audit.verify import Entry, Unproven, since, verify_run
from fedge.cli.output import Format, FormatOption, console, number, print_json
from fedge.encoding import utc_now
from fedge.errors import AuditError, ConfigError
from fedge.files import write_atomically
from fedge.reports.words import REASONS

PIPED = 200
"""Columns of a table that goes to a file or another program, which wraps no lines."""
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
ClientOption = Annotated[str | None, typer.Option("--client", help="Only of this client.")]
SinceOption = Annotated[str | None, typer.Option(metavar="TIME", help="Not before: 24h, 7d, or a time.")]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Not after: 24h, 7d, or a time.")]


def show(  # noqa: PLR0917 - one parameter an option
    run: RunArgument,
    entry: Annotated[int | None, typer.Option(help="Print this one entry, whole.")] = None,
    client: ClientOption = None,
    round_: Annotated[int | None, typer.Option("--round", help="Only of this round.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Only of this type, e.g. data_use.")] = None,
    since_: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Not before: 24h, or a time.")] = None,
    until: UntilOption = None,
    output: FormatOption = Format.text,
) -> None:
    """List the entries of a log; exit code 7 if they cannot be read."""
    if event is not None and event not in EVENTS:
        raise ConfigError(f"--event: {event!r} is not the type of an entry; known: {', '.join(EVENTS)}")
    entries = entries_of(run)
    if entry is not None:
        if not 0 <= entry < len(entries):
            raise ConfigError(f"--entry: the log has entries 0 to {len(entries) - 1}, not {entry}")
        print_json(_plain(entries[entry]))
        return
    chosen = [
        e
        for e in _between(entries, since_, until)
        if (client is None or client in {e.signer, e.payload.get("client")})
        and (round_ is None or e.payload.get("round") == round_)
        and (event is None or e.event == event)
    ]
    if output is Format.json:
        print_json([_plain(e) for e in chosen])
        return
    table = _table("entry", "time", "event", "signed by", "round", "what")
    for e in chosen:
        members = (
            ("work", "outcome", "reason") if e.by_client else ("client", "organisation", "scope", "kind", "reason")
        )
        said = " ".join(str(e.payload[k]) for k in members if e.payload.get(k))
        table.add_row(str(e.index), _short(e.payload["at"]), e.event, e.signer, str(e.payload.get("round", "")), said)
    console.print(table, width=None if console.is_terminal else PIPED)
    console.print(f"{len(chosen)} of {len(entries)} entries", style="dim")


def uses(  # noqa: PLR0917 - one parameter an option
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; the uses of all are listed.")],
    client: ClientOption = None,
    dataset: Annotated[str | None, typer.Option(help="Only of this data set, e.g. cancer/hospital-1.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="Only those that read this person's records; asks the client's private index.")
    ] = None,
    identifier: Annotated[bool, typer.Option("--identifier", help="SUBJECT is a name, not a pseudonym.")] = False,
    since_: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Not before: 24h, or a time.")] = None,
    until: UntilOption = None,
    output: FormatOption = Format.text,
) -> None:
    """List every use of data, as the client that holds it has stated it; a refused order is listed too."""
    mine = None if subject is None else {run: _statements_about(run, client, subject, identifier) for run in runs}
    rows = [
        _use(e)
        for run in runs
        for e in _between([e for e in entries_of(run) if e.event == "data_use"], since_, until)
        if (client in {None, e.signer} if mine is None else (e.signer, e.payload["seq"]) in mine[run])
        and dataset in {None, e.payload["dataset"]["lineage"]}
    ]
    if output is Format.json:
        print_json(rows)
        return
    for run in sorted({r["run"] for r in rows}):
        _print_uses([r for r in rows if r["run"] == run], run)
    console.print(
        f"{len(rows)} orders answered, {sum(r['used'] != '0' for r in rows)} of them used data. Counts are ranges; "
        "counts and epsilon are as the client signed them.",
        style="dim",
    )


def _statements_about(run: Path, client: str | None, subject: str, identifier: bool) -> set[tuple[str, int]]:
    """Return the client's statements (whose, which) on orders for which the person's records were read."""
    if client is None:
        raise ConfigError("--subject: only the client that holds a person's records knows; name it with --client")
    from fedge.cli.clients import client_of_run, person_of_run, stores_of  # here: only this needs the client's stores
    from fedge.rounds.lineage import uses as uses_of

    stores, name = stores_of(client_of_run(run, client)), str(entries_of(run)[0].payload["run"])
    person = person_of_run(stores, name, subject, identifier)
    return {(u.leaf.client, u.seq) for u in uses_of(stores.memory, stores.approvals, name, person) if u.read}


def schema(
    event: Annotated[str | None, typer.Argument(metavar="[EVENT]", help="The type of an entry, e.g. data_use.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write one file per type to this folder.")] = None,
) -> None:
    """Print the JSON Schema of an entry's type, or list all types."""
    if event is not None and event not in EVENTS:
        raise ConfigError(f"{event!r} is not the type of an entry; known: {', '.join(EVENTS)}")
    chosen = list(EVENTS) if event is None else [event]
    if out is not None:
        for name in chosen:
            write_atomically(out / f"{name}.schema.json", schema_file(name).encode())
        console.print(f"{len(chosen)} schemas written to {out}", soft_wrap=True)
    elif event is not None:
        typer.echo(schema_file(event), nl=False)
    else:
        for name in chosen:
            typer.echo(f"{name}\t{event_schema(name)['description'].splitlines()[0]}")


def entries_of(run: Path) -> Sequence[Entry]:
    """Return the entries of the log of a run. Raises AuditError if they cannot be read."""
    found = verify_run(run)
    if not found.entries:
        raise AuditError(f"the entries of {run} cannot be read; see: fedge audit verify {run}")
    return found.entries


def _between(entries: Sequence[Entry], since_: str | None, until: str | None) -> list[Entry]:
    first, last = _moment("--since", since_), _moment("--until", until)
    return [e for e in entries if (first is None or e.at >= first) and (last is None or e.at <= last)]


def _moment(option: str, text: str | None) -> datetime | None:
    try:
        return since(text, utc_now()) if text else None
    except Unproven as error:
        raise ConfigError(f"{option}: {error}") from error


def _print_uses(rows: Sequence[Mapping[str, Any]], run: str) -> None:
    table = _table("entry", "time", "data set", "for", "used", "outcome", "epsilon", "total")
    table.title = f"run {run}"
    for r in rows:
        reason = f" ({REASONS.get(r['reason'], r['reason'])})" if r["reason"] else ""
        spent = [number(None if v is None else float(v)) for v in (r["epsilon_round"], r["epsilon_total"])]
        held = r["dataset"] if r["client"] in r["dataset"] else f"{r['client']}: {r['dataset']}"
        job, said = f"{r['work']} {r['round']}", escape(r["outcome"] + reason)
        table.add_row(str(r["entry"]), _short(r["at"]), escape(held), job, r["used"], said, *spent)
    console.print(table, width=None if console.is_terminal else PIPED)


def _short(at: str) -> str:
    """Return the time of an entry as people read it."""
    return at[:19].replace("T", " ")


def _plain(entry: Entry) -> dict[str, Any]:
    return {"index": entry.index, "event": entry.event, "signer": entry.signer, **entry.payload}


def _use(entry: Entry) -> Mapping[str, Any]:
    said = entry.payload
    return {
        "run": said["run"],
        "entry": entry.index,
        "at": said["at"],
        "client": said["client"],
        "dataset": said["dataset"]["lineage"],
        "work": said["work"],
        "round": said["round"],
        "purpose": said["purpose"],
        "legal_bases": said["legal_bases"],
        "outcome": said["outcome"],
        "reason": said["reason"],
        "used": said["counts"]["used"],
        "excluded": said["counts"]["excluded"],
        "epsilon_round": said["privacy"]["epsilon_round"],
        "epsilon_total": said["privacy"]["epsilon_total"],
        "delta": said["privacy"]["delta"],
    }


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True)
    for name in names:
        table.add_column(name)
    return table
