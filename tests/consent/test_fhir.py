"""FHIR Consents: versions, bundles, references, and whatever else may stand in one."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.consent import fhir
from fedge.consent.events import PermissionEvent
from fedge.consent.fhir_validation import validator
from fedge.consent.formats import detect
from fedge.consent.grants import Reason
from fedge.consent.importing import Entry
from fedge.consent.store import PermissionStore
from tests.consent.bringing import HOW, bring, ndjson, verdict, written
from tests.consent.cases import NOW, r4, r5, rule


def test_a_newer_version_replaces_what_the_older_permitted(store: PermissionStore, tmp_path: Path) -> None:
    first = r4(provision=rule("permit", "HRESCH", "PUBHLTH"), meta={"lastUpdated": "2026-02-01T00:00:00Z"})
    second = r4(provision=rule("permit", "PUBHLTH"), meta={"lastUpdated": "2026-03-01T00:00:00Z"})
    bring(store, written(tmp_path, "1.ndjson", ndjson(first)))
    assert verdict(store) == Reason.admitted
    bring(store, written(tmp_path, "2.ndjson", ndjson(second)))
    assert verdict(store) == Reason.purpose_mismatch
    late = bring(store, written(tmp_path, "3.ndjson", ndjson(r4(meta={"lastUpdated": "2026-02-15T00:00:00Z"}))))
    assert "older" in late.aside[0][1]
    assert verdict(store) == Reason.purpose_mismatch


def test_a_record_moved_to_another_patient_leaves_the_first(store: PermissionStore, tmp_path: Path) -> None:
    bring(store, written(tmp_path, "1.ndjson", ndjson(r4())))
    bring(store, written(tmp_path, "2.ndjson", ndjson(r4(patient={"reference": "Patient/bert"}))))
    assert (verdict(store, "anna"), verdict(store, "bert")) == (Reason.no_consent, Reason.admitted)


def test_entered_in_error_strikes_an_earlier_version(store: PermissionStore, tmp_path: Path) -> None:
    bring(store, written(tmp_path, "1.ndjson", ndjson(r4())))
    bring(store, written(tmp_path, "2.ndjson", ndjson(r4("entered-in-error"))))
    assert verdict(store) == Reason.no_consent


def test_an_old_consent_does_not_undo_a_newer_withdrawal(store: PermissionStore, tmp_path: Path) -> None:
    march = "2026-03-01T00:00:00.000Z"
    store.append([PermissionEvent("withdraw", "consent", "anna", ("any-use",), march, march)])
    bring(store, written(tmp_path, "1.ndjson", ndjson(r4(meta={"lastUpdated": "2026-06-30T00:00:00Z"}))))
    assert verdict(store) == Reason.withdrawn


def test_a_bundle_in_one_document(store: PermissionStore, tmp_path: Path) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": r4()}, {"resource": {"resourceType": "Patient", "id": "anna"}}, {"fullUrl": "x"}],
    }
    path = written(tmp_path, "b.json", json.dumps(bundle, indent=2))
    assert detect(path) == "fhir"
    report = bring(store, path, accept_valid=True)
    assert (report.accepted, report.refused, len(report.aside)) == (1, 1, 1)


def test_what_was_not_understood_is_summed_up(store: PermissionStore, tmp_path: Path) -> None:
    odd = [r4(id=f"c{n}", patient={"reference": f"Patient/{n}"}, modifierExtension=[]) for n in range(3)]
    report = bring(store, written(tmp_path, "a.ndjson", ndjson(*odd, r5(decision=None))))
    assert report.not_understood == {"modifier_extension": 3, "no_decision": 1}
    assert verdict(store, "1") == Reason.unreadable


def test_the_operator_may_say_what_the_form_says(store: PermissionStore, tmp_path: Path) -> None:
    path = written(tmp_path, "a.ndjson", ndjson(r5(decision="permit", provision=None)))
    bring(store, path, fhir.How(now=NOW, assumed=("health-research",)))
    assert verdict(store) == Reason.admitted


@pytest.mark.parametrize(
    ("patient", "subject"),
    [
        ({"reference": "Patient/7"}, "7"),
        ({"reference": "https://example.org/fhir/Patient/7/_history/3"}, "7"),
        ({"reference": "urn:uuid:0c3151bd"}, "urn:uuid:0c3151bd"),
        ({"identifier": {"system": "urn:mrn", "value": "7"}}, "7"),
    ],
)
def test_whose_consent_it_is(patient: dict[str, Any], subject: str) -> None:
    assert fhir.entry(r4(patient=patient), "x", HOW).events[0].subject == subject


@pytest.mark.parametrize(
    "patient",
    [
        None,
        {},
        "Patient/7",
        {"reference": "Group/7"},
        {"reference": "#p"},
        {"reference": "Patient/"},
        {"identifier": {}},
    ],
)
def test_nobodys_consent_is_refused(patient: Any) -> None:
    assert fhir.entry(r4() | {"patient": patient}, "x", HOW).refused is not None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["permit", "deny", "HRESCH", "active", "2026-01-01", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(fhir.R4 | fhir.R5)), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(sorted(fhir.R4 | fhir.R5)), JSON, max_size=8), st.booleans())
def test_whatever_stands_in_a_consent_is_an_entry(odd: dict[str, Any], newer: bool) -> None:
    """No resource is an exception; whatever else stands in it, it permits nothing that it did not name."""
    base = r5() if newer else r4()
    found = fhir.entry(base | odd, "x", HOW)
    assert isinstance(found, Entry)
    for event in found.events:
        assert not event.permits or set(event.purposes) <= {"health-research"}


@given(
    st.recursive(
        st.just(rule("permit", "HRESCH")), lambda r: r.map(lambda x: rule("deny", provision=[x])), max_leaves=12
    )
)
def test_depth_is_bounded(nested: dict[str, Any]) -> None:
    fhir.entry(r4(provision=nested), "x", HOW)


def test_the_schema_of_fhir_is_held_on_request() -> None:
    check = validator()
    check(r4(category=[{"text": "research"}]))
    how = fhir.How(now=NOW, validate=check)
    assert fhir.entry(r4(dateTime="2026-01-10T09:00:00Z"), "x", how).events[0].unread == (
        "invalid_fhir",
    )  # no category
    assert fhir.entry(r4(category=[{"text": "research"}]), "x", how).events[0].act == "grant"
    assert fhir.entry(r5(), "x", how).events[1].act == "grant"
