"""HL7 FHIR Consent, R4, R4B and R5, as permission events: what is understood permits, everything else forbids.

An active Consent permits a purpose where a permit names it and no deny that is more specific takes it back. Its
exceptions are read to any depth. What cannot be understood (an unknown code, a `modifierExtension`, an `expression`, a
reference to single resources, no purpose, no date) makes the whole Consent a refusal that says why; the import counts
it. A resource is the present state of its record, so a newer version replaces an older one.

`inactive` is a withdrawal, at `meta.lastUpdated`, or else at the Consent's own date: then it never counted. `rejected`
and `not-done` are refusals; `entered-in-error`, `draft` and `proposed` permit nothing and strike what an earlier
version permitted. Scopes `treatment` and `adr` say nothing about secondary use, and are set aside.

Sources: https://hl7.org/fhir/R4/consent.html, https://hl7.org/fhir/R5/consent.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from fedge.consent.dates import bounds, latest
from fedge.consent.events import PermissionEvent
from fedge.consent.fhir_provision import Common, Terms, Unread, as_text, events_of, r4_root, r5_root
from fedge.consent.importing import Entry
from fedge.consent.purposes import ANY
from fedge.encoding import digest, timestamp

ACTIVE, VOID = "active", frozenset({"entered-in-error", "draft", "proposed"})
ENDED: Mapping[str, str] = {"inactive": "withdraw", "rejected": "refuse", "not-done": "refuse"}
SECONDARY, ELSEWHERE = frozenset({"research", "patient-privacy"}), frozenset({"treatment", "adr"})
BOTH = frozenset(
    {
        "resourceType", "id", "meta", "language", "text", "contained", "extension", "identifier", "status", "category",
        "sourceAttachment", "sourceReference", "verification", "provision",
    }
)  # fmt: skip
R4 = BOTH | {"scope", "patient", "dateTime", "performer", "organization", "policy", "policyRule"}
R5 = BOTH | {
    "subject", "date", "period", "grantor", "grantee", "manager", "controller", "regulatoryBasis", "policyBasis",
    "policyText", "decision",
}  # fmt: skip


@dataclass(frozen=True)
class How:
    """How an operator wants Consents read.

    `zone` is that of dates without a time. `assumed` are the purposes of a permit that names none, because the signed
    form does; empty: such a permit is a refusal. `validate` raises ValueError for a resource that is not valid FHIR.
    """

    now: datetime
    zone: tzinfo = UTC
    assumed: tuple[str, ...] = ()
    validate: Callable[[Mapping[str, Any]], None] = field(default=lambda _resource: None)


def entries(document: Any, place: str, how: How) -> Iterator[Entry]:
    """Yield an entry for every resource in a Bundle, or for the one resource that `document` is."""
    if isinstance(document, dict) and document.get("resourceType") == "Bundle":
        listed = document.get("entry", [])
        if not isinstance(listed, list):
            yield Entry(place, refused="the Bundle's entry is not a list")
            return
        for number, item in enumerate(listed, start=1):
            resource = item.get("resource") if isinstance(item, dict) else None
            yield from entries(resource, f"{place}, entry {number}", how)
    else:
        yield entry(document, place, how)


def entry(resource: Any, place: str, how: How) -> Entry:
    """Return what one resource says."""
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        return Entry(place, refused="not a FHIR resource: an object with a resourceType")
    if resource["resourceType"] != "Consent":
        return Entry(place, aside=f"a {resource['resourceType']} is no Consent")
    if isinstance(resource.get("id"), str):
        place = f"{place}, Consent/{resource['id']}"
    if _scopes(resource) & ELSEWHERE and not _scopes(resource) & SECONDARY:
        return Entry(place, aside="its scope is not the use of data")
    try:
        return Entry(place, tuple(_read(resource, how)), replaces=True)
    except ValueError as error:
        return Entry(place, refused=str(error))


def _read(resource: Mapping[str, Any], how: How) -> list[PermissionEvent]:
    """Return the events of a Consent, or the refusal of one that is not understood.

    Raises ValueError for what cannot even be recorded as a refusal: nobody knows whose it is.
    """
    common = _common(resource, _patient(resource), how)
    try:
        return _events(resource, common, how)
    except Unread as error:
        return [common.event("refuse", (ANY,), _said_no(resource, how), unread=(error.code,))]


def _events(resource: Mapping[str, Any], common: Common, how: How) -> list[PermissionEvent]:
    status = as_text(resource.get("status"), "status")
    if status in VOID:
        return [common.event("correct", (ANY,), _said_no(resource, how))] if common.record else []
    if status not in {ACTIVE, *ENDED}:
        raise Unread("status")
    _check_understood(resource, how)
    if status in ENDED:
        return [common.event(ENDED[status], _ended(resource, how), _said_no(resource, how))]
    root = _root(resource, how)
    given, until = _date(resource, how)
    if given is None or until is None:
        raise Unread("no_date")
    return events_of(root, common, timestamp(given), timestamp(min(until, max(how.now, given))))


def _ended(resource: Mapping[str, Any], how: How) -> tuple[str, ...]:
    """Return the purposes that a Consent which is no longer active was for; of an unreadable one, all."""
    try:
        return tuple(dict.fromkeys(_root(resource, how).all_purposes())) or (ANY,)
    except Unread:
        return (ANY,)


def _root(resource: Mapping[str, Any], how: How) -> Terms:
    if _is_r5(resource):
        return r5_root(resource, how.zone, how.assumed)
    return r4_root(resource, how.zone, how.assumed)


def _is_r5(resource: Mapping[str, Any]) -> bool:
    return bool(resource.keys() & {"subject", "decision", "date"}) or isinstance(resource.get("provision"), list)


def _check_understood(resource: Mapping[str, Any], how: How) -> None:
    if "implicitRules" in resource:
        raise Unread("implicit_rules")
    if _somewhere(resource, "modifierExtension"):
        raise Unread("modifier_extension")
    if resource.keys() - (R5 if _is_r5(resource) else R4):
        raise Unread("unknown_element")
    if _scopes(resource) - SECONDARY - ELSEWHERE:
        raise Unread("scope")
    checks = resource.get("verification", [])
    if checks and not any(isinstance(c, dict) and c.get("verified") is True for c in checks):
        raise Unread("unverified")
    try:
        how.validate(resource)
    except ValueError as error:
        raise Unread("invalid_fhir") from error


def _somewhere(value: Any, name: str) -> bool:
    """Return whether an object at any depth has `name`; without recursion, for hostile depths."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if name in item:
                return True
            waiting.extend(v for k, v in item.items() if k != "contained")
        elif isinstance(item, list):
            waiting.extend(item)
    return False


def _scopes(resource: Mapping[str, Any]) -> set[str]:
    scope = resource.get("scope")
    codings = scope.get("coding", []) if isinstance(scope, dict) else ([{}] if scope is not None else [])
    return {str(c.get("code")) if isinstance(c, dict) else "" for c in codings if isinstance(codings, list)}


def _patient(resource: Mapping[str, Any]) -> str:
    """Return the patient's identifier. Raises ValueError if there is none, or none that can be known here."""
    named = [resource[key] for key in ("patient", "subject") if key in resource]
    if len(named) != 1 or not isinstance(named[0], dict):
        raise ValueError("names no patient, or two")
    reference, identifier = named[0].get("reference"), named[0].get("identifier")
    if isinstance(reference, str) and reference:
        return _referred(reference)
    if isinstance(identifier, dict) and isinstance(identifier.get("value"), str) and identifier["value"]:
        return str(identifier["value"])
    raise ValueError("names no patient: neither a reference nor an identifier")


def _referred(reference: str) -> str:
    if reference.startswith("urn:"):
        return reference
    parts = reference.partition("/_history/")[0].split("/")
    if len(parts) < 2 or parts[-2] != "Patient" or not parts[-1]:
        raise ValueError(f"the reference {reference!r} is not to a Patient")
    return parts[-1]


def _common(resource: Mapping[str, Any], subject: str, how: How) -> Common:
    printed = json.dumps(resource, sort_keys=True, separators=(",", ":")).encode()
    record = f"Consent/{resource['id']}" if isinstance(resource.get("id"), str) and resource["id"] else None
    updated = _updated(resource, how)
    return Common(subject, record, timestamp(updated) if updated else None, digest(printed))


def _updated(resource: Mapping[str, Any], how: How) -> datetime | None:
    meta = resource.get("meta")
    text = meta.get("lastUpdated") if isinstance(meta, dict) else None
    try:
        return bounds(text, how.zone)[0] if isinstance(text, str) else None
    except ValueError:
        return None  # no version is known, then; what it permits is still judged by its own date


def _date(resource: Mapping[str, Any], how: How) -> tuple[datetime | None, datetime | None]:
    """Return the first moment at which the Consent may have been given, and the last."""
    text = resource.get("dateTime", resource.get("date"))
    if text is None:
        return None, None
    try:
        return bounds(as_text(text, "date"), how.zone)[0], latest(text, how.zone)
    except ValueError as error:
        raise Unread("date") from error


def _said_no(resource: Mapping[str, Any], how: How) -> str:
    """Return when a no was said: as late as it may have been, for it to be the last word."""
    try:
        dated = _date(resource, how)[1]
    except Unread:
        dated = None
    return timestamp(min(how.now, _updated(resource, how) or dated or how.now))
