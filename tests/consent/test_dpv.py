"""Consent records out: complete, or refused with what is missing."""

import json

import pytest

from fedge.consent import dpv
from fedge.consent.events import PermissionEvent
from fedge.errors import FedgeError, PermissionRecordError

PROFILE = {
    "language": "de",
    "notice": {"id": "notice-3", "location": "https://hospital.example/notice"},
    "data_types": ["pd:MedicalHealth"],
    "controllers": ["hospital"],
    "recipients": [],
    "storage_location": "loc:DE",
    "retention": "P10Y",
    "jurisdiction": "loc:DE",
    "withdrawal_method": "https://hospital.example/withdraw",
    "parties": [
        {
            "id": "hospital",
            "name": "Hospital",
            "type": "dpv:DataController",
            "address": "Street 1",
            "contact": "a@b.example",
        }
    ],
}


def test_a_consent_record_says_all_that_is_mandatory() -> None:
    t0, t1 = "2026-01-10T09:00:00.000Z", "2026-03-01T09:00:00.000Z"
    events = [
        PermissionEvent("grant", "consent", "anna", ("HRESCH", "PUBHLTH"), t0, t0, "2027-01-01T00:00:00.000Z"),
        PermissionEvent("grant", "opt_out", "anna", ("any-use",), t0, t0),
        PermissionEvent("withdraw", "consent", "anna", ("HRESCH",), t1, t1),
    ]
    (record,) = dpv.records(events, dpv.profile_of(PROFILE))
    assert record["@type"] == "dpv:ConsentRecord"
    assert record["dct:conformsTo"] == "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr"
    assert record["@context"]["dpv"] == "https://w3id.org/dpv#"
    for name in (
        "dpv:hasIdentifier",
        "dct:language",
        "dpv:hasJurisdiction",
        "dpv:hasNotice",
        "dpv:hasEntity",
        "dct:created",
    ):
        assert record[name], name
    assert record["dpv:hasDataSubject"]["dpv:hasIdentifier"] == "anna"
    health, public = record["dpv:hasProcess"]
    for process in (health, public):
        for name in (
            "Purpose",
            "PersonalData",
            "DataController",
            "StorageCondition",
            "ConsentControl",
            "ConsentStatus",
            "LegalBasis",
        ):
            assert process[f"dpv:has{name}"], name
        assert process["dpv:hasRecipient"] == []
    assert [s["@type"] for s in health["dpv:hasConsentStatus"]] == [["dpv:ConsentGiven"], ["dpv:ConsentWithdrawn"]]
    status = public["dpv:hasConsentStatus"][0]
    assert status["dpv:isIndicatedAtTime"] == t0
    assert status["dpv:hasDuration"]["rdf:value"] == "2027-01-01T00:00:00.000Z"
    party = record["dpv:hasEntity"]["hospital"]
    assert all(party[f"dpv:has{name}"] for name in ("Identifier", "Name", "Address", "Contact"))
    json.dumps(record)


def test_every_prefix_that_is_used_is_in_the_context() -> None:
    t0 = "2026-01-10T09:00:00.000Z"
    (record,) = dpv.records([PermissionEvent("grant", "consent", "anna", ("HRESCH",), t0, t0)], dpv.profile_of(PROFILE))
    body = json.dumps({k: v for k, v in record.items() if k != "@context"})
    used = {word.partition(":")[0] for word in body.replace('"', " ").split() if ":" in word and "//" not in word}
    prefixes = used - {"", "urn", "sha256"} - {u for u in used if not u.isascii() or u[:1].isdigit()}
    assert {p for p in prefixes if p.isalnum() or "-" in p} <= set(record["@context"])


def test_what_is_missing_in_a_profile_is_listed_not_invented() -> None:
    with pytest.raises(PermissionRecordError) as caught:
        dpv.profile_of(dpv.template())
    for name in (
        "language",
        "notice.id",
        "data_types",
        "controllers",
        "retention",
        "jurisdiction",
        "parties[0].address",
    ):
        assert name in str(caught.value)
    assert "recipients" not in str(caught.value)
    with pytest.raises(PermissionRecordError, match="recipients"):
        dpv.profile_of({k: v for k, v in PROFILE.items() if k != "recipients"})
    with pytest.raises(PermissionRecordError, match="not among the parties"):
        dpv.profile_of(PROFILE | {"recipients": ["nobody"]})
    for odd in (None, [], "x", {"parties": "x"}):
        with pytest.raises(FedgeError):
            dpv.profile_of(odd)
