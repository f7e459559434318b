"""The viewer as an ASGI application: addresses, and what each answers. Nothing can be changed through it.

    /                          the bundles that are open
    /RUN                       one run: verdict, figures, who took part, what went wrong
    /RUN/entries?…             search; /RUN/entries/7 one entry and its proof, …/7/proof the same as a file, …/7/receipt
    /RUN/clients[/NAME]        clients; /RUN/rounds[/N] rounds
    /RUN/checks                what the verifier says; POST has it say so anew
    /receipts                  receipts that somebody holds, judged; POST sends them
    /compare?a=RUN&b=RUN       two runs side by side

A name in an address is looked up among the open bundles and in their indices. No path is ever made of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from fedge.audit.verify import LIMITS
from fedge.reports.diff import changes
from fedge.reports.viewer import views
from fedge.reports.viewer.checking import Checked
from fedge.reports.viewer.entry import entry_view, receipt_text
from fedge.reports.viewer.guard import Gate, Guard
from fedge.reports.viewer.index import Index, Query
from fedge.reports.viewer.pages import ICON, page, style
from fedge.reports.viewer.receipts import MAX_RECEIPTS, judge
from fedge.reports.viewer.shelf import Shelf, Volume

PATIENCE = 3.0
"""Seconds that the button waits for the verifier before the page says that it is still at work."""
ACTS = ("withdrawal_effective", "erasure_effective", "key_rotate", "key_revoke", "client_retire", "update_rejected")
"""What a client's page lists besides its statements of data use."""
NOTABLE = ("incident", "update_rejected", "withdrawal_effective", "erasure_effective", "policy_change", "key_revoke",
           "run_stopped", "run_resumed")  # fmt: skip
"""What a run's page lists one by one."""
View = Callable[[Request, Volume, Checked], Response]


def viewer(shelf: Shelf, gate: Gate) -> Guard:
    """Return the application over the bundles of `shelf`, for whoever passes `gate`."""
    pages = _Pages(shelf, gate)
    routes = [
        Route("/", pages.overview),
        Route("/style.css", lambda _: Response(style(), media_type="text/css")),
        Route("/icon.svg", lambda _: Response(ICON, media_type="image/svg+xml")),
        Route("/signin", pages.sign_in),
        Route("/receipts", pages.receipts),
        Route("/receipts", pages.judged, methods=["POST"]),
        Route("/compare", pages.compare),
        Route("/{run}", pages.of_run(_run)),
        Route("/{run}/entries", pages.of_run(_entries)),
        Route("/{run}/entries/{number}", pages.of_run(_entry)),
        Route("/{run}/entries/{number}/proof", pages.of_run(_proof)),
        Route("/{run}/entries/{number}/receipt", pages.of_run(pages.receipt)),
        Route("/{run}/clients", pages.of_run(_clients)),
        Route("/{run}/clients/{client}", pages.of_run(_client)),
        Route("/{run}/rounds", pages.of_run(_rounds)),
        Route("/{run}/rounds/{number}", pages.of_run(_round)),
        Route("/{run}/checks", pages.of_run(_checks)),
        Route("/{run}/checks", pages.check, methods=["POST"]),
    ]
    errors = {HTTPException: _refused, Exception: _failed}
    return Guard(Starlette(routes=routes, exception_handlers=errors), gate, refusal)


def refusal(status: int, why: str) -> Response:
    """Return the page that says why there is none."""
    return page("message", status, status=status, why=why)


def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = {404: "There is no such page, or no such thing in this bundle.", 405: "Nothing can be changed here."}
    detail = error.detail if isinstance(error, HTTPException) else ""
    return refusal(status, known.get(status, detail))


def _failed(request: Request, error: Exception) -> Response:
    """Say nothing of the fault to the browser; whoever runs the server reads it there."""
    logging.getLogger("fedge.viewer").error("%s failed", request.url.path, exc_info=error)
    return refusal(500, "The page could not be made. The terminal of the server says why.")


class _Pages:
    """Pages that concern more than one bundle, and the way to those that concern one."""

    def __init__(self, shelf: Shelf, gate: Gate) -> None:
        self._shelf, self._gate = shelf, gate

    def overview(self, _: Request) -> Response:
        return page("overview", volumes=list(self._shelf.volumes.values()), failures=views.failures)

    def sign_in(self, request: Request) -> Response:
        if not self._gate.knows(request.query_params.get("token", "").strip()):
            return refusal(401, "That is not the token of this server." if request.query_params else "")
        response = RedirectResponse("/", 303)
        self._gate.admit(response)
        return response

    def of_run(self, view: View) -> Callable[[Request], Response]:
        """Return the endpoint that shows `view` of the run in the address, or that it is still being checked."""

        def endpoint(request: Request) -> Response:
            volume = self._volume(request)
            checked = volume.state.checked
            return page("waiting", volume=volume) if checked is None else view(request, volume, checked)

        return endpoint

    def check(self, request: Request) -> Response:
        volume = self._volume(request)
        self._shelf.check(volume.name, PATIENCE)
        return RedirectResponse(f"/{volume.name}/checks", 303)

    def receipts(self, _: Request) -> Response:
        return page("receipts", judged=None, most=MAX_RECEIPTS)

    async def judged(self, request: Request) -> Response:
        try:
            async with request.form(max_files=MAX_RECEIPTS, max_fields=1) as form:
                sent = [f for f in form.getlist("receipt") if isinstance(f, UploadFile) and f.filename]
                files = [(f.filename or "", await f.read()) for f in sent]
        except FormParserError as error:
            raise HTTPException(400, "What was sent is not a form with files.") from error
        volumes = list(self._shelf.volumes.values())
        found = await run_in_threadpool(lambda: [judge(name, data, volumes) for name, data in files])
        return page("receipts", judged=found, most=MAX_RECEIPTS)

    def receipt(self, request: Request, volume: Volume, checked: Checked) -> Response:
        """Show the receipt that the bundle holds for an entry; its file is found by what the entry says, if signed."""
        with Index.open(checked.path) as index:
            row = index.row(_place(request))
        text = receipt_text(volume.bundle.root, row) if row else None
        if row is None or text is None:
            raise HTTPException(404)
        name = f"receipts/{row.signer}/statement-{row.seq:04d}.tlog-proof"
        return page("receipts", judged=[judge(name, text, [volume])], most=MAX_RECEIPTS)

    def compare(self, request: Request) -> Response:
        names = [request.query_params.get(side, "") for side in "ab"]
        chosen = [self._shelf.volumes[n] for n in names if n in self._shelf.volumes]
        ready = [(v, v.state.checked) for v in chosen if v.state.checked is not None]
        pair = [c for _, c in ready] if len(ready) == 2 else []
        found = changes(*({"runs": [c.report]} for c in pair)) if pair else []
        volumes = list(self._shelf.volumes.values())
        return page(
            "compare",
            volumes=volumes,
            names=names,
            chosen=[v for v, _ in ready],
            changes=found,
            figures=views.beside(*pair) if pair else [],
        )

    def _volume(self, request: Request) -> Volume:
        volume = self._shelf.volumes.get(request.path_params["run"])
        if volume is None:
            raise HTTPException(404)
        return volume


def _run(_: Request, volume: Volume, checked: Checked) -> Response:
    evidence = checked.evidence
    with Index.open(checked.path) as index:
        notable = {event: index.search(Query(event=event)) for event in NOTABLE if event in checked.counts}
    return page(
        "run",
        notable=notable,
        volume=volume,
        checked=checked,
        evidence=evidence,
        totals=views.totals(evidence),
        plots=views.run_plots(evidence),
        failures=views.failures(checked),
        linked=views.linked,
        limits=LIMITS,
        clients=views.part(evidence.clients, 1, 12),
        rounds=views.part(evidence.rounds[::-1], 1, 12),
    )


def _entries(request: Request, volume: Volume, checked: Checked) -> Response:
    asked = request.query_params
    query = Query(
        event=asked.get("event", ""),
        client=asked.get("client", "").strip(),
        round=_number(asked.get("round", "")),
        text=asked.get("text", "")[:200],
        since=asked.get("since", "")[:24],
        until=asked.get("until", "")[:24],
        faulty="faulty" in asked,
    )
    with Index.open(checked.path) as index:
        found = index.search(query, _number(asked.get("page", "")) or 1)
    names = [c.client for c in checked.evidence.clients[:200]]
    kept = [(k, v) for k, v in asked.multi_items() if k != "page" and v]
    return page("entries", volume=volume, checked=checked, query=query, found=found, names=names, kept=kept)


def _entry(request: Request, volume: Volume, checked: Checked) -> Response:
    with Index.open(checked.path) as index:
        row = index.row(_place(request))
        if row is None:
            raise HTTPException(404)
        found = entry_view(index, row, checked)
    receipt = receipt_text(volume.bundle.root, row) is not None
    return page(
        "entry",
        volume=volume,
        checked=checked,
        row=row,
        found=found,
        receipt=receipt,
        against=views.against(checked, row.number),
    )


def _proof(request: Request, volume: Volume, checked: Checked) -> Response:
    with Index.open(checked.path) as index:
        row = index.row(_place(request))
        text = entry_view(index, row, checked).receipt if row else None
    if row is None or text is None:
        raise HTTPException(404)
    name = f"{volume.name}-entry-{row.number:06d}.tlog-proof"
    return PlainTextResponse(text, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _clients(request: Request, volume: Volume, checked: Checked) -> Response:
    shown = views.part(checked.evidence.clients, _number(request.query_params.get("page", "")) or 1)
    return page("clients", volume=volume, checked=checked, clients=shown)


def _client(request: Request, volume: Volume, checked: Checked) -> Response:
    name = request.path_params["client"]
    client = next((c for c in checked.evidence.clients if c.client == name), None)
    if client is None:
        raise HTTPException(404)
    with Index.open(checked.path) as index:
        found = index.search(Query(client=name, event="data_use"), _number(request.query_params.get("page", "")) or 1)
        acts = [r for event in ACTS for r in index.search(Query(client=name, event=event)).rows]
    return page(
        "client",
        volume=volume,
        checked=checked,
        client=client,
        found=found,
        plot=views.client_plot(client) if client.epsilon else None,
        acts=acts,
    )


def _rounds(request: Request, volume: Volume, checked: Checked) -> Response:
    shown = views.part(checked.evidence.rounds, _number(request.query_params.get("page", "")) or 1)
    return page("rounds", volume=volume, checked=checked, rounds=shown)


def _round(request: Request, volume: Volume, checked: Checked) -> Response:
    number = _place(request)
    with Index.open(checked.path) as index:
        rows = index.of_round(number)
        closing = next((r for r in rows if r.event == "round_close"), None)
        if closing is None:
            raise HTTPException(404)
        said = entry_view(index, closing, checked)
        lists = [entry_view(index, r, checked) for r in rows if r.event == "round_roll"]
    parts = [part for one in (*lists, said) for part in one.fields.get("participants", [])]
    return page(
        "round",
        volume=volume,
        checked=checked,
        row=closing,
        said=said,
        asked=len(parts),
        uses={r.client: r for r in rows if r.event == "data_use" and r.said.get("work") == "train"},
        others=[r for r in rows if r.event not in {"data_use", "round_roll", "round_close"}],
        parts=views.part(parts, _number(request.query_params.get("page", "")) or 1),
    )


def _checks(_: Request, volume: Volume, checked: Checked) -> Response:
    return page("checks", volume=volume, checked=checked, linked=views.linked, limits=LIMITS)


def _place(request: Request) -> int:
    number = _number(request.path_params["number"])
    if number is None:
        raise HTTPException(404)
    return number


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
