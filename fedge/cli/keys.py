"""`fedge keys`: look at keys, change, protect, revoke them; each change is a log entry that everybody can check."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from fedge.audit.leaves import ClientRetire, KeyRevoke, Leaf
from fedge.audit.log import AuditLog
from fedge.cli.clients import one_client
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.encoding import timestamp, utc_now
from fedge.errors import AuditError, ConfigError
from fedge.ids import client_id
from fedge.rounds.book import Book
from fedge.rounds.folder import RunFolder
from fedge.rounds.keys import ask_for_change
from fedge.signing import PASSPHRASE, PublicKey, load_private, protect_private
from fedge.storage import journal_of

app = typer.Typer(
    help="Keys of clients and servers: show, change, protect, revoke.", no_args_is_help=True, add_completion=False
)

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="A client's folder, or a run's.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a stopped run.")]
NameArgument = Annotated[str, typer.Argument(metavar="CLIENT", help="A client's name, e.g. hospital-1.")]
SIGNS = {
    "client": "what the client states",
    "witness": "checkpoints, as a witness",
    "server": "orders and the server's entries",
    "log": "checkpoints, as the log",
}


@app.command(epilog="Example:  fedge keys show runs/RUN/clients/hospital-1")
def show(folder: FolderArgument, output: FormatOption = Format.text) -> None:
    """List the public keys whose private halves lie in a folder; a private key is never printed."""
    rows = [(path, load_private(path, _passphrase()).public) for path in _key_files(folder)]
    if output is Format.json:
        print_json([{"file": str(p), "key_id": k.key_id, "key": k.text, "signs": _signs(p)} for p, k in rows])
        return
    for path, key in rows:
        console.print(f"{path.relative_to(folder)}: {key.key_id}, signs {_signs(path)}\n    {key.text}", soft_wrap=True)


@app.command(epilog="Example:  fedge keys rotate runs/RUN/clients/hospital-1")
def rotate(client: Annotated[Path, typer.Argument(metavar="CLIENT", help="One client's folder.")]) -> None:
    """Change a client's key: its next answer states the change under the old key, the new one signs what follows."""
    fresh = ask_for_change(one_client(client).key, os.urandom, _passphrase())
    console.print(f"key {fresh.public.key_id} takes effect with the next answer of {client}", soft_wrap=True)


@app.command(epilog="Example:  fedge keys passphrase runs/RUN/clients/hospital-1")
def passphrase(
    folder: FolderArgument,
    remove: Annotated[bool, typer.Option("--remove", help="Leave the key files without a passphrase.")] = False,
) -> None:
    """Put the key files of a folder under a new passphrase; the keys stay the same.

    The present passphrase, if any, is taken from the environment: FEDGE_KEY_PASSPHRASE.
    """
    files = list(_key_files(folder))
    for path in files:
        load_private(path, _passphrase())  # all can be opened, or none is touched
    chosen = None if remove else typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True)
    for path in files:
        protect_private(path, _passphrase(), chosen)
    how = "without a passphrase" if remove else f"under the new passphrase; give it in {PASSPHRASE} when fedge runs"
    console.print(f"{len(files)} key files are now {how}", soft_wrap=True)


@app.command(epilog="Example:  fedge keys revoke runs/RUN hospital-2 --reason key_stolen")
def revoke(
    run: RunArgument,
    client: NameArgument,
    reason: Annotated[str, typer.Option(help="A code for the log, e.g. key_stolen.")],
    key: Annotated[str | None, typer.Option(metavar="KEYID", help="Another key of that client than its last.")] = None,
    from_index: Annotated[
        int | None, typer.Option("--from", metavar="ENTRY", help="What it signed from this entry on counts as nothing.")
    ] = None,
) -> None:
    """State in the log that a client's key speaks for nobody, from now on or from an earlier entry on."""
    book = _book(run)
    known = {k.key_id for k in _known_keys(book, client)}
    chosen = key or book.chain(client_id(client)).key.key_id
    if chosen not in known:
        raise ConfigError(f"--key {chosen}: {client} never had this key; it has had {', '.join(sorted(known))}")
    start = book.log.size if from_index is None else from_index
    _state(book, KeyRevoke(_run_of(book), timestamp(utc_now()), client, chosen, start, reason))
    console.print(f"key {chosen} of {client} is revoked from entry {start} on; the next round seals it", soft_wrap=True)


@app.command(epilog="Example:  fedge keys retire runs/RUN hospital-2 --reason left_the_study")
def retire(
    run: RunArgument, client: NameArgument, reason: Annotated[str, typer.Option(help="A code for the log.")]
) -> None:
    """State in the log that a client has left the run: nothing it signs afterwards counts, and it is asked no more."""
    book = _book(run)
    _known_keys(book, client)
    if client_id(client) not in book.active:
        raise ConfigError(f"{client} has left already, or its key is revoked")
    _state(book, ClientRetire(_run_of(book), timestamp(utc_now()), client, reason))
    console.print(f"{client} is retired; the next round seals it", soft_wrap=True)


def _passphrase() -> str | None:
    return os.environ.get(PASSPHRASE)


def _key_files(folder: Path) -> Iterator[Path]:
    """Yield the key files at or below `folder`; `pseudonym.key` is a secret, and no key of this kind."""
    found = [p for p in sorted(folder.rglob("*.key")) if p.stem in SIGNS]
    if not found:
        raise ConfigError(f"{folder} holds no key file; name a client's folder, or a run's")
    yield from found


def _signs(path: Path) -> str:
    return SIGNS[path.stem]


def _book(run: Path) -> Book:
    """Return the server's book of a stopped run, from where its log lies."""
    folder, name = RunFolder(run), run.resolve().name
    if not (folder.server / "log.key").is_file():
        raise ConfigError(f"{run} is not the folder of a run with the server's keys; this is for the server's operator")
    server_key, log_key = (load_private(folder.server / f"{who}.key", _passphrase()) for who in ("server", "log"))
    book = Book(AuditLog(journal_of(run), f"fedge/{name}", log_key), server_key)
    book.log.check_not_behind(folder.audit)
    return book


def _run_of(book: Book) -> str:
    if book.opening is None:
        raise AuditError("the log of this run is empty; nobody is enrolled")
    if book.finished:
        raise AuditError("the run is closed, and a closed log takes no entry; a key is revoked in the runs that go on")
    return book.opening.run


def _known_keys(book: Book, client: str) -> tuple[PublicKey, ...]:
    if client not in book.enrolled:
        raise ConfigError(f"the run knows no client {client!r}; it knows {', '.join(sorted(book.enrolled))}")
    return tuple(book.chain(client_id(client)).keys)


def _state(book: Book, leaf: Leaf) -> None:
    book.append([leaf])
    trust = book.trust()
    if len(set(trust.organisations.values())) < trust.quorum:
        console.print(
            f"[yellow]Fewer than {trust.quorum} organisations are left to vouch for the log: no round can be released "
            "any more. Start a new run.[/]",
            soft_wrap=True,
        )
