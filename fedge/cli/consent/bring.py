"""`fedge consent import` and `watch`: permission records from elsewhere, one transaction a file, with a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fedge.cli.clients import ClientArgument
from fedge.cli.consent.people import ZoneOption, names_of, store_of, zone_of
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.consent import fhir, jsonl, tabular
from fedge.consent.fhir_validation import validator
from fedge.consent.formats import Form, detect, fhir_entries
from fedge.consent.importing import Entry, ImportReport, as_they_are, take
from fedge.consent.purposes import purpose
from fedge.encoding import to_plain, utc_now
from fedge.errors import ConfigError, FedgeError, PermissionRecordError, StorageError

IMPORT_EXAMPLES = """Examples:

  fedge consent import runs/RUN/clients/hospital-1 Consent.ndjson --dry-run

  fedge consent import runs/RUN/clients/hospital-1 forms.csv --map patient=subject --map answer=act
  --set purposes=HRESCH

  fedge consent import runs/RUN/clients/hospital-1 opted-out.csv --map number=subject --set kind=opt_out --set act=grant
  --set purposes=any-use --set valid_from=2026-01-01
"""
POLL_SECONDS = 1.0
"""Looked for anew this often: file shares of hospitals announce no changes."""


class As(StrEnum):
    """The forms of file that are read."""

    fhir = "fhir"
    jsonl = "jsonl"
    csv = "csv"


AsOption = Annotated[As | None, typer.Option("--as", help="The file's form; else told from its first line.")]
MapOption = Annotated[
    list[str] | None, typer.Option("--map", help="COLUMN=FIELD of a CSV file; may repeat.", metavar="COLUMN=FIELD")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="FIELD=VALUE for all rows of a CSV file.", metavar="FIELD=VALUE")
]
AssumeOption = Annotated[
    list[str] | None,
    typer.Option("--assume-purpose", help="FHIR: the purpose of a permit that names none, as the signed form does."),
]
IdentifiersOption = Annotated[
    bool | None,
    typer.Option("--identifiers/--pseudonyms", help="What the file calls people; FHIR: identifiers, else pseudonyms."),
]


@dataclass(frozen=True)
class Reading:
    """How the operator wants files read."""

    client: Path
    form: As | None
    columns: Mapping[str, str]
    given: Mapping[str, str]
    zone: str
    encoding: str | None
    assumed: tuple[str, ...]
    identifiers: bool | None
    validate: bool


def import_file(  # noqa: PLR0913, PLR0917 - one parameter an option
    client: ClientArgument,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="FHIR JSON or NDJSON, JSON Lines, or CSV.")],
    form: AsOption = None,
    columns: MapOption = None,
    given: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, and take nothing.")] = False,
    accept_valid: Annotated[bool, typer.Option(help="Take the sound entries even if others are not.")] = False,
    zone: ZoneOption = "UTC",
    encoding: Annotated[str | None, typer.Option(help="Text encoding, e.g. latin-1; else UTF-8 or UTF-16.")] = None,
    assume_purpose: AssumeOption = None,
    identifiers: IdentifiersOption = None,
    validate: Annotated[bool, typer.Option(help="FHIR: hold every Consent to its schema (extra `fhir`).")] = False,
    output: FormatOption = Format.text,
) -> None:
    """Add permission records from a file: all of them, or none and the reasons."""
    reading = _reading(client, form, columns, given, zone, encoding, assume_purpose, identifiers, validate)
    report = _import(reading, path, accept_valid=accept_valid, dry_run=dry_run, quiet=output is Format.json)
    _print(report, path, output, dry_run)
    if report.refused:
        raise PermissionRecordError(
            f"{report.refused} of {report.entries} entries of {path} are refused, see above; "
            + ("the others were taken" if report.taken else "nothing was taken")
        )


def watch(  # noqa: PLR0913, PLR0917 - one parameter an option
    client: ClientArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Files that appear or change here are imported.")],
    form: AsOption = None,
    columns: MapOption = None,
    given: SetOption = None,
    zone: ZoneOption = "UTC",
    encoding: Annotated[str | None, typer.Option(help="Text encoding, e.g. latin-1; else UTF-8 or UTF-16.")] = None,
    assume_purpose: AssumeOption = None,
    identifiers: IdentifiersOption = None,
    validate: Annotated[bool, typer.Option(help="FHIR: hold every Consent to its schema (extra `fhir`).")] = False,
    once: Annotated[bool, typer.Option("--once", help="Import what is there, and leave.")] = False,
    output: FormatOption = Format.text,
) -> None:
    """Import every file that is in DIR or comes into it, until stopped. Names that begin with a dot are left alone.

    Move finished files in: one that is still being written is taken up when it stands still.
    """
    reading = _reading(client, form, columns, given, zone, encoding, assume_purpose, identifiers, validate)
    for path in arrivals(folder, partial(_wait, once)):
        try:
            report = _import(reading, path, accept_valid=False, dry_run=False, quiet=True)
            _print(report, path, output, dry_run=False)
        except FedgeError as error:  # one bad file does not keep the next from being read
            console.print(f"{path}: {error}", style="yellow", markup=False, soft_wrap=True)


def _reading(  # noqa: PLR0913, PLR0917 - the options that `import` and `watch` share
    client: Path,
    form: As | None,
    columns: list[str] | None,
    given: list[str] | None,
    zone: str,
    encoding: str | None,
    assumed: list[str] | None,
    identifiers: bool | None,
    validate: bool,
) -> Reading:
    purposes = tuple(purpose(name) for name in assumed or ())
    columns_, given_ = _pairs("--map", columns), _pairs("--set", given)
    return Reading(client, form, columns_, given_, zone, encoding, purposes, identifiers, validate)


def arrivals(folder: Path, wait: Callable[[], bool]) -> Iterator[Path]:
    """Yield each file in `folder` once it stands still, and again when it has changed; stop when `wait` says so."""
    seen: dict[Path, tuple[int, int]] = {}
    before: dict[Path, tuple[int, int]] | None = None
    while True:
        found = _files(folder)
        for path, mark in sorted(found.items()):
            if seen.get(path) != mark and (before is None or before.get(path) == mark):
                seen[path] = mark
                yield path
        before = found
        if not wait():
            return


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    try:
        return {
            path: (status.st_size, status.st_mtime_ns)
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.is_file()
            for status in [path.stat()]
        }
    except FileNotFoundError as error:
        if folder.is_dir():
            return _files(folder)  # a file went away between being named and being looked at
        raise StorageError(f"there is no folder {folder} to watch") from error
    except OSError as error:
        raise StorageError(f"cannot look into {folder}: {error.strerror}") from error


def _wait(once: bool) -> bool:
    if not once:
        time.sleep(POLL_SECONDS)
    return not once


def _import(reading: Reading, path: Path, *, accept_valid: bool, dry_run: bool, quiet: bool) -> ImportReport:
    store, form = store_of(reading.client), reading.form.value if reading.form else detect(path, reading.encoding)
    by_identifier = form == "fhir" if reading.identifiers is None else reading.identifiers
    names = names_of(reading.client, enrol=not dry_run) if by_identifier else as_they_are
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.completed} entries"), TimeElapsedColumn(), console=Console(stderr=True)
    )
    with bar if bar.console.is_terminal and not quiet else nullcontext():
        return take(
            store,
            _entries(reading, form, path),
            utc_now(),
            accept_valid=accept_valid,
            dry_run=dry_run,
            names=names,
            on_batch=partial(bar.advance, bar.add_task("import", total=None)),
        )


def _entries(reading: Reading, form: Form, path: Path) -> Iterator[Entry]:
    zone = zone_of(reading.zone)
    if form == "jsonl":
        return jsonl.entries(path, reading.encoding)
    if form == "csv":
        return tabular.entries(path, tabular.Layout(utc_now(), reading.columns, reading.given, zone, reading.encoding))
    check = validator() if reading.validate else (lambda _resource: None)
    return fhir_entries(path, fhir.How(utc_now(), zone, reading.assumed, check), reading.encoding)


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    found = {}
    for text in texts or []:
        left, equals, right = text.partition("=")
        if not (left and equals and right):
            raise ConfigError(f"{option}: expected NAME=VALUE; found {text!r}")
        found[left] = right
    return found


def _print(report: ImportReport, path: Path, output: Format, dry_run: bool) -> None:
    if output is Format.json:
        plain: dict[str, Any] = {"file": str(path), "dry_run": dry_run} | to_plain(report)
        print_json(plain)
        return
    for place, reason in report.rejected:
        console.print(f"{place}: {reason}", style="yellow", markup=False, soft_wrap=True)
    for code, count in report.not_understood.items():
        console.print(f"not understood ({code}): {count}, read as a refusal", style="yellow", soft_wrap=True)
    if report.aside:
        console.print(f"{len(report.aside)} entries say nothing about the use of data", style="dim", soft_wrap=True)
    would = "would be " if dry_run else ""
    console.print(
        f"{path}: {report.accepted} events {would}added, {report.known} known already, {report.refused} of "
        f"{report.entries} entries refused",
        markup=False,
        soft_wrap=True,
    )
