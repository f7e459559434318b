"""`fedge consent grant`, `withdraw`, `refuse`, `revoke`: one command in four words, none harder than another.

Source: Regulation (EU) 2016/679, Art. 7(3)
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer

from fedge.cli.clients import ClientArgument, IdentifierOption, SubjectArgument
from fedge.cli.consent.people import DatasetOption, ZoneOption, called, moment_of, store_of
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.consent.conditions import condition
from fedge.consent.events import EVERYONE, Kind, PermissionEvent
from fedge.consent.purposes import ANY, purpose
from fedge.encoding import from_plain, timestamp, utc_now
from fedge.errors import ConfigError, PermissionRecordError

HELP = {
    "grant": "Record that a person permits the use of their records (with --kind opt_out: that they object to it).",
    "withdraw": "Record that a person withdraws; a run that is going on reads their records no more.",
    "refuse": "Record that a person has said no.",
    "revoke": "Record that an authority has taken a permit or legal basis back.",
}
CLIENT = "runs/RUN/clients/hospital-1"
EXAMPLES = {
    "grant": f"Examples:\n\n  fedge consent grant {CLIENT} p-0123456789abcdef -p health-research --until 2027-12-31\n\n"
    f"  fedge consent grant {CLIENT} '*' -p HRESCH --kind permit --record HDAB-17 --basis eu-gdpr:A9-2-j\n\n"
    f"  fedge consent grant {CLIENT} p-0123456789abcdef -p any-use --kind opt_out",
    "withdraw": f"Examples:\n\n  fedge consent withdraw {CLIENT} p-0123456789abcdef\n\n"
    f"  fedge consent withdraw {CLIENT} p-0123456789abcdef -p health-research",
    "refuse": f"Example:  fedge consent refuse {CLIENT} 4711 --identifier -p commercial",
    "revoke": f"Example:  fedge consent revoke {CLIENT} '*' --kind permit --record HDAB-17",
}


def command(act: str) -> Callable[..., None]:
    """Return the command that records `act`."""

    def run(  # noqa: PLR0913, PLR0917 - one parameter an option
        client: ClientArgument,
        subject: SubjectArgument,
        purposes: Annotated[
            list[str] | None,
            typer.Option("--purpose", "-p", help="A purpose or its public code; may repeat. Default of a no: all."),
        ] = None,
        kind: Annotated[
            str | None, typer.Option(help="consent | opt_out | permit | legal_basis; for '*' permit, else consent.")
        ] = None,
        begins: Annotated[str | None, typer.Option("--from", help="Valid from this day or moment; else now.")] = None,
        until: Annotated[
            str | None, typer.Option(help="The last day, e.g. 2027-12-31, or the moment from which it is not valid.")
        ] = None,
        evidence: Annotated[str | None, typer.Option(help="Digest of the signed form, sha256:….")] = None,
        record: Annotated[str | None, typer.Option(help="Number of the form or permit.")] = None,
        basis: Annotated[list[str] | None, typer.Option(help="Legal basis, a DPV term; may repeat.")] = None,
        bound_to: Annotated[
            list[str] | None, typer.Option("--condition", help="A data-use modifier, e.g. NCU; may repeat.")
        ] = None,
        dataset: DatasetOption = None,
        category: Annotated[list[str] | None, typer.Option(help="Only these kinds of data; may repeat.")] = None,
        zone: ZoneOption = "UTC",
        identifier: IdentifierOption = False,
        output: FormatOption = Format.text,
    ) -> None:
        if act == "grant" and not purposes:
            raise ConfigError("a permission is for a purpose: name one, e.g. -p health-research")
        person, now = called(client, subject, identifier), utc_now()
        plain: dict[str, Any] = {
            "kind": kind or _usual_kind(person),
            "purposes": purposes or [ANY],
            "valid_from": _text(moment_of("--from", begins, zone)) or timestamp(now),
            "valid_until": _text(moment_of("--until", until, zone, after=True)),
            "evidence": evidence,
            "record": record,
            "legal_bases": basis or [],
            "conditions": [condition(c) for c in bound_to or []],
            "dataset": dataset,
            "categories": category or [],
        }
        plain |= {"act": act, "subject": person, "recorded_at": timestamp(now)}
        event = from_plain(PermissionEvent, plain, PermissionRecordError)
        store = store_of(client)
        store.append([event])
        names = [purpose(name) for name in event.purposes]
        _say(person, {name: store.decide(person, name, now).reason.name for name in names}, output)

    return run


def _usual_kind(person: str) -> Kind:
    return "permit" if person == EVERYONE else "consent"


def _text(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


def _say(person: str, verdicts: dict[str, str], output: Format) -> None:
    if output is Format.json:
        print_json({"subject": person, "recorded": True, "now": verdicts})
        return
    for name, verdict in verdicts.items():
        console.print(f"{person}: {verdict} for {name}", markup=False, soft_wrap=True)
