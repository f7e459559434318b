"""Consent records out: ISO/IEC TS 27560 in the words of DPV 2.3, as JSON-LD, one record for each person.

The context stands in every record and comes from this package: nothing is fetched. What the engine cannot know (who the
controller is, which notice was shown, where data are stored, how to withdraw ...) is the operator's to say, in a
profile; what is missing there is listed and nothing is written, for an invented field is worse than none.

Only kind `consent` is consent: an opt-out, a permit or a legal basis is none, and does not pass for one.

Sources: https://w3id.org/dpv/schema/dpv-27560, https://w3id.org/dpv/guides/consent-27560
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, get_type_hints

from fedge.consent.events import PermissionEvent, print_event
from fedge.consent.purposes import purpose
from fedge.encoding import digest, from_plain
from fedge.errors import PermissionRecordError

CONFORMS_TO = "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr"
BROADER: Mapping[str, str] = MappingProxyType(
    {
        "any-use": "dpv:Purpose",
        "any-research": "dpv:ResearchAndDevelopment",
        "health-research": "dpv:ScientificResearch",
        "disease-research": "dpv:ScientificResearch",
        "clinical-research": "dpv:ScientificResearch",
        "translational-research": "dpv:ScientificResearch",
        "ancestry-research": "dpv:ScientificResearch",
        "algorithm-training": "dpv:ResearchAndDevelopment",
        "public-health": "dpv:PublicBenefit",
        "care": "dpv:ServiceProvision",
        "care-improvement": "dpv:ImproveHealthcare",
        "administration": "dpv:ServiceProvision",
        "commercial": "dpv:CommercialPurpose",
    }
)
"""The DPV purpose that each purpose of the engine falls under."""
STATES: Mapping[str, str] = MappingProxyType(
    {
        "grant": "dpv:ConsentGiven",
        "refuse": "dpv:ConsentRefused",
        "withdraw": "dpv:ConsentWithdrawn",
        "expire": "dpv:ConsentExpired",
        "revoke": "dpv:ConsentRevoked",
        "correct": "dpv:ConsentInvalidated",
    }
)
NOT_UNDERSTOOD = "dpv:ConsentUnknown"


@dataclass(frozen=True)
class Notice:
    """The notice that people were shown."""

    id: str
    location: str


@dataclass(frozen=True)
class Party:
    """Somebody with a part in the processing; `type` is a DPV entity, e.g. dpv:DataController."""

    id: str
    name: str
    type: str
    address: str
    contact: str


@dataclass(frozen=True)
class Profile:
    """What only the operator knows. `controllers` and `recipients` are ids of `parties`; nobody receives data: [].

    `storage_location` and `jurisdiction` are DPV locations (loc:DE), `retention` is an ISO 8601 duration (P10Y),
    `data_types` are DPV terms (pd:MedicalHealth), `language` is an ISO 639 code, `withdrawal_method` says where.
    """

    language: str
    notice: Notice
    data_types: tuple[str, ...]
    controllers: tuple[str, ...]
    recipients: tuple[str, ...]
    storage_location: str
    retention: str
    jurisdiction: str
    withdrawal_method: str
    parties: tuple[Party, ...]
    processing: tuple[str, ...] = ("dpv:Use",)
    data_source: str = "dpv:DataControllerDataSource"

    def __post_init__(self) -> None:
        known = {party.id for party in self.parties}
        unknown = [name for name in (*self.controllers, *self.recipients) if name not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is a controller or recipient and not among the parties")


def profile_of(plain: Any) -> Profile:
    """Return the profile that `plain` spells. Raises PermissionRecordError that lists all that is missing."""
    missing = list(_missing(Profile, plain, ""))
    if missing:
        raise PermissionRecordError(
            f"the controller profile does not say: {', '.join(missing)}; a consent record is not complete without, and "
            "fedge does not invent it"
        )
    return from_plain(Profile, plain, PermissionRecordError)


def template() -> dict[str, Any]:
    """Return an empty profile, to be filled in."""
    return {f.name: _blank(_hints(Profile)[f.name]) for f in fields(Profile) if f.default is MISSING}


def records(events: Sequence[PermissionEvent], profile: Profile) -> Iterator[dict[str, Any]]:
    """Yield one consent record for each person of whom there is a consent event, in the order they first appear."""
    people: dict[str, list[PermissionEvent]] = {}
    for event in events:
        if event.kind == "consent":
            people.setdefault(event.subject, []).append(event)
    for subject, history in people.items():
        yield _record(subject, history, profile)


def _record(subject: str, history: Sequence[PermissionEvent], profile: Profile) -> dict[str, Any]:
    names = dict.fromkeys(purpose(p) for event in history for p in event.purposes)
    identifier = digest("\n".join([subject, *(digest(print_event(e)) for e in history)]).encode())
    return {
        "@context": context(),
        "@id": f"urn:fedge:consent-record:{identifier}",
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": CONFORMS_TO,
        "dpv:hasIdentifier": identifier,
        "dct:created": history[-1].recorded_at,
        "dct:creator": profile.controllers[0],
        "dct:language": profile.language,
        "dpv:hasDataSubject": {"@type": ["dpv:DataSubject"], "dpv:hasIdentifier": subject},
        "dpv:hasNotice": [
            {
                "@type": ["dpv:ConsentNotice"],
                "dpv:hasIdentifier": profile.notice.id,
                "dpv:hasLocation": profile.notice.location,
            }
        ],
        "dpv:hasJurisdiction": profile.jurisdiction,
        "dpv:hasProcess": [_process(name, history, profile) for name in names],
        "dpv:hasEntity": {party.id: _entity(party) for party in profile.parties},
    }


def _process(name: str, history: Sequence[PermissionEvent], profile: Profile) -> dict[str, Any]:
    concerned = [e for e in history if name in map(purpose, e.purposes)]
    return {
        "@type": ["dpv:Process"],
        "dpv:hasPurpose": [{"@type": ["dpv:Purpose"], "skos:broader": BROADER[name], "skos:prefLabel": name}],
        "dpv:hasPersonalData": list(profile.data_types),
        "dpv:hasProcessing": list(profile.processing),
        "dpv:hasDataSource": [profile.data_source],
        "dpv:hasDataController": list(profile.controllers),
        "dpv:hasRecipient": list(profile.recipients),
        "dpv:hasLegalBasis": sorted({basis for e in concerned for basis in e.bases}),
        "dpv:hasStorageCondition": [
            {"@type": ["dpv:StorageLocation"], "dpv:hasLocation": profile.storage_location},
            {
                "@type": ["dpv:StorageDuration"],
                "dpv:hasDuration": {"@type": "dpv:TemporalDuration", "rdf:value": profile.retention},
            },
        ],
        "dpv:hasConsentControl": [{"@type": ["dpv:WithdrawConsent"], "dpv:isExercisedAt": profile.withdrawal_method}],
        "dpv:hasConsentStatus": [_status(e, profile) for e in concerned],
    }


def _status(event: PermissionEvent, profile: Profile) -> dict[str, Any]:
    """Return one event: its type, its state, when it was, how long it holds, and who recorded it."""
    until = event.valid_until
    return {
        "@type": [NOT_UNDERSTOOD if event.unread else STATES[event.act]],
        "dpv:isIndicatedAtTime": event.recorded_at,
        "dpv:isIndicatedBy": profile.controllers[0],
        "dpv:isExercisedAt": profile.withdrawal_method if event.act == "withdraw" else profile.notice.location,
        "dct:valid": f"{event.valid_from}/{until or '..'}",
        "dpv:hasDuration": {"@type": ["dpv:UntilTimeDuration"], "rdf:value": until}
        if until
        else {"@type": ["dpv:EndlessDuration"]},
        "skos:prefLabel": event.act,
    }


def _entity(party: Party) -> dict[str, Any]:
    return {
        "@type": [party.type],
        "dpv:hasIdentifier": party.id,
        "dpv:hasName": party.name,
        "dpv:hasAddress": party.address,
        "dpv:hasContact": party.contact,
    }


@cache
def context() -> Mapping[str, Any]:
    """Return the JSON-LD context that this package holds."""
    found: Mapping[str, Any] = json.loads(files("fedge.consent").joinpath("dpv_context.json").read_text("utf-8"))
    return found


def _missing(kind: Any, plain: Any, path: str) -> Iterator[str]:
    """Yield the path of every field that must be said and is not; an empty list of recipients is an answer."""
    given = plain if isinstance(plain, dict) else {}
    for field in fields(kind):
        if field.default is not MISSING:
            continue
        here, value = f"{path}{field.name}", given.get(field.name)
        inner = _hints(kind)[field.name]
        items = value if isinstance(value, list) else []
        if isinstance(inner, type) and is_dataclass(inner):
            yield from _missing(inner, value, f"{here}.")
        elif value in (None, "", []) and not (field.name == "recipients" and value == []):
            yield here
        elif inner == tuple[Party, ...]:
            for number, item in enumerate(items):
                yield from _missing(Party, item, f"{here}[{number}].")


def _blank(hint: Any) -> Any:
    if hint is Notice:
        return {f.name: "" for f in fields(Notice)}
    if hint == tuple[Party, ...]:
        return [{f.name: "" for f in fields(Party)}]
    return "" if hint is str else []


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
