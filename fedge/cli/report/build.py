"""`fedge report build`: the pack of one run or several, for everybody or one client, of all time or a period."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from fedge.audit.verify import Unproven, since
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.cli.report.reading import FOLDER, MADE_BY, bundles_of
from fedge.encoding import timestamp, utc_now
from fedge.errors import AuditError, ConfigError, StorageError
from fedge.pack import build as packs
from fedge.pack.forms import FORMATS, PDF, forms
from fedge.reports.bundle import Bundle
from fedge.reports.evidence import Scope
from fedge.reports.judged import Judged, judge
from fedge.reports.pdf import typst_version
from fedge.reports.report import Request, Signer
from fedge.reports.words import LANGUAGES, words
from fedge.rounds.folder import RunFolder
from fedge.signing import PASSPHRASE, PrivateKey, load_private


def build_command(  # noqa: PLR0913, PLR0917 - one parameter an option
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or of many runs, or ZIPs.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pack. Of one run: its own folder's report/.")] = None,
    client: Annotated[str | None, typer.Option(help="Only what concerns this client.")] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Not before: 24h, 7d, or a time.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Not after: 24h, 7d, or a time.")] = None,
    language: Annotated[str, typer.Option(help=f"One of {', '.join(LANGUAGES)}.")] = "en",
    policy: Annotated[Path | None, typer.Option(help="A policy file that reached you by another way.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key to sign with; else the server's, if here.")] = None,
    formats: Annotated[str | None, typer.Option(help=f"Some of {','.join(FORMATS)}; default: all.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """Write the report of runs from their logs alone: JSON, HTML, PDF, CSV, model card, bill of materials, and one ZIP.

    Exit code 7 if a log does not hold; the pack is written all the same, and says so first.
    """
    words(language)
    chosen = _formats(formats)
    with bundles_of(runs) as bundles:
        place = out or _place(runs, bundles)
        judged = [judge(bundle, policy) for bundle in bundles]
        scope = Scope(client, _moment("--from", from_), _moment("--to", to))
        _check_scope(scope, judged)
        signing, whose = _key(key, bundles, judged)
        signer = Signer(signing.public.text, whose) if signing and whose else None
        request = Request(timestamp(utc_now()), MADE_BY, language, scope, _text(policy), signer)
        pack = packs.build(forms(judged, request), bundles, place, chosen, signing)
    _say(pack, signer, chosen, output)
    if broken := [run.name for run in judged if not run.holds]:
        raise AuditError(f"the log of {', '.join(broken)} does not hold; the report says so, and why")


def _formats(text: str | None) -> list[str]:
    if text is None:
        return [f for f in FORMATS if f != "pdf" or typst_version()]
    chosen = text.split(",")
    if unknown := [f for f in chosen if f not in FORMATS]:
        raise ConfigError(f"--formats: {unknown[0]!r} is not one of {', '.join(FORMATS)}")
    return chosen


def _place(runs: Sequence[Path], bundles: Sequence[Bundle]) -> Path:
    if len(bundles) == 1 and runs[0].is_dir():
        return bundles[0].root / FOLDER
    raise ConfigError("--out: name a folder for the pack; only the report of one run's folder has a place of its own")


def _check_scope(scope: Scope, judged: Sequence[Judged]) -> None:
    """Refuse a report that would say nothing, for a client misspelled or a period the wrong way round."""
    if scope.since and scope.until and scope.since > scope.until:
        raise ConfigError("--from is later than --to")
    known = sorted({e.payload["client"] for run in judged for e in run.entries if e.event == "client_enrol"})
    if scope.client is not None and known and scope.client not in known:
        raise ConfigError(f"--client: no log knows {scope.client!r}; known: {', '.join(known)}")


def _moment(option: str, text: str | None) -> str | None:
    try:
        return timestamp(since(text, utc_now())) if text else None
    except Unproven as error:
        raise ConfigError(f"{option}: {error}") from error


def _text(policy: Path | None) -> str | None:
    try:
        return policy.read_text(encoding="utf-8") if policy else None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read the policy file {policy}: {error}") from error


def _key(
    given: Path | None, bundles: Sequence[Bundle], judged: Sequence[Judged]
) -> tuple[PrivateKey | None, Literal["server", "given"] | None]:
    """Return the key to sign with, and whose it is: the one given, or the server's if the logs name it, or none."""
    passphrase = os.environ.get(PASSPHRASE)
    named = {run.entries[0].payload.get("server_key") for run in judged if run.entries}
    if given is not None:
        key = load_private(given, passphrase)
        return key, "server" if named == {key.public.text} else "given"
    kept = [path for b in bundles if (path := RunFolder(b.root).server / "server.key").is_file()]
    if len(kept) != len(bundles):
        return None, None
    keys = [load_private(path, passphrase) for path in kept]
    return (keys[0], "server") if named == {key.public.text for key in keys} and len(named) == 1 else (None, None)


def _say(pack: packs.Pack, signer: Signer | None, chosen: Sequence[str], output: Format) -> None:
    if output is Format.json:
        print_json(
            {
                "folder": str(pack.folder),
                "files": list(pack.files),
                "bytes": pack.bytes,
                "digest": pack.digest,
                "signed_by": signer.key if signer else None,
            }
        )
        return
    whose = {"server": "signed by the run's server", "given": "signed by your key"}
    signed = whose[signer.whose] if signer else "not signed: no server key is here, and none was given with --key"
    console.print(f"{pack.folder}: {len(pack.files)} files, {pack.bytes / 1e6:.1f} MB; {signed}", soft_wrap=True)
    for name in pack.files:
        console.print(f"  {name}", style="dim")
    if "pdf" not in chosen:
        console.print(f"{PDF} was left out: pip install 'fedge[pdf]'" if not typst_version() else f"no {PDF}, as asked")
    console.print(f"check it: [bold]fedge report check {pack.folder}[/]", soft_wrap=True)
