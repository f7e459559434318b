"""Pages: templates, the one style, and how values are written for people. Every string is escaped and made visible."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from fedge.audit.verify import Verification
from fedge.reports.salvage import UNREADABLE
from fedge.reports.viewer.index import Row
from fedge.reports.visible import shown
from fedge.reports.words import REASONS

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0b57b0"/>'
    '<path d="M4 8.2l2.8 2.8L12 5.4" fill="none" stroke="#fff" stroke-width="2"/></svg>'
)
VERDICTS: Mapping[str, tuple[str, str]] = {
    "PROVEN": ("good", "The log holds"),
    "MISSING": ("warn", "The log holds, as far as it was shown"),
    "FAILED": ("bad", "The log does not hold"),
}
"""The verifier's verdict: how it looks, and in words."""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fedge.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.filters |= {
        "moment": moment,
        "reason": lambda code: REASONS.get(code, code.replace("_", " ")),
        "words": lambda code: code.replace("_", " "),
        "number": number,
        "count": count,
        "thousands": lambda value: f"{value:,}",
        "told": told,
        "inner": inner,
        "about": lambda event: "not readable" if event == UNREADABLE else event.replace("_", " "),
    }
    environment.globals |= {"verdict": verdict, "isinstance": isinstance, "Mapping": Mapping}
    return environment


def page(template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """Return the page that `viewer/<template>.html` makes of `values`."""
    html = _environment().get_template(f"viewer/{template}.html").render(**values)
    return HTMLResponse(html.encode("utf-8", "replace"), status)


@lru_cache(maxsize=1)
def style() -> str:
    """Return the style of all pages: that of reports, and what only the viewer has."""
    folder = resources.files("fedge.reports") / "templates"
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("report.css", "viewer/viewer.css")]
    return "\n".join(texts)


def verdict(found: Verification) -> tuple[str, str]:
    """Return how a verdict looks, and what it says."""
    return VERDICTS[found.verdict]


def moment(at: str | datetime) -> str:
    """Return a time as people read it, in UTC, to the second."""
    text = at.isoformat() if isinstance(at, datetime) else at
    return f"{text[:10]} {text[11:19]}"


def count(value: int, one: str, many: str = "") -> str:
    """Return how many there are of something, in words: `1 entry`, `2 entries`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def number(value: float | str | None, digits: int = 4) -> str:
    """Return a number with four digits that count, a dash for none."""
    if value is None:
        return "—"
    return "unlimited" if float(value) == float("inf") else f"{float(value):.{digits}g}"


def told(row: Row) -> str:
    """Return what a list of entries says of one, in words."""
    said = row.said
    codes = [said[k] for k in ("work", "outcome", "scope", "kind") if said.get(k)]
    if "organisation" in said:
        codes.append(f"of organisation {said['organisation']}")
    if "accepted" in said:
        codes.append(f"{said['accepted']} accepted")
    if said.get("void"):
        codes.append("void")
    if "effective_at" in said:
        codes.append(f"took effect {_after(said)} after it was asked for")
    reason = [REASONS.get(said["reason"], said["reason"].replace("_", " "))] if said.get("reason") else []
    client = [row.client] if row.client and row.client != row.signer else []
    return ", ".join([*client, *codes, *reason])


def _after(said: Mapping[str, Any]) -> str:
    """Return how long a withdrawal or an erasure took to take effect."""
    asked = said.get("withdrawn_at") or said["requested_at"]
    seconds = (datetime.fromisoformat(said["effective_at"]) - datetime.fromisoformat(asked)).total_seconds()
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def inner(value: Any) -> str:
    """Return a list of plain values, or what else a table of fields shows in one line."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(inner, value)) or "—"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)
