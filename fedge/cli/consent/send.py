"""`fedge consent export`: consent records for others, as DPV JSON-LD, JSON Lines or CSV."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from fedge.cli.clients import ClientArgument, IdentifierOption
from fedge.cli.consent.people import called, store_of
from fedge.cli.output import console
from fedge.consent import dpv, tabular
from fedge.consent.events import PermissionEvent, print_event
from fedge.errors import ConfigError, PermissionRecordError, StorageError
from fedge.files import write_atomically

EXAMPLES = """Examples:

  fedge consent export runs/RUN/clients/hospital-1 --as csv --out permissions.csv

  fedge consent export runs/RUN/clients/hospital-1 --template --out controller.yaml

  fedge consent export runs/RUN/clients/hospital-1 --as dpv --profile controller.yaml --subject p-0123456789abcdef
"""


class As(StrEnum):
    """The forms of file that are written."""

    jsonl = "jsonl"
    csv = "csv"
    dpv = "dpv"


def export(
    client: ClientArgument,
    form: Annotated[As, typer.Option("--as", help="dpv is ISO/IEC TS 27560 as JSON-LD, one record a line.")] = As.jsonl,
    subject: Annotated[str | None, typer.Option(help="Only this person.")] = None,
    identifier: IdentifierOption = False,
    profile: Annotated[
        Path | None, typer.Option(help="What only the controller knows (YAML), for --as dpv; see --template.")
    ] = None,
    template: Annotated[bool, typer.Option("--template", help="Write an empty profile to fill in, and leave.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of printing.")] = None,
) -> None:
    """Write permission events, of all people or of one."""
    if template:
        _write(yaml.safe_dump(dpv.template(), sort_keys=False, allow_unicode=True), out)
        return
    person = called(client, subject, identifier) if subject else None
    events = store_of(client).history(person)
    if person is not None and not events:
        raise PermissionRecordError(f"there is no permission record of {person!r}")
    _write("".join(_lines(form, events, profile)), out)
    if out is not None:
        console.print(f"{len(events)} events written to {out}", markup=False, soft_wrap=True)


def _lines(form: As, events: Sequence[PermissionEvent], profile: Path | None) -> Iterator[str]:
    if form is As.jsonl:
        yield from (f"{print_event(e).decode()}\n" for e in events)
    elif form is As.csv:
        table = io.StringIO()
        tabular.write(events, table)
        yield table.getvalue()
    else:
        for record in dpv.records(events, profile_of(profile)):
            yield f"{json.dumps(record, ensure_ascii=False)}\n"


def profile_of(path: Path | None) -> dpv.Profile:
    """Return what the controller has written in `path`. Raises ConfigError, StorageError or PermissionRecordError."""
    if path is None:
        raise ConfigError("--as dpv needs --profile: what only the controller knows; begin with --template")
    try:
        plain: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    return dpv.profile_of(plain)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(out, text.encode())
