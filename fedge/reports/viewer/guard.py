"""The guard before every page: who may ask, by which name, how much; and what a browser may do with an answer.

    Host        a name that the server was started for: a stranger's page that has its own name point to this machine
                (DNS rebinding) is turned away
    method      GET and HEAD; POST only from a page of this server
    sign-in     a token, printed when the server starts, compared in constant time; then a cookie
    size        what is sent is cut off at MAX_UPLOAD

It stands outside the application: a page that is added later cannot forget it.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD = 4 * 2**20
"""Bytes of what a browser may send: some twenty receipts of the largest kind."""
OPEN = frozenset({"/style.css", "/icon.svg", "/signin"})
"""What is answered without sign-in: nothing of a bundle is in it."""
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",  # with "no-referrer" a form of our own would come from origin "null"
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)
Refuse = Callable[[int, str], Response]
"""(status, why) -> a page that says so"""


@dataclass(frozen=True)
class Gate:
    """Who may come in: the token of the link, the value of the cookie, the names in `Host` (with port)."""

    token: str
    session: str
    hosts: frozenset[str]
    cookie: str = "fedge-viewer"

    def knows(self, token: str) -> bool:
        """Return whether `token` is the one that was printed; takes as long for any other of its length."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def signed_in(self, request: Request) -> bool:
        """Return whether the request bears the cookie."""
        return hmac.compare_digest(request.cookies.get(self.cookie, "").encode(), self.session.encode())

    def admit(self, response: Response) -> None:
        """Let the browser of `response` in from now on, until it is closed; scripts and other sites cannot use it."""
        response.set_cookie(self.cookie, self.session, httponly=True, samesite="strict", path="/")


class Guard:
    """The ASGI application that asks first, and passes on what may be answered."""

    def __init__(self, app: ASGIApp, gate: Gate, refuse: Refuse) -> None:
        self._app, self._gate, self._refuse = app, gate, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have the application answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket: there is none
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, _counted(receive), _with_headers(send))

    def _refusal(self, request: Request) -> Response | None:
        if request.headers.get("host", "").lower() not in self._gate.hosts:
            return self._refuse(400, "This server was not started for the name by which you ask for it.")
        if request.method not in {"GET", "HEAD", "POST"}:
            return self._refuse(405, "Nothing can be changed here.")
        if request.url.path in OPEN and request.method != "POST":
            return None
        if not self._gate.signed_in(request):
            return self._refuse(401, "")
        if request.method == "POST" and not _own_page(request):
            return self._refuse(403, "The request came from a page of another site.")
        return None


def _own_page(request: Request) -> bool:
    """Return whether a POST comes from a page of this server; a program that is no browser sends neither header."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    own = f"{request.url.scheme}://{request.headers['host']}"
    return site in {"same-origin", "none"} and origin in {None, own}


def _counted(receive: Receive) -> Receive:
    """Receive as before, up to MAX_UPLOAD bytes, whatever Content-Length says."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_UPLOAD:
            raise HTTPException(413, f"More than {MAX_UPLOAD // 2**20} MB were sent.")
        return message

    return counted


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(dict(HEADERS))
        await send(message)

    return with_headers
