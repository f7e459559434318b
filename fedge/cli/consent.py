"""`fedge consent`: give, withdraw, look at permissions, on the client's machine; withdrawing is as easy as giving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from fedge.cli.clients import (
    ClientArgument,
    IdentifierOption,
    PurposeOption,
    SubjectArgument,
    one_client,
    stores_of,
)
from fedge.cli.erase import erase_command
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.consent.grants import EVERYONE, PermissionEvent, Reason
from fedge.consent.importing import take
from fedge.consent.jsonl import entries
from fedge.consent.purposes import purpose as known_purpose
from fedge.consent.store import PermissionStore
from fedge.encoding import from_plain, timestamp, to_plain, utc_now
from fedge.errors import PermissionRecordError
from fedge.journal import SqliteJournal
from fedge.rounds.folder import ClientFolder

app = typer.Typer(
    help="Permissions of the people whose records a client holds.", no_args_is_help=True, add_completion=False
)
app.command("erase", epilog="Example:  fedge consent erase runs/RUN/clients/hospital-1 patient-00042 --identifier")(
    erase_command
)


@app.command(epilog="Example:  fedge consent grant runs/RUN/clients/hospital-1 p-0123456789abcdef -p health-research")
def grant(
    client: ClientArgument,
    subject: SubjectArgument,
    purpose: PurposeOption,
    until: Annotated[
        str | None, typer.Option(help="No longer valid from this moment, e.g. 2027-01-01T00:00:00.000Z.")
    ] = None,
    identifier: IdentifierOption = False,
) -> None:
    """Record that a person permits the use of their records."""
    _record(client, "grant", subject, purpose, identifier, until)


@app.command(
    epilog="Example:  fedge consent withdraw runs/RUN/clients/hospital-1 p-0123456789abcdef -p health-research"
)
def withdraw(
    client: ClientArgument, subject: SubjectArgument, purpose: PurposeOption, identifier: IdentifierOption = False
) -> None:
    """Record that a person withdraws; a run that is going on reads their records no more."""
    _record(client, "withdraw", subject, purpose, identifier)


@app.command(epilog="Example:  fedge consent show runs/RUN/clients/hospital-1 -p health-research")
def show(
    client: ClientArgument,
    subject: Annotated[str | None, typer.Argument(metavar="[SUBJECT]", help="Only this pseudonym's history.")] = None,
    purpose: Annotated[str, typer.Option("--purpose", "-p", help="Judge for this purpose.")] = "health-research",
    output: FormatOption = Format.text,
) -> None:
    """Show who permits what at this moment: counts of all people, or one person's history."""
    store, now = _store(one_client(client)), utc_now()
    if subject is None:
        _print_counts(_counts(store, known_purpose(purpose), now), purpose, output)
        return
    events = store.history(subject)
    if not events:
        raise PermissionRecordError(
            f"there is no permission record of {subject!r}; `fedge consent list` names all people"
        )
    verdict = Reason(int(store.state().judge([subject], known_purpose(purpose), now).codes[0])).name
    _print_history(events, verdict, purpose, output)


@app.command("list")
def list_people(
    client: ClientArgument, purpose: Annotated[str, typer.Option("--purpose", "-p")] = "health-research"
) -> None:
    """Print each person's pseudonym and what holds for the purpose now, one a line."""
    store = _store(one_client(client))
    people = _people(store)
    codes = store.state().judge(people, known_purpose(purpose), utc_now()).codes
    for person, code in zip(people, codes, strict=True):
        typer.echo(f"{person}\t{Reason(int(code)).name}")


@app.command("import", epilog="Example:  fedge consent import runs/RUN/clients/hospital-1 permissions.jsonl")
def import_file(
    client: ClientArgument,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="One permission event per line, JSON.")],
    accept_valid: Annotated[bool, typer.Option(help="Take the valid lines even if others are not.")] = False,
) -> None:
    """Add permission events from a JSON Lines file: all of them, or none and the reasons."""
    store = _store(one_client(client))
    report = take(store, entries(path), utc_now(), accept_valid=accept_valid)
    for place, reason in report.rejected:
        console.print(f"{place}: {reason}", style="yellow", markup=False, soft_wrap=True)
    console.print(f"{report.accepted} events added, {len(report.rejected)} lines refused")
    if report.rejected:
        raise PermissionRecordError(f"{len(report.rejected)} lines of {path} are not permission events; see above")


def _record(
    client: Path, act: str, subject: str, purposes: Sequence[str], identifier: bool, until: str | None = None
) -> None:
    folder, now = one_client(client), timestamp(utc_now())
    person = _person(folder, subject, identifier)
    plain = {
        "act": act,
        "kind": "permit" if person == EVERYONE else "consent",
        "subject": person,
        "purposes": list(purposes),
        "valid_from": now,
        "recorded_at": now,
        "valid_until": until,
    }
    store = _store(folder)
    store.append([from_plain(PermissionEvent, plain, PermissionRecordError)])
    verdicts = store.state().judge([person] * len(purposes), known_purpose(purposes[0]), utc_now())
    console.print(f"{person}: {Reason(int(verdicts.codes[0])).name} for {known_purpose(purposes[0])}")


def _store(folder: ClientFolder) -> PermissionStore:
    return PermissionStore(SqliteJournal(folder.consent, "permissions"))


def _person(folder: ClientFolder, subject: str, identifier: bool) -> str:
    """Return whom a permission is about; somebody whose records have not come yet is given a pseudonym."""
    if not identifier:
        return subject
    stores = stores_of(folder)
    (found,) = stores.subjects.enrol([subject])
    if found is None:
        raise PermissionRecordError(f"{subject!r} has been erased at {folder.root}: their records are not used again")
    return found


def _people(store: PermissionStore) -> list[str]:
    return sorted({e.subject for e in store.history() if e.subject != EVERYONE})


def _counts(store: PermissionStore, wanted: str, now: datetime) -> dict[str, int]:
    codes = store.state().judge(_people(store), wanted, now).codes
    return {Reason(int(code)).name: n for code, n in sorted(Counter(codes.tolist()).items())}


def _print_counts(counts: dict[str, int], purpose: str, output: Format) -> None:
    if output is Format.json:
        print_json({"purpose": purpose, "people": counts})
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"now, for {purpose}")
    table.add_column("people", justify="right")
    for name, count in counts.items():
        table.add_row(name.replace("_", " "), str(count))
    console.print(table)


def _print_history(events: Sequence[PermissionEvent], verdict: str, purpose: str, output: Format) -> None:
    if output is Format.json:
        plain: dict[str, Any] = {"purpose": purpose, "now": verdict, "history": [to_plain(e) for e in events]}
        print_json(plain)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("recorded", "act", "kind", "purposes", "valid from", "until"):
        table.add_column(name)
    for e in events:
        table.add_row(e.recorded_at, e.act, e.kind, ", ".join(e.purposes), e.valid_from, e.valid_until or "—")
    console.print(table)
    console.print(f"now, for {purpose}: [bold]{verdict.replace('_', ' ')}[/]")
