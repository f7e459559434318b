"""`fedge report serve`: look around in checked bundles, in a browser, on this machine."""

from __future__ import annotations

import ipaddress
import secrets
import signal
import socket
import tempfile
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from fedge.cli.output import console
from fedge.encoding import utc_now
from fedge.errors import ConfigError
from fedge.reports.bundle import opened

if TYPE_CHECKING:
    from concurrent.futures import Future

    from fedge.reports.viewer.shelf import Volume

LOCAL = ("localhost", "127.0.0.1", "[::1]")
EVERYWHERE = ("0.0.0.0", "::", "")
PORT = 8733
EXPOSED = (
    "[bold yellow]Everybody who reaches {host} over the network can ask this server, and the connection is not "
    "encrypted:[/] whoever listens on the way reads the token and the evidence. Better leave --host out and come by a "
    "tunnel: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE"
)


def serve_command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Runs: folders, folders of runs, or ZIPs; they are read.")
    ],
    policy: Annotated[
        list[Path] | None, typer.Option(help="A policy file that reached you by another way; repeat it for each log.")
    ] = None,
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free port.", min=0, max=65535)] = PORT,
    host: Annotated[
        str, typer.Option(help="The address to listen on. Any but a loopback address lets the network in, unencrypted.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None, typer.Option(help="A further name by which browsers ask for this server, without port.")
    ] = None,
) -> None:
    """Look around in bundles in a browser: search, proofs, clients, rounds, receipts. Nothing can be changed.

    Every bundle is checked before anything of it is shown. Sign in by the link that is printed; end with Ctrl-C.
    """
    try:  # here: only this command needs them
        import uvicorn

        from fedge.reports.viewer.apart import Apart
        from fedge.reports.viewer.app import viewer
        from fedge.reports.viewer.checking import check
        from fedge.reports.viewer.guard import Gate
        from fedge.reports.viewer.shelf import Shelf
    except ImportError as error:
        raise ConfigError(f"the viewer needs {error.name}: pip install 'fedge[viewer]'") from error
    with ExitStack() as stack:
        found = [b for path in bundles for b in stack.enter_context(opened(path)).bundles]
        listening = stack.enter_context(closing(_listen(host, port)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedge-viewer-")))
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        gate = Gate(token, secrets.token_urlsafe(32), _names(host, port, name or []), f"fedge-viewer-{port}")
        apart = Apart()
        shelf = Shelf(found, folder, policy or [], utc_now, lambda *asked: apart(check, *asked))
        stack.callback(apart.close)
        stack.callback(shelf.close)  # first: no further check begins
        for volume, checking in zip(shelf.volumes.values(), shelf.check_all(), strict=True):
            checking.add_done_callback(partial(_tell_checked, volume))
        _tell(host, name[0] if name and host in EVERYWHERE else host, port, token, len(found))
        server = uvicorn.Server(
            uvicorn.Config(
                viewer(shelf, gate),
                log_level="error",
                access_log=False,  # it would write the token
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_graceful_shutdown=2,
            )
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # else it would leave the index behind
        stack.enter_context(suppress(KeyboardInterrupt))  # how this command is ended
        server.run(sockets=[listening])


def _tell(host: str, name: str, port: int, token: str, count: int) -> None:
    """Print the link, and before it what listening on `host` means if it is not a loopback address."""
    if not _loopback(host):
        console.print(EXPOSED.format(host=escape(name), port=port), soft_wrap=True)
    what = "1 bundle is" if count == 1 else f"{count} bundles are"
    console.print(f"{what} being checked. Open this link, which signs you in, and keep it to yourself:", soft_wrap=True)
    shown = f"[{name}]" if ":" in name else name
    console.print(f"http://{shown}:{port}/signin?token={token}", soft_wrap=True, markup=False)
    console.print("Ctrl-C ends it.", style="dim")


def _tell_checked(volume: Volume, checking: Future[None]) -> None:
    """Say what the check of a bundle has found."""
    checked, name = volume.state.checked, escape(volume.name)
    if checking.cancelled():
        return
    if checked is None:
        said = f"[bold red]not checked[/]  {name}: {escape(volume.state.trouble)}"
    elif checked.verification.holds:
        said = f"[green]holds[/]  {name}, {checked.entries:,} entries"
    else:
        said = f"[bold red]does not hold[/]  {name}: {escape(checked.verification.failures)}"
    console.print(said, soft_wrap=True)


def _names(host: str, port: int, more: list[str]) -> frozenset[str]:
    """Return what a browser may call this server."""
    own = LOCAL if _loopback(host) else (f"[{host}]" if ":" in host else host,)
    if host in EVERYWHERE and not more:
        raise ConfigError(f"--host {host} listens everywhere; say with --name how browsers call this machine")
    ports = (f":{port}", "") if port == 80 else (f":{port}",)  # browsers leave out the usual one
    return frozenset(f"{n.lower()}{p}" for n in (*own, *more) for p in ports)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror}; name another with --port, or --port 0 for any"
        ) from error
