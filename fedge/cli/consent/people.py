"""What every consent command needs: the client's store, what people are called in it, and the options that repeat."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from fedge.cli.clients import one_client, stores_of
from fedge.consent.dates import bounds
from fedge.consent.events import EVERYONE
from fedge.consent.importing import Names
from fedge.consent.request import Request
from fedge.consent.store import PermissionStore
from fedge.consent.subjects import SubjectKeys
from fedge.errors import ConfigError, PermissionRecordError

PurposeOption = Annotated[str, typer.Option("--purpose", "-p", help="Judge for this purpose, or its public code.")]
FactOption = Annotated[
    list[str] | None, typer.Option("--fact", help="What is true of the use, e.g. non_commercial; may repeat.")
]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Only this data set, by its lineage.")]
ZoneOption = Annotated[str, typer.Option("--zone", help="Time zone of dates without a time, e.g. Europe/Berlin.")]


def store_of(client: Path) -> PermissionStore:
    """Return the permission store of the client whose folder is `client`."""
    return PermissionStore(one_client(client).journal("permissions"))


def names_of(client: Path, *, enrol: bool = True) -> Names:
    """Return what makes people's identifiers the pseudonyms by which this client knows them.

    Somebody whose records have not come yet is given a pseudonym; with `enrol` false (a dry run) only for this once.
    """
    subjects = stores_of(one_client(client)).subjects
    return subjects.enrol if enrol else lambda people: [_for_once(subjects, person) for person in people]


def called(client: Path, subject: str, identifier: bool) -> str:
    """Return the pseudonym that SUBJECT means. Raises PermissionRecordError for somebody who was erased."""
    if not identifier or subject == EVERYONE:
        return subject
    (found,) = names_of(client)([subject])
    if found is None:
        raise PermissionRecordError(f"{subject!r} has been erased at {client}: their records are not used again")
    return found


def _for_once(subjects: SubjectKeys, person: str) -> str | None:
    return None if subjects.was_erased(person) else subjects.find(person) or f"unknown:{person}"


def zone_of(name: str) -> tzinfo:
    """Return the time zone `name`. Raises ConfigError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"--zone: there is no time zone {name!r}, e.g. Europe/Berlin") from error


def moment_of(option: str, text: str | None, zone: str, *, after: bool = False) -> datetime | None:
    """Return the first moment of a date option, or the first after it. Raises ConfigError."""
    if text is None:
        return None
    try:
        return bounds(text, zone_of(zone))[int(after)]
    except ValueError as error:
        raise ConfigError(f"{option}: {error}; write e.g. 2027-01-01 or 2027-01-01T12:00:00Z") from error


def request_of(purpose: str, facts: list[str] | None, dataset: str | None) -> Request:
    """Return the use that a command asks about."""
    return Request(purpose, dataset=dataset, facts=frozenset(facts or ()))
