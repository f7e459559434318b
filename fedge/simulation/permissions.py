"""Permission records of a simulated population, and the withdrawals that happen while a run is going on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from numpy.random import Generator

from fedge.consent.grants import PermissionEvent
from fedge.consent.store import PermissionStore
from fedge.encoding import timestamp

LONG_AGO, LAPSED, RECENTLY = timedelta(days=500), timedelta(days=30), timedelta(days=60)


def drawn(
    subjects: Sequence[str], shares: tuple[float, float, float], purpose: str, now: datetime, rng: Generator
) -> list[PermissionEvent]:
    """Return one event per subject, but for those who were never asked; `shares` are refused, expired, missing.

    Everyone else has granted, without an end.
    """
    people = list(dict.fromkeys(subjects))
    refused, expired, missing = shares
    events = []
    for person, chance in zip(people, rng.random(len(people)), strict=True):
        if chance < refused:
            events.append(_event("refuse", person, purpose, now - RECENTLY))
        elif chance < refused + expired:
            events.append(_event("grant", person, purpose, now - LONG_AGO, until=now - LAPSED))
        elif chance >= refused + expired + missing:
            events.append(_event("grant", person, purpose, now - RECENTLY))
    return events


def withdraw_one(
    store: PermissionStore, subjects: Sequence[str], purpose: str, now: datetime, nth: int = 0
) -> str | None:
    """Let one subject whose records are permitted withdraw; return who, or None if there is nobody left.

    Done once: `nth` withdrawals should be there before, so a resumed run does not repeat one.
    """
    if len(store.withdrawals()) > nth:
        return store.withdrawals()[nth].subject
    people = list(dict.fromkeys(subjects))
    admitted = store.state().judge(people, purpose, now).admitted
    person = next((p for p, yes in zip(people, admitted, strict=True) if yes), None)
    if person is not None:
        store.append([_event("withdraw", person, purpose, now)])
    return person


def _event(act: str, person: str, purpose: str, at: datetime, until: datetime | None = None) -> PermissionEvent:
    return PermissionEvent(
        act=act,  # type: ignore[arg-type] # one of the three acts, by the callers above
        kind="consent",
        subject=person,
        purposes=(purpose,),
        valid_from=timestamp(at),
        recorded_at=timestamp(at),
        valid_until=None if until is None else timestamp(until),
    )
