"""One person's permission, decided plainly: the rules of the engine as they are read aloud.

1. a standing opt-out of the person: denied, whatever else is there;
2. else the person's own answer, yes or no, even after it has lapsed: who was asked is not judged by a permit instead;
3. else the permit or legal basis for the whole data set; of both, the stricter;
4. else denied.

What was recorded last stands, in each kind. What was recorded at the same moment is taken together, and the strictest
of it stands: contradictory records are both kept, and never add up to a yes. All intervals are half-open: valid at
`valid_from`, no longer valid at `valid_until`.

`grants` decides the same for a million records at once; this is its oracle, and what explains one verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedge.consent.conditions import unmet
from fedge.consent.events import KINDS, Kind, PermissionEvent
from fedge.consent.request import Request, names_purpose, speaks
from fedge.consent.verdicts import Reason

SILENT = frozenset({Reason.no_consent, Reason.purpose_mismatch, Reason.scope_mismatch})
"""What is said where nothing speaks of the request; a permit for the data set may still speak."""


@dataclass(frozen=True)
class Decision:
    """A reason, and the event that decided; None where the absence of one did."""

    reason: Reason
    event: PermissionEvent | None = None


def decide(own: Sequence[PermissionEvent], everyone: Sequence[PermissionEvent], request: Request, now: str) -> Decision:
    """Return what holds at `now` for a person with events `own`, under the events `everyone` of the data set.

    Events are in the order they were appended; `now` is an `encoding.timestamp`.
    """
    of_person, of_all = (known(events, now) for events in (own, everyone))
    opted_out = _standing(of_person, "opt_out", request, now)
    if opted_out is not None and opted_out.reason == Reason.opt_out:
        return opted_out
    personal = _spoken(of_person, request, now)
    if personal.reason not in SILENT:
        return personal
    general = _spoken(of_all, request, now)
    silent = general.reason in SILENT and personal.reason != Reason.no_consent
    return personal if silent else general


def known(events: Sequence[PermissionEvent], now: str) -> list[PermissionEvent]:
    """Return the events recorded by `now`, without the permissions that a correction recorded by then has struck."""
    so_far = [(place, e) for place, e in enumerate(events) if e.recorded_at <= now]
    struck = {e.record: place for place, e in so_far if e.act == "correct"}
    return [
        e
        for place, e in so_far
        if e.act != "correct" and not (e.permits and e.record is not None and place < struck.get(e.record, 0))
    ]


def _spoken(events: Sequence[PermissionEvent], request: Request, now: str) -> Decision:
    """Return the strictest of what the kinds but opt-out say, or which silence it is."""
    said = [d for kind in KINDS if kind != "opt_out" and (d := _standing(events, kind, request, now))]
    if said:
        return max(said, key=lambda d: d.reason)
    return _silence([e for e in events if e.kind != "opt_out"], request)


def _silence(events: Sequence[PermissionEvent], request: Request) -> Decision:
    near = [e for e in events if e.permits and names_purpose(e, request)]
    if near:
        return Decision(Reason.scope_mismatch, near[-1])
    return Decision(Reason.purpose_mismatch, events[-1]) if events else Decision(Reason.no_consent)


def _standing(events: Iterable[PermissionEvent], kind: Kind, request: Request, now: str) -> Decision | None:
    speaking = [e for e in events if e.kind == kind and speaks(e, request) and _in_force(e, now)]
    if not speaking:
        return None
    last = max(e.recorded_at for e in speaking)
    together = [Decision(_state(e, request, now), e) for e in speaking if e.recorded_at == last]
    return max(together, key=lambda d: d.reason)


def _in_force(event: PermissionEvent, now: str) -> bool:
    """Return whether a no still, and already, is one; a permission that has ended does speak: it says `expired`."""
    ended = event.valid_until is not None and now >= event.valid_until
    if event.kind == "opt_out" and event.act == "grant":
        return event.valid_from <= now and not ended
    return event.act != "refuse" or event.kind == "opt_out" or not ended


def _state(event: PermissionEvent, request: Request, now: str) -> Reason:
    if event.permits and event.kind == "opt_out":
        return Reason.admitted
    if not event.permits:
        return no_of(event)
    if now < event.valid_from:
        return Reason.not_yet_valid
    if event.valid_until is not None and now >= event.valid_until:
        return Reason.expired
    return Reason.admitted if unmet(event.conditions, request.facts) is None else Reason.condition_unmet


def no_of(event: PermissionEvent) -> Reason:
    """Return which no an event is that does not permit."""
    if event.unread:
        return Reason.unreadable
    if event.kind == "opt_out":
        return Reason.opt_out
    return {
        "refuse": Reason.refused,
        "withdraw": Reason.withdrawn,
        "expire": Reason.expired,
        "revoke": Reason.revoked,
    }[event.act]
