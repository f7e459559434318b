"""What somebody wants to do with the data, and whether a permission event speaks of that at all.

A permission speaks if it covers the whole request: its purpose, its data set, its categories, the period of its data.
What the request does not say is not covered by a permission that is limited in it. A no speaks if it touches any part
of the request, and what the request does not say is touched: closed by default, both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fedge.consent.events import PermissionEvent
from fedge.consent.purposes import CODES, covers, purpose, short, touches


@dataclass(frozen=True)
class Request:
    """A use of data: for a purpose, on a data set with such categories from such a period, under such facts.

    `facts` are what the operator states about the use, in the words of `conditions`.
    """

    purpose: str
    dataset: str | None = None
    categories: tuple[str, ...] = ()
    data_from: str | None = None
    data_until: str | None = None
    controller: str | None = None
    facts: frozenset[str] = frozenset()

    @cached_property
    def wanted(self) -> str:
        """The purpose's name; of an unknown purpose the word itself, which nothing covers."""
        code = short(self.purpose)
        return CODES.get(code, code)


def request_for(wanted: str | Request) -> Request:
    """Return `wanted`, or the request that states nothing but the purpose."""
    return Request(wanted) if isinstance(wanted, str) else wanted


def names_purpose(event: PermissionEvent, request: Request) -> bool:
    """Return whether `event` names the request's purpose: a permission one above it, a no one above or below."""
    if event.permits:
        return any(covers(purpose(p), request.wanted) for p in event.purposes)
    spared = any(covers(purpose(p), request.wanted) for p in event.excepted)
    return not spared and any(touches(purpose(p), request.wanted) for p in event.purposes)


def speaks(event: PermissionEvent, request: Request) -> bool:
    """Return whether `event` decides anything about the request, whatever the time is."""
    if not names_purpose(event, request):
        return False
    return _covers_scope(event, request) if event.permits else _touches_scope(event, request)


def _covers_scope(event: PermissionEvent, request: Request) -> bool:
    return (
        (event.dataset is None or (request.dataset is not None and _below(request.dataset, event.dataset)))
        and (not event.categories or (bool(request.categories) and set(request.categories) <= set(event.categories)))
        and (event.data_from is None or (request.data_from is not None and request.data_from >= event.data_from))
        and (event.data_until is None or (request.data_until is not None and request.data_until <= event.data_until))
        and (event.controller is None or request.controller == event.controller)
    )


def _touches_scope(event: PermissionEvent, request: Request) -> bool:
    one, other = event.dataset, request.dataset
    return (
        (one is None or other is None or _below(other, one) or _below(one, other))
        and (not event.categories or not request.categories or not set(request.categories).isdisjoint(event.categories))
        and (event.data_until is None or request.data_from is None or request.data_from < event.data_until)
        and (event.data_from is None or request.data_until is None or event.data_from < request.data_until)
        and (event.controller is None or request.controller in {None, event.controller})
    )


def _below(dataset: str, above: str) -> bool:
    return dataset == above or dataset.startswith(f"{above}/")
