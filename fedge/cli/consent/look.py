"""`fedge consent check`, `show`, `history`, `list`: what holds, for whom, since which event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from fedge.cli.clients import ClientArgument, IdentifierOption, SubjectArgument
from fedge.cli.consent.people import (
    DatasetOption,
    FactOption,
    PurposeOption,
    ZoneOption,
    called,
    moment_of,
    request_of,
    store_of,
)
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.consent.conditions import unmet
from fedge.consent.decision import Decision
from fedge.consent.events import PermissionEvent, plain_event
from fedge.consent.purposes import purpose as known_purpose
from fedge.consent.verdicts import Reason
from fedge.encoding import timestamp, utc_now
from fedge.errors import PermissionRecordError

NOT_PERMITTED = 5
"""Exit code of `check` for a no: the same as for a record that cannot be read, for both keep the data out."""
CHECK_EXAMPLES = """Examples:

  fedge consent check runs/RUN/clients/hospital-1 p-0123456789abcdef --purpose health-research

  fedge consent check runs/RUN/clients/hospital-1 4711 --identifier -p HRESCH --at 2026-01-31 --fact non_commercial
"""


def check(  # noqa: PLR0913, PLR0917 - one parameter an option
    client: ClientArgument,
    subject: SubjectArgument,
    purpose: PurposeOption = "health-research",
    at: Annotated[str | None, typer.Option(help="As of this day (its first moment) or moment; else now.")] = None,
    fact: FactOption = None,
    dataset: DatasetOption = None,
    zone: ZoneOption = "UTC",
    identifier: IdentifierOption = False,
    output: FormatOption = Format.text,
) -> None:
    """Say whether a person's records may be used, why, and by which event. Exit code 0 if permitted, 5 if not."""
    known_purpose(purpose)
    store, person = store_of(client), called(client, subject, identifier)
    asked = moment_of("--at", at, zone)
    moment = store.present(utc_now()) if asked is None else asked
    request = request_of(purpose, fact, dataset)
    found = store.decide(person, request, moment)
    missing = unmet(found.event.conditions, request.facts) if found.event else None
    if output is Format.json:
        print_json(
            {
                "subject": person,
                "purpose": request.wanted,
                "at": timestamp(moment),
                "permitted": found.reason == Reason.admitted,
                "reason": found.reason.name,
                "unmet": missing if found.reason == Reason.condition_unmet else None,
                "event": plain_event(found.event) if found.event else None,
            }
        )
    else:
        _print_decision(person, request.wanted, timestamp(moment), found, missing)
    if found.reason != Reason.admitted:
        raise typer.Exit(NOT_PERMITTED)


def show(
    client: ClientArgument,
    subject: Annotated[str | None, typer.Argument(metavar="[SUBJECT]", help="Only this pseudonym's history.")] = None,
    purpose: PurposeOption = "health-research",
    fact: FactOption = None,
    dataset: DatasetOption = None,
    output: FormatOption = Format.text,
) -> None:
    """Show who permits what at this moment: counts of all people, or one person's history."""
    store, request = store_of(client), request_of(known_purpose(purpose), fact, dataset)
    now = store.present(utc_now())
    if subject is None:
        codes = store.state().judge(store.state().subjects(), request, now).codes
        counts = {Reason(int(code)).name: n for code, n in sorted(Counter(codes.tolist()).items())}
        _print_counts(counts, purpose, output)
        return
    _print_history(_events(store.history(subject), subject), output, purpose, store.decide(subject, request, now))


def history(
    client: ClientArgument,
    subject: SubjectArgument,
    identifier: IdentifierOption = False,
    output: FormatOption = Format.text,
) -> None:
    """Show every event of one person, or of '*', in the order they were recorded here."""
    person = called(client, subject, identifier)
    _print_history(_events(store_of(client).history(person), person), output)


def list_people(client: ClientArgument, purpose: PurposeOption = "health-research", fact: FactOption = None) -> None:
    """Print each person's pseudonym and what holds for the purpose now, one a line."""
    store = store_of(client)
    people = store.state().subjects()
    codes = store.judge(people, request_of(known_purpose(purpose), fact, None), utc_now()).codes
    for person, code in zip(people, codes, strict=True):
        typer.echo(f"{person}\t{Reason(int(code)).name}")


def _events(events: list[PermissionEvent], subject: str) -> list[PermissionEvent]:
    if not events:
        raise PermissionRecordError(
            f"there is no permission record of {subject!r}; `fedge consent list` names all people"
        )
    return events


def _print_decision(person: str, wanted: str, at: str, found: Decision, missing: str | None) -> None:
    verdict = "[green]permitted[/]" if found.reason == Reason.admitted else "[bold red]not permitted[/]"
    console.print(f"{verdict} for {wanted} at {at}", soft_wrap=True)
    condition = f" ({missing})" if found.reason == Reason.condition_unmet else ""
    console.print(f"{person}: {found.reason.name}: {found.reason.text}{condition}", markup=False, soft_wrap=True)
    if found.event is not None:
        console.print("decided by:")
        _print_events([found.event])


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


def _print_history(
    events: Sequence[PermissionEvent], output: Format, purpose: str | None = None, found: Decision | None = None
) -> None:
    verdict = None if found is None else found.reason.name
    if output is Format.json:
        shown = [plain_event(e) for e in events]
        print_json({"purpose": purpose, "now": verdict, "history": shown} if verdict else {"history": shown})
        return
    _print_events(events)
    if verdict is not None:
        console.print(f"now, for {purpose}: [bold]{verdict.replace('_', ' ')}[/]")


def _print_events(events: Sequence[PermissionEvent]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("recorded", "act", "kind", "purposes", "valid from", "until", "more"):
        table.add_column(name, overflow="fold")
    for e in events:
        cells = (e.recorded_at, e.act, e.kind, ", ".join(e.purposes), e.valid_from, e.valid_until or "—", _more(e))
        table.add_row(*map(_plain, cells))
    console.print(table)


def _more(event: PermissionEvent) -> str:
    usual = {"act", "kind", "subject", "purposes", "valid_from", "recorded_at", "valid_until", "evidence"}
    rest = {k: v for k, v in plain_event(event).items() if k not in usual}
    return "; ".join(f"{k} {', '.join(v) if isinstance(v, list) else v}" for k, v in rest.items())


def _plain(cell: str) -> str:
    return cell.replace("[", r"\[")
