"""One fact of permission: somebody granted, refused, withdrew, ended, revoked or corrected something.

Kinds are one thing: a person's consent, a person's opt-out from secondary use (Regulation (EU) 2025/327, Art. 71), a
data permit, or a legal basis for a whole data set. Acts:

- `grant` permits (an opt-out: objects) from `valid_from` up to and without `valid_until`;
- `refuse` is a no from the moment it is recorded, up to `valid_until` if it has one;
- `withdraw` ends what the person gave, `expire` says that it has lapsed, `revoke` that an authority took it back;
- `correct` strikes the permissions of `record` that were written before it: they were recorded in error. It can take
  a permission away and never gives one: a no that was recorded in error stands until the person grants anew.

Spelling in the store, decided once: RFC 8785 JSON; the first eight fields are always printed, each later field only if
it is not at its default. So an event of the first version keeps its bytes and its place in the digest of a history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from fedge.consent.purposes import purpose
from fedge.encoding import canonical, from_plain, moment, parse, to_plain
from fedge.errors import PermissionRecordError

Act = Literal["grant", "refuse", "withdraw", "expire", "revoke", "correct"]
Kind = Literal["consent", "opt_out", "permit", "legal_basis"]
EVERYONE = "*"
ACTS: tuple[Act, ...] = ("grant", "refuse", "withdraw", "expire", "revoke", "correct")
KINDS: tuple[Kind, ...] = ("consent", "permit", "legal_basis", "opt_out")
FOR_ALL = frozenset({"permit", "legal_basis"})
"""Kinds that speak of a whole data set."""
ALWAYS = 8
"""The fields of the first version, printed always."""
DEFAULT_BASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "consent": ("eu-gdpr:A6-1-a", "eu-gdpr:A9-2-a"),
        "permit": ("unstated:permit",),
        "legal_basis": ("unstated:legal_basis",),
    }
)
"""On what a permission rests that names no legal basis: consent is consent, the rest must be said by the operator."""


@dataclass(frozen=True, slots=True)
class PermissionEvent:
    """What was recorded on `recorded_at`. Times are RFC 3339 UTC strings as `encoding.timestamp` prints them.

    `subject` is a pseudonym, or `*` for the whole data set (permit, legal_basis). `evidence` is the digest of the
    signed form. `record` names the source's own record (a FHIR Consent, a form, a permit number), `version` its version
    there. Scope: `dataset` (a lineage, and all below it), data `categories`, the period the data are from
    (`data_from`, `data_until`), `controller`; empty means all. `excepted` are purposes that a no leaves alone,
    `conditions` what must be true of the use (see `conditions`). `legal_bases` are DPV terms, `jurisdiction` an ISO
    3166 code; neither decides. `unread` says what in the source could not be understood: such an event is a refusal.
    """

    act: Act
    kind: Kind
    subject: str
    purposes: tuple[str, ...]
    valid_from: str
    recorded_at: str
    valid_until: str | None = None
    evidence: str | None = None
    record: str | None = None
    version: str | None = None
    excepted: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    dataset: str | None = None
    categories: tuple[str, ...] = ()
    data_from: str | None = None
    data_until: str | None = None
    controller: str | None = None
    legal_bases: tuple[str, ...] = ()
    jurisdiction: str | None = None
    unread: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.subject or not self.purposes:
            raise ValueError("a permission names a subject and at least one purpose")
        for name in (*self.purposes, *self.excepted):
            purpose(name)
        _check_times(self)
        _check_kind(self)

    @property
    def permits(self) -> bool:
        """Whether the event speaks for use: a grant, or the end of an opt-out."""
        if self.kind == "opt_out":
            return self.act in {"withdraw", "refuse"}
        return self.act == "grant"

    @property
    def bases(self) -> tuple[str, ...]:
        """The legal bases that a use under this permission rests on, with the permit's number where there is one."""
        number = (f"permit:{self.record}",) if self.kind == "permit" and self.record else ()
        return (*(self.legal_bases or DEFAULT_BASES.get(self.kind, ())), *number)


def print_event(event: PermissionEvent) -> bytes:
    """Return the one spelling of `event`; the inverse of `parse_event`. Raises ParseError for text not Unicode."""
    return canonical(plain_event(event))


def plain_event(event: PermissionEvent) -> dict[str, Any]:
    """Return `event` as plain values, without the later fields that are at their default."""
    shown: dict[str, Any] = {}
    for place, field in enumerate(fields(event)):
        value = getattr(event, field.name)
        if place < ALWAYS or field.default is MISSING or value != field.default:
            shown[field.name] = to_plain(value)
    return shown


def parse_event(data: bytes) -> PermissionEvent:
    """Return the event that `data` spells. Raises PermissionRecordError or ParseError."""
    event = from_plain(PermissionEvent, parse(data), PermissionRecordError)
    if print_event(event) != data:
        raise PermissionRecordError("a permission event prints a field that is at its default; it has one spelling")
    return event


def _check_times(event: PermissionEvent) -> None:
    for text in {event.valid_from, event.recorded_at}:
        moment(text)
    if event.valid_until is not None and moment(event.valid_until) <= moment(event.valid_from):
        raise ValueError(f"valid_until {event.valid_until} is not after valid_from {event.valid_from}")
    for extra in (event.version, event.data_from, event.data_until):
        if extra is not None:
            moment(extra)
    if event.data_from and event.data_until and event.data_until <= event.data_from:
        raise ValueError(f"data_until {event.data_until} is not after data_from {event.data_from}")


def _check_kind(event: PermissionEvent) -> None:
    if (event.subject == EVERYONE) != (event.kind in FOR_ALL):
        raise ValueError("permit and legal_basis are for subject '*', consent and opt_out for one subject")
    if event.kind == "opt_out" and event.act in {"expire", "revoke"}:
        raise ValueError("an opt-out ends by the person's withdraw or at its own valid_until, not otherwise")
    if event.act == "correct" and event.record is None:
        raise ValueError("a correction names the record whose permissions were recorded in error")
    if event.unread and event.act != "refuse":
        raise ValueError("what could not be understood permits nothing: its act is refuse")
    if event.excepted and event.permits:
        raise ValueError("only a no leaves purposes alone; a permission names those it is for")
