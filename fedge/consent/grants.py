"""Permission as a fold over append-only events: ask it as of any moment, for any purpose, for a million records.

The rules are those of `decision.decide`, which says them plainly for one person; here they are array operations over
all people at once. Tests hold the two to the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedge.consent.columns import ENDLESS, Columns, Integers, Numbers, appended, empty, milliseconds, row, text_of
from fedge.consent.conditions import unmet
from fedge.consent.decision import Decision, decide, no_of
from fedge.consent.events import EVERYONE, KINDS, Act, Kind, PermissionEvent
from fedge.consent.request import Request, names_purpose, request_for, speaks
from fedge.consent.verdicts import Reason, Verdicts
from fedge.encoding import timestamp

__all__ = [
    "EVERYONE",
    "NEVER",
    "NOTHING",
    "Act",
    "Kind",
    "PermissionEvent",
    "Permissions",
    "Reason",
    "Verdicts",
    "fold",
]

OPT_OUT = KINDS.index("opt_out")
NOT_SAID = -1
NEVER = "~"
"""Sorts after every time."""


@dataclass(frozen=True)
class Permissions:
    """All permission events of one client, in the order they were appended; a value, `fold` makes the next.

    `gone` are people who were erased while somebody still asks about them: no permission admits them again.
    """

    gone: frozenset[str] = frozenset()
    _columns: Columns = field(default_factory=empty)
    _people: Numbers = field(default_factory=Numbers)
    _terms: Numbers = field(default_factory=Numbers)

    def __len__(self) -> int:
        return len(self._columns)

    def judge(self, subjects: Sequence[str], wanted: str | Request, at: datetime) -> Verdicts:
        """Return a verdict per subject (subjects may repeat) for the use `wanted`, at the moment `at`.

        An unknown purpose admits nobody.
        """
        found = _Judgement(self._columns, self._view(request_for(wanted)), _now(at))
        people, everyone = self._count, int(self._people.find([EVERYONE])[0])
        seats = self._people.find(subjects)
        seats = np.where((seats >= 0) & (seats < people), seats, people)
        answers = found.answers(people, everyone if everyone < people else NOT_SAID)
        codes = answers[seats]
        if self.gone:
            codes = np.where([s in self.gone for s in subjects], np.int8(Reason.erased), codes)
        asked = seats[codes == Reason.admitted]
        return Verdicts(codes, tuple(sorted(self._bases(found, asked, everyone))))

    def decide(self, subject: str, wanted: str | Request, at: datetime) -> Decision:
        """Return the verdict on one subject, and the event that decided."""
        if subject in self.gone:
            return Decision(Reason.erased)
        return decide(self.history(subject), self.history(EVERYONE), request_for(wanted), timestamp(at))

    def history(self, subject: str) -> list[PermissionEvent]:
        """Return the events of `subject`, in the order they were appended."""
        seat = self._people.find([subject])[0]
        places = np.flatnonzero(self._columns.subject == seat) if seat >= 0 else ()
        return [row(self._columns, int(place), self._people, self._terms) for place in places]

    def records(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield subject, name and version of every event that names a record of its source."""
        for place, (_, record, version) in self._columns.own.items():
            if record is not None:
                yield self._people.example(int(self._columns.subject[place])).subject, record, version

    def subjects(self) -> list[str]:
        """Return all people that an event speaks of, sorted; not the data set as a whole."""
        names = {self._people.example(int(n)).subject for n in np.unique(self._columns.subject)}
        return sorted(names - {EVERYONE})

    def next_change(self, at: datetime) -> str:
        """Return the first moment after `at` at which a verdict may change without a new event, or NEVER."""
        now, columns = _now(at), self._columns
        later = [int(a[a > now].min(initial=ENDLESS)) for a in (columns.recorded, columns.start, columns.end)]
        return text_of(min(later)) if min(later) < ENDLESS else NEVER

    @cached_property
    def latest(self) -> str:
        """The latest moment at which an event was recorded; the empty text, which sorts before every time, if none."""
        return text_of(int(self._columns.recorded.max())) if len(self) else ""

    @cached_property
    def _count(self) -> int:
        return int(self._columns.subject.max(initial=-1)) + 1

    def _view(self, request: Request) -> _View:
        return _view([self._terms.example(n) for n in range(len(self._terms))], request)

    def _bases(self, found: _Judgement, people: Integers, everyone: int) -> set[str]:
        """Return the legal bases of the events that admit `people`."""
        admitted = np.zeros(self._count + 1, np.bool_)
        admitted[people] = True
        by_own = admitted & found.spoke
        bases = {b for n in found.terms_of(by_own) for b in self._terms.example(n).bases}
        if (admitted & ~found.spoke).any():
            general = np.arange(len(admitted)) == everyone
            events = (row(self._columns, int(r), self._people, self._terms) for r in found.rows_of(general))
            bases |= {b for event in events for b in event.bases}
        return bases


NOTHING = Permissions()


def fold(before: Permissions, events: Iterable[PermissionEvent]) -> Permissions:
    """Return the state after `events`; the state before is not changed."""
    if len(before) == 0:
        before = Permissions(before.gone)  # NOTHING is everybody's: its numbering is not to grow
    columns = appended(before._columns, list(events), before._people, before._terms)
    return Permissions(before.gone, columns, before._people, before._terms)


# ---- the same rules as decision.decide, over all people at once ---------------------------------------------------


@dataclass(frozen=True)
class _View:
    """What one request makes of each set of terms; an array each, by the number of the terms."""

    kind: Integers
    speaks: NDArray[np.bool_]
    near: NDArray[np.bool_]
    permits: NDArray[np.bool_]
    said: Integers
    refusal: NDArray[np.bool_]
    objection: NDArray[np.bool_]


def _view(terms: Sequence[PermissionEvent], request: Request) -> _View:
    correct = np.array([t.act == "correct" for t in terms], np.bool_)
    permits = np.array([t.permits for t in terms], np.bool_)
    named = np.array([names_purpose(t, request) for t in terms], np.bool_)
    return _View(
        kind=np.array([-1 if t.act == "correct" else KINDS.index(t.kind) for t in terms], np.int64),
        speaks=np.array([speaks(t, request) for t in terms], np.bool_) & ~correct,
        near=permits & named,
        permits=permits,
        said=np.array([_said(t, request) for t in terms], np.int64),
        refusal=np.array([t.act == "refuse" and t.kind != "opt_out" for t in terms], np.bool_),
        objection=np.array([t.act == "grant" and t.kind == "opt_out" for t in terms], np.bool_),
    )


def _said(terms: PermissionEvent, request: Request) -> Reason:
    """Return what terms say while they are in force."""
    if terms.act == "correct" or (terms.permits and terms.kind == "opt_out"):
        return Reason.admitted
    if not terms.permits:
        return no_of(terms)
    return Reason.admitted if unmet(terms.conditions, request.facts) is None else Reason.condition_unmet


class _Judgement:
    """What each kind says of each person, at one moment: `decision._standing` of everybody."""

    def __init__(self, columns: Columns, view: _View, now: int) -> None:
        self._columns, self._view = columns, view
        kind = view.kind[columns.terms]
        known = (columns.recorded <= now) & (kind >= 0) & ~(view.permits[columns.terms] & (columns.struck <= now))
        speaking = np.flatnonzero(known & view.speaks[columns.terms] & self._in_force(now))
        self._known = known & (kind != OPT_OUT)
        people = int(columns.subject.max(initial=-1)) + 1
        group = columns.subject[speaking] * len(KINDS) + kind[speaking]
        last = np.full(people * len(KINDS), np.iinfo(np.int64).min)
        np.maximum.at(last, group, columns.recorded[speaking])
        together = columns.recorded[speaking] == last[group]
        self._rows = speaking[together]
        worst = np.full(people * len(KINDS), NOT_SAID)
        np.maximum.at(worst, group[together], self._states(self._rows, now))
        self._said = worst.reshape(people, len(KINDS))
        self._own = self._said[:, :OPT_OUT].max(axis=1, initial=NOT_SAID)

    def answers(self, people: int, everyone: int) -> NDArray[np.int8]:
        """Return a Reason per person, and at the end that of a person of whom there is no event."""
        silence = self._silence(people)
        general, whole = (self._own[everyone], silence[everyone]) if everyone >= 0 else (NOT_SAID, Reason.no_consent)
        silent = np.where(silence == Reason.no_consent, whole, silence)
        unasked = general if general != NOT_SAID else silent
        answers = np.where(self._own != NOT_SAID, self._own, unasked)
        answers = np.where(self._said[:, OPT_OUT] == Reason.opt_out, Reason.opt_out, answers)
        stranger = general if general != NOT_SAID else whole
        return np.append(answers, stranger).astype(np.int8)

    @property
    def spoke(self) -> NDArray[np.bool_]:
        """Of whom there is an answer of their own; the place after the last is nobody's."""
        return np.append(self._own != NOT_SAID, False)

    def rows_of(self, people: NDArray[np.bool_]) -> Integers:
        """Return the rows that decided for the people marked, opt-outs aside."""
        columns, rows = self._columns, self._rows
        chosen: Integers = rows[people[columns.subject[rows]] & (self._view.kind[columns.terms[rows]] != OPT_OUT)]
        return chosen

    def terms_of(self, people: NDArray[np.bool_]) -> list[int]:
        """Return the numbers of the terms in `rows_of`."""
        return np.flatnonzero(np.bincount(self._columns.terms[self.rows_of(people)])).tolist()

    def _in_force(self, now: int) -> NDArray[np.bool_]:
        columns, view = self._columns, self._view
        ended = columns.end <= now
        objection, refusal = view.objection[columns.terms], view.refusal[columns.terms]
        return ~((objection | refusal) & ended) & ~(objection & (columns.start > now))

    def _states(self, rows: Integers, now: int) -> Integers:
        columns, view = self._columns, self._view
        terms = columns.terms[rows]
        timed = view.permits[terms] & (view.kind[terms] != OPT_OUT)
        states = np.where(timed & (columns.end[rows] <= now), int(Reason.expired), view.said[terms])
        return np.where(timed & (columns.start[rows] > now), int(Reason.not_yet_valid), states)

    def _silence(self, people: int) -> Integers:
        silence = np.full(people, int(Reason.no_consent))
        silence[self._columns.subject[self._known]] = Reason.purpose_mismatch
        silence[self._columns.subject[self._known & self._view.near[self._columns.terms]]] = Reason.scope_mismatch
        return silence


def _now(at: datetime) -> int:
    return milliseconds(timestamp(at))
