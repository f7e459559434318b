"""`fedge audit prove`, `receipt`, `reconcile`, `findings`, `trust-again` and `export`: evidence, made and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from fedge.audit import verify
from fedge.audit.log import POLICY, published
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.proof import Receipt
from fedge.cli.clients import client_folders, one_client
from fedge.cli.entries import RunArgument, entries_of
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.encoding import timestamp, to_plain, utc_now
from fedge.errors import AuditError, ConfigError, StorageError
from fedge.export import export as export_run
from fedge.files import write_atomically
from fedge.reconcile import Reconciliation
from fedge.reconcile import reconcile as compare
from fedge.reports.proved import proved
from fedge.rounds.findings import Finding, Findings

MARKS = {"pending": "yellow"}


def prove(
    run: RunArgument,
    entry: Annotated[int, typer.Argument(metavar="ENTRY", help="The number of an entry.")],
    out: Annotated[Path | None, typer.Option(help="Write the proof here; without it, to stdout.")] = None,
) -> None:
    """Make the proof that an entry is in the log: one .tlog-proof with the entry and the cosigned checkpoint."""
    entries = entries_of(run)
    if not 0 <= entry < len(entries):
        raise ConfigError(f"the log has entries 0 to {len(entries) - 1}, not {entry}")
    (receipt,) = proofs(run, entries, [entry])
    if out is None:
        typer.echo(receipt.text, nl=False)
        return
    write_atomically(out, receipt.text.encode())
    console.print(f"{out}; check it with: fedge audit receipt {out} --policy {run / 'audit' / POLICY}", soft_wrap=True)


def proofs(run: Path, entries: Sequence[verify.Entry], wanted: Sequence[int]) -> list[Receipt]:
    """Return the proof of each of the `wanted` entries, under the checkpoint that `run` shows.

    Raises AuditError if it shows none.
    """
    note = published(run / "audit")
    if note is None:
        raise AuditError(f"{run} holds no published checkpoint")
    tree = Tree(leaf_hash(e.raw) for e in entries)
    return [Receipt(i, tuple(tree.inclusion(i)), note, entries[i].raw) for i in wanted]


def receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tlog-proof, from `prove` or from a client.")],
    policy: Annotated[Path, typer.Option(help="The policy file with the keys that you trust.")],
    output: FormatOption = Format.text,
) -> None:
    """Check one receipt by itself: that its entry is in the log, and who vouches for that. Exit code 7 if it is not."""
    try:
        plain = proved(_text(file), verify.parse_policy(_text(policy))).plain
    except verify.Unproven as error:
        raise AuditError(f"{file}: {error}") from error
    if output is Format.json:
        print_json(plain)
        return
    said, vouching = plain["payload"], plain["vouching"]
    console.print(
        f"[green]PROVEN[/]  entry {plain['entry']} of log {plain['log']} is this {plain['event']} of "
        f"{plain['signer']}, {said['at']}",
        soft_wrap=True,
    )
    mark = "[green]PROVEN[/] " if len(vouching) >= plain["quorum"] else "[yellow]MISSING[/]"
    console.print(
        f"{mark} {len(vouching)} organisations vouch for its checkpoint of {plain['entries']} entries, "
        f"{plain['quorum']} are needed{': ' + escape(', '.join(vouching)) if vouching else '; the log has signed it'}",
        soft_wrap=True,
    )


def reconcile(
    run: RunArgument,
    clients: Annotated[Path | None, typer.Option(help="The clients' folders, if they are not in the run's.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """Compare the log with the clients' own records; name what was dropped, forked, hidden. Exit code 7 if any was."""
    found = compare(run, client_folders(clients or run))
    if output is Format.json:
        print_json({"agrees": found.agrees} | to_plain(found))
    else:
        _print_reconciliation(found)
    if not found.agrees:
        grave = [d for d in found.differences if d.grave]
        raise AuditError(f"the log and its clients disagree in {len(grave)} places; see above")


def findings(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run, a client's folder, or a home of clients.")],
    output: FormatOption = Format.text,
) -> None:
    """List what clients have found against a server's log, with what became of it."""
    rows = list(_findings(path))
    if output is Format.json:
        print_json(rows)
        return
    for row in rows:
        style, what = ("bold red", row["text"]) if row["kind"] == "finding" else ("green", f"cleared: {row['because']}")
        console.print(f"{row['client']}  {row['at']}  run {row['run']}  [{style}]{escape(what)}[/]", soft_wrap=True)
    if not rows:
        console.print("nothing was found against any log")


def trust_again(
    client: Annotated[Path, typer.Argument(metavar="CLIENT", help="One client's folder.")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, as `fedge audit findings` shows it.")],
    because: Annotated[str, typer.Option(help="Why; it is kept with the finding.")],
) -> None:
    """Let a client work again for a log it has found false. Its pin stays: a log that is still false stops it again."""
    folder = one_client(client)
    Findings(folder.journal("findings")).clear(run, timestamp(utc_now()), because)
    console.print(f"{folder.root.name} works for run {run} again", soft_wrap=True)


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Argument(metavar="TO", help="A new folder, or with --zip a new file.")],
    zipped: Annotated[bool, typer.Option("--zip", help="Write one zip file.")] = False,
    output: FormatOption = Format.text,
) -> None:
    """Write what anybody may see of a run, ready to be served and checked: log, receipts, keys, verifier, README."""
    files = export_run(run, to, zipped=zipped)
    if output is Format.json:
        print_json({"to": str(to), "files": [str(f) for f in files]})
        return
    console.print(f"{len(files)} files written to {to}; README.md there says how to check them", soft_wrap=True)


def _print_reconciliation(found: Reconciliation) -> None:
    for d in found.differences:
        which = "" if d.statement is None else f" statement {d.statement}"
        style = MARKS.get(d.kind, "bold red")
        console.print(f"[{style}]{d.kind:<8}[/] {d.client}{which}: {escape(d.text)}", soft_wrap=True)
    counts = ", ".join(f"{client} {n}" for client, n in found.statements.items())
    console.print(f"compared {found.entries} entries of {found.run} with the statements of {counts}", soft_wrap=True)
    if found.agrees:
        console.print("[bold green]The log holds what its clients say.[/]")


def _findings(path: Path) -> Iterator[dict[str, Any]]:
    for client, folder in client_folders(path).items():
        for item in Findings(folder.journal("findings")).history():
            kind = "finding" if isinstance(item, Finding) else "cleared"
            yield {"client": client, "kind": kind} | to_plain(item)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error
