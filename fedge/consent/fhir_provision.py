"""The rule inside a FHIR Consent: a decision and its exceptions, their exceptions, and so on, as permission events.

A permit becomes a grant for its purposes; a deny becomes a refusal of its purposes (of all, if it names none), which
leaves alone the purposes of the permits inside it. An inner permit lies within the outer rules: their periods and
conditions hold for it too. Who may act (`actor`) and security labels become conditions; classes, codes and types of
resources become data categories. A deny is not narrowed by what it names beside its purposes: the stricter reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any

from fedge.consent.conditions import condition, is_condition
from fedge.consent.dates import bounds
from fedge.consent.events import PermissionEvent
from fedge.consent.purposes import ANY, purpose
from fedge.encoding import timestamp
from fedge.errors import PermissionRecordError

DEEPEST = 8
USE, OTHER_ACTIONS = frozenset({"access", "use"}), frozenset({"collect", "disclose", "correct"})
ACT_REASON = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "http://hl7.org/fhir/v3/ActReason")
DUO = (
    "http://purl.obolibrary.org/obo/duo.owl",
    "http://purl.obolibrary.org/obo/duo",
    "http://purl.obolibrary.org/obo/",
)
DPV = ("https://w3id.org/dpv", "https://w3id.org/dpv#")
SYSTEMS = frozenset({*ACT_REASON, *DUO, *DPV})
BOTH = frozenset(
    {
        "id", "extension", "period", "actor", "action", "securityLabel", "purpose", "code", "dataPeriod", "data",
        "provision",
    }
)  # fmt: skip
R4 = BOTH | {"type", "class"}
R5 = BOTH | {"documentType", "resourceType", "expression"}


class Unread(Exception):
    """Something in a Consent is not understood; `code` says what, for the report and the event."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Common:
    """What all events of one Consent share."""

    subject: str
    record: str | None
    version: str | None
    evidence: str

    def event(self, act: Any, purposes: tuple[str, ...], recorded_at: str, **more: Any) -> PermissionEvent:
        """Return an event of this Consent."""
        return PermissionEvent(
            **{
                "act": act,
                "kind": "consent",
                "subject": self.subject,
                "purposes": purposes,
                "valid_from": recorded_at,
                "recorded_at": recorded_at,
                "evidence": self.evidence,
                "record": self.record,
                "version": self.version,
            }
            | more
        )


@dataclass(frozen=True)
class Terms:
    """One rule and its exceptions; times are `encoding.timestamp`s, None is open."""

    permits: bool
    purposes: tuple[str, ...]
    start: str | None = None
    end: str | None = None
    conditions: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    data_from: str | None = None
    data_until: str | None = None
    inner: tuple[Terms, ...] = ()

    def all_purposes(self) -> Iterator[str]:
        """Yield the purposes of every permit at any depth."""
        if self.permits:
            yield from self.purposes
        for rule in self.inner:
            yield from rule.all_purposes()


def r4_root(resource: Mapping[str, Any], zone: tzinfo, assumed: tuple[str, ...]) -> Terms:
    """Return the rule of an R4 or R4B Consent. Raises Unread."""
    provision = resource.get("provision")
    if provision is None:
        raise Unread("no_provision")
    rule = _object(provision, "provision")
    permits = _decision(rule["type"]) if "type" in rule else _opted_in(resource.get("policyRule"))
    return _terms(rule, permits, R4, zone, assumed, 0)


def r5_root(resource: Mapping[str, Any], zone: tzinfo, assumed: tuple[str, ...]) -> Terms:
    """Return the rule of an R5 Consent: its decision, its period, and its provisions as exceptions. Raises Unread."""
    exceptions = _list(resource.get("provision", []), "provision")
    rule = {"provision": exceptions} | {k: resource[k] for k in ("period",) if k in resource}
    if "decision" not in resource:
        raise Unread("no_decision")
    return _terms(rule, _decision(resource["decision"]), R5, zone, assumed, 0)


def events_of(root: Terms, common: Common, given: str, denied: str) -> list[PermissionEvent]:
    """Return the events of a rule: permits are recorded at `given`, denials at `denied`, which is not earlier."""
    return list(_events(root, common, given, denied, outermost=True))


def _events(
    rule: Terms, common: Common, given: str, denied: str, *, outermost: bool = False
) -> Iterator[PermissionEvent]:
    if rule.permits:
        start = rule.start or given
        if rule.end is None or rule.end > start:
            yield common.event(
                "grant",
                rule.purposes,
                given,
                valid_from=start,
                valid_until=rule.end,
                conditions=rule.conditions,
                categories=rule.categories,
                data_from=rule.data_from,
                data_until=rule.data_until,
            )
    else:
        spared = tuple(dict.fromkeys(p for inner in rule.inner for p in inner.all_purposes()))
        ends = rule.end if not outermost and rule.end is not None and rule.end > denied else None
        yield common.event("refuse", rule.purposes, denied, valid_until=ends, excepted=spared)
    for inner in rule.inner:
        yield from _events(_within(inner, rule), common, given, denied)


def _within(inner: Terms, outer: Terms) -> Terms:
    """Return `inner` with the limits that the rule around it sets."""
    if not inner.permits:
        return inner
    ends = [end for end in (inner.end, outer.end) if end is not None]
    return replace(
        inner,
        start=max(filter(None, (inner.start, outer.start)), default=None),
        end=min(ends, default=None),
        conditions=tuple(dict.fromkeys((*outer.conditions, *inner.conditions))),
        categories=inner.categories or outer.categories,
        data_from=inner.data_from or outer.data_from,
        data_until=inner.data_until or outer.data_until,
    )


def _terms(
    rule: Mapping[str, Any], permits: bool, known: frozenset[str], zone: tzinfo, assumed: tuple[str, ...], depth: int
) -> Terms:
    _check(rule, known, depth)
    purposes, conditions = _purposes(rule, permits, assumed)
    start, end = _period(rule.get("period"), zone, "period")
    data_from, data_until = _period(rule.get("dataPeriod"), zone, "data_period")
    if permits and _names_no_use(rule):
        raise Unread("action")
    listed = rule.get("provision", [])
    inner = [_object(r, "provision") for r in _list(listed, "provision")]
    return Terms(
        permits=permits,
        purposes=purposes,
        start=start,
        end=end,
        conditions=(*conditions, *_actors(rule), *_labels(rule)),
        categories=tuple(dict.fromkeys(_categories(rule))),
        data_from=data_from,
        data_until=data_until,
        inner=tuple(_terms(r, _inner_decision(r, permits, known), known, zone, assumed, depth + 1) for r in inner),
    )


def _check(rule: Mapping[str, Any], known: frozenset[str], depth: int) -> None:
    if depth > DEEPEST:
        raise Unread("nesting")
    if "expression" in rule:
        raise Unread("expression")
    if rule.keys() - known:
        raise Unread("unknown_element")
    if rule.get("data"):
        raise Unread("data_reference")


def _inner_decision(rule: Mapping[str, Any], outer: bool, known: frozenset[str]) -> bool:
    """Return whether an exception permits: it is the opposite of what it is an exception to, and in R4 says so."""
    if known is R5:
        return not outer
    if "type" not in rule:
        raise Unread("provision_type")
    if _decision(rule["type"]) == outer:
        raise Unread("provision_nesting")
    return not outer


def _decision(value: Any) -> bool:
    if value not in ("permit", "deny"):
        raise Unread("decision")
    return bool(value == "permit")


def _opted_in(rule: Any) -> bool:
    """Return whether an R4 policyRule is an opt-in; without a known one the root rule denies."""
    if rule is None:
        return False
    codes = {_code(c) for c in _list(_object(rule, "policy_rule").get("coding", []), "policy_rule")}
    return "OPTIN" in codes and "OPTOUT" not in codes


def _purposes(
    rule: Mapping[str, Any], permits: bool, assumed: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the purposes, and the data-use modifiers that stand among them as conditions."""
    purposes, conditions = [], []
    for coding in _list(rule.get("purpose", []), "purpose"):
        code = _code(coding)
        if coding.get("system") not in SYSTEMS:
            raise Unread("purpose_system")
        word = f"dpv:{code}" if coding["system"] in DPV and ":" not in code else code
        if is_condition(word):
            conditions.append(condition(word))
            continue
        try:
            purposes.append(purpose(word))
        except PermissionRecordError as error:
            raise Unread("purpose_code") from error
    if not purposes:
        if permits and not assumed:
            raise Unread("no_purpose")
        purposes = list(assumed) if permits else [ANY]
    return tuple(dict.fromkeys(purposes)), tuple(conditions)


def _period(value: Any, zone: tzinfo, code: str) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    period = _object(value, code)
    if period.keys() - {"id", "extension", "start", "end"}:
        raise Unread(code)
    try:
        start = bounds(as_text(period["start"], code), zone)[0] if "start" in period else None
        end = bounds(as_text(period["end"], code), zone)[1] if "end" in period else None
    except ValueError as error:
        raise Unread(code) from error
    if start is not None and end is not None and end <= start:
        raise Unread(code)
    return timestamp(start) if start else None, timestamp(end) if end else None


def _names_no_use(rule: Mapping[str, Any]) -> bool:
    """Return whether actions are named, and using the data is none of them. Raises Unread for an unknown one."""
    concepts = _list(rule.get("action", []), "action")
    codes = {_code(c) for concept in concepts for c in _list(_object(concept, "action").get("coding", []), "action")}
    if codes - USE - OTHER_ACTIONS:
        raise Unread("action")
    return bool(concepts) and not codes & USE


def _actors(rule: Mapping[str, Any]) -> Iterator[str]:
    for actor in _list(rule.get("actor", []), "actor"):
        reference = _object(_object(actor, "actor").get("reference"), "actor")
        yield f"ACTOR={as_text(reference.get('reference'), 'actor')}"


def _labels(rule: Mapping[str, Any]) -> Iterator[str]:
    return (f"LABEL={_code(label)}" for label in _list(rule.get("securityLabel", []), "security_label"))


def _categories(rule: Mapping[str, Any]) -> Iterator[str]:
    for name in ("class", "documentType", "resourceType"):
        yield from (_code(coding) for coding in _list(rule.get(name, []), name))
    for concept in _list(rule.get("code", []), "code"):
        codings = _list(_object(concept, "code").get("coding", []), "code")
        if not codings:
            raise Unread("code")  # free text limits the data to what no program can tell
        yield from map(_code, codings)


def _code(coding: Any) -> str:
    return as_text(_object(coding, "coding").get("code"), "coding")


def _object(value: Any, code: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unread(code)
    return value


def _list(value: Any, code: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise Unread(code)
    return value


def as_text(value: Any, code: str) -> str:
    """Return `value` if it is text that says something. Raises Unread with `code`."""
    if not isinstance(value, str) or not value:
        raise Unread(code)
    return value
