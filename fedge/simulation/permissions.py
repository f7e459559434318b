"""Permission records of a simulated population, and the withdrawals that happen while a run is going on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from numpy.random import Generator

from fedge.consent.events import EVERYONE, Act, Kind, PermissionEvent
from fedge.consent.store import PermissionStore
from fedge.encoding import timestamp

LONG_AGO, LAPSED, RECENTLY = timedelta(days=500), timedelta(days=30), timedelta(days=60)


@dataclass(frozen=True)
class Ground:
    """On what the use of a population's data rests: each person's consent, or a permit or law for all of them."""

    kind: Literal["consent", "permit", "legal_basis"]
    number: str | None
    legal_bases: tuple[str, ...]


@dataclass(frozen=True)
class Shares:
    """Shares of subjects who did not simply agree."""

    refused: float
    expired: float
    missing: float
    opted_out: float


def drawn(
    subjects: Sequence[str], ground: Ground, shares: Shares, purpose: str, now: datetime, rng: Generator
) -> list[PermissionEvent]:
    """Return one event per subject, but for those who were never asked, and one for all if the ground is for all.

    Everyone who did not refuse, opt out or let it expire has granted, without an end, if they were asked at all.
    """
    people = list(dict.fromkeys(subjects))
    chances = zip(people, rng.random(len(people)), strict=True)
    own = [e for person, chance in chances if (e := _drawn(person, chance, ground, shares, purpose, now))]
    return [*_for_all(ground, purpose, now), *own]


def _for_all(ground: Ground, purpose: str, now: datetime) -> list[PermissionEvent]:
    if ground.kind == "consent":
        return []
    general = _event("grant", EVERYONE, purpose, now - LONG_AGO, kind=ground.kind)
    return [replace(general, record=ground.number, legal_bases=ground.legal_bases)]


def _drawn(
    person: str, chance: float, ground: Ground, shares: Shares, purpose: str, now: datetime
) -> PermissionEvent | None:
    lapsed = shares.refused + shares.expired
    unasked = lapsed + shares.missing
    if chance < shares.refused:
        return _event("refuse", person, purpose, now - RECENTLY)
    if chance < lapsed:
        return _event("grant", person, purpose, now - LONG_AGO, until=now - LAPSED)
    if chance < unasked:
        return None
    if chance < unasked + shares.opted_out:
        return _event("grant", person, purpose, now - RECENTLY, kind="opt_out")
    return _event("grant", person, purpose, now - RECENTLY) if ground.kind == "consent" else None


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


def _event(
    act: Act, person: str, purpose: str, at: datetime, *, until: datetime | None = None, kind: Kind = "consent"
) -> PermissionEvent:
    return PermissionEvent(
        act=act,
        kind=kind,
        subject=person,
        purposes=(purpose,),
        valid_from=timestamp(at),
        recorded_at=timestamp(at),
        valid_until=None if until is None else timestamp(until),
    )
