"""What the engine decides, row by row, for people to read: each row is run, and docs/consent.md prints the same rows.

The question is always: may the record of this person be used for health research on 1 July 2026, 12:00 UTC? A row says
where it asks something else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fedge.consent import fhir
from fedge.consent.events import PermissionEvent
from fedge.consent.request import Request
from fedge.consent.verdicts import Reason

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PERSON = "anna"
EARLIER, LATER = "2026-01-10T09:00:00.000Z", "2026-03-01T09:00:00.000Z"
SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

Given = PermissionEvent | dict[str, Any]
"""An event, or a FHIR Consent."""


@dataclass(frozen=True)
class Case:
    """What is on file, what is asked, and the answer."""

    on_file: str
    verdict: Reason
    given: tuple[Given, ...]
    asked: str = ""
    request: Request = field(default_factory=lambda: Request("health-research"))


def event(act: Any, *purposes: str, kind: Any = "consent", at: str = EARLIER, **more: Any) -> PermissionEvent:
    subject = "*" if kind in {"permit", "legal_basis"} else PERSON
    more = {"valid_from": at} | more
    return PermissionEvent(
        act=act, kind=kind, subject=subject, purposes=purposes or ("any-use",), recorded_at=at, **more
    )


def permit(**more: Any) -> PermissionEvent:
    return event("grant", "HRESCH", kind="permit", record="HDAB-17", legal_bases=("eu-gdpr:A9-2-j",), **more)


def opt_out(*purposes: str, **more: Any) -> PermissionEvent:
    return event("grant", *(purposes or ("any-use",)), kind="opt_out", **more)


def purposes(*codes: str, system: str = SYSTEM) -> dict[str, Any]:
    return {"purpose": [{"system": system, "code": code} for code in codes]}


def r4(status: str = "active", **more: Any) -> dict[str, Any]:
    found = {
        "resourceType": "Consent",
        "id": "c1",
        "status": status,
        "scope": {"coding": [{"code": "research"}]},
        "patient": {"reference": f"Patient/{PERSON}"},
        "dateTime": "2026-01-10T09:00:00Z",
        "provision": {"type": "permit", **purposes("HRESCH")},
    } | more
    return {k: v for k, v in found.items() if v is not None}


def r5(status: str = "active", **more: Any) -> dict[str, Any]:
    found = {
        "resourceType": "Consent",
        "id": "c1",
        "status": status,
        "subject": {"reference": f"Patient/{PERSON}"},
        "date": "2026-01-10",
        "decision": "deny",
        "provision": [purposes("HRESCH")],
    } | more
    return {k: v for k, v in found.items() if v is not None}


def rule(kind: str, *codes: str, **more: Any) -> dict[str, Any]:
    return {"type": kind} | (purposes(*codes) if codes else {}) | more


def ask(purpose: str = "health-research", *facts: str, **more: Any) -> Request:
    return Request(purpose, facts=frozenset(facts), **more)


YES, NO = Reason.admitted, Reason.no_consent
CASES: tuple[tuple[str, tuple[Case, ...]], ...] = (
    (
        "Consent",
        (
            Case("Nothing at all", NO, ()),
            Case("Consent to health research", YES, (event("grant", "HRESCH"),)),
            Case("Consent to any research", YES, (event("grant", "any-research"),)),
            Case(
                "Consent to health research",
                Reason.purpose_mismatch,
                (event("grant", "HRESCH"),),
                "for any research",
                ask("any-research"),
            ),
            Case(
                "Consent to health research",
                Reason.purpose_mismatch,
                (event("grant", "HRESCH"),),
                "for a commercial purpose",
                ask("commercial"),
            ),
            Case("Consent to care only", Reason.purpose_mismatch, (event("grant", "TREAT"),)),
            Case(
                "Consent to health research",
                Reason.purpose_mismatch,
                (event("grant", "HRESCH"),),
                "for a purpose nobody has heard of",
                ask("world-domination"),
            ),
            Case("The person said no", Reason.refused, (event("refuse"),)),
            Case("Consent, later withdrawn", Reason.withdrawn, (event("grant", "HRESCH"), event("withdraw", at=LATER))),
            Case(
                "Consent, withdrawn, given anew",
                YES,
                (
                    event("grant", "HRESCH"),
                    event("withdraw", at=LATER),
                    event("grant", "HRESCH", at="2026-04-01T09:00:00.000Z"),
                ),
            ),
            Case(
                "Consent to any research, later withdrawn for commercial use only",
                YES,
                (event("grant", "any-use"), event("withdraw", "commercial", at=LATER)),
            ),
            Case(
                "Consent to any research, later withdrawn for disease research",
                Reason.withdrawn,
                (event("grant", "any-research"), event("withdraw", "DSRCH", at=LATER)),
            ),
            Case(
                "The same",
                YES,
                (event("grant", "any-research"), event("withdraw", "DSRCH", at=LATER)),
                "for training algorithms, which is no disease research",
                ask("algorithm-training"),
            ),
            Case(
                "Consent and refusal, recorded at the same moment",
                Reason.refused,
                (event("refuse"), event("grant", "HRESCH")),
            ),
            Case(
                "Two consents of the same moment, one of them ended",
                Reason.expired,
                (event("grant", "HRESCH"), event("grant", "HRESCH", valid_until="2026-06-01T00:00:00.000Z")),
            ),
            Case(
                "Consent until 1 July 2026, 12:00 exactly",
                Reason.expired,
                (event("grant", "HRESCH", valid_until="2026-07-01T12:00:00.000Z"),),
            ),
            Case(
                "Consent from 1 July 2026, 12:00 exactly",
                YES,
                (event("grant", "HRESCH", valid_from="2026-07-01T12:00:00.000Z"),),
            ),
            Case(
                "Consent from tomorrow",
                Reason.not_yet_valid,
                (event("grant", "HRESCH", valid_from="2026-07-02T00:00:00.000Z"),),
            ),
            Case("Consent recorded tomorrow", NO, (event("grant", "HRESCH", at="2026-07-02T00:00:00.000Z"),)),
            Case(
                "Consent that the register says has lapsed",
                Reason.expired,
                (event("grant", "HRESCH"), event("expire", "HRESCH", at=LATER)),
            ),
            Case(
                "Consent that was recorded in error (wrong person)",
                NO,
                (event("grant", "HRESCH", record="F-1"), event("correct", at=LATER, record="F-1")),
            ),
            Case(
                "A refusal that was recorded in error: it stands until consent is recorded",
                Reason.refused,
                (event("refuse", record="F-1"), event("correct", at=LATER, record="F-1")),
            ),
        ),
    ),
    (
        "Opt-out, permit, legal basis",
        (
            Case("Opt-out, and consent given later", Reason.opt_out, (opt_out(), event("grant", "HRESCH", at=LATER))),
            Case("Opt-out, and a permit", Reason.opt_out, (opt_out(), permit())),
            Case("Opt-out from any research", Reason.opt_out, (opt_out("any-research"), permit())),
            Case("Opt-out from disease research only", Reason.opt_out, (opt_out("DSRCH"), permit())),
            Case("Opt-out from commercial use only", YES, (opt_out("commercial"), permit())),
            Case(
                "Opt-out, taken back; a permit", YES, (opt_out(), event("withdraw", kind="opt_out", at=LATER), permit())
            ),
            Case(
                "Opt-out, taken back; neither consent nor permit",
                NO,
                (opt_out(), event("withdraw", kind="opt_out", at=LATER)),
            ),
            Case(
                "Opt-out, taken back for health research only",
                Reason.opt_out,
                (opt_out(), event("withdraw", "HRESCH", kind="opt_out", at=LATER), permit()),
                "for any research",
                ask("any-research"),
            ),
            Case(
                "Opt-out that ended in June; a permit", YES, (opt_out(valid_until="2026-06-01T00:00:00.000Z"), permit())
            ),
            Case(
                "Opt-out without end, later one until June; a permit",
                Reason.opt_out,
                (opt_out(), opt_out(at=LATER, valid_until="2026-06-01T00:00:00.000Z"), permit()),
            ),
            Case("A data permit for the data set; the person was never asked", YES, (permit(),)),
            Case(
                "A legal basis for the data set; the person was never asked",
                YES,
                (event("grant", "HRESCH", kind="legal_basis", legal_bases=("eu-gdpr:A9-2-i",)),),
            ),
            Case("A permit, and the person said no", Reason.refused, (permit(), event("refuse"))),
            Case(
                "A permit, and the person withdrew a consent",
                Reason.withdrawn,
                (permit(), event("grant", "HRESCH"), event("withdraw", at=LATER)),
            ),
            Case(
                "A permit, and the person's own consent has ended: who was asked is not judged by a permit instead",
                Reason.expired,
                (permit(), event("grant", "HRESCH", valid_until="2026-06-01T00:00:00.000Z")),
            ),
            Case("A permit, and the person's consent to care", YES, (permit(), event("grant", "TREAT"))),
            Case("A permit that ended in June", Reason.expired, (permit(valid_until="2026-06-01T00:00:00.000Z"),)),
            Case("A permit that was revoked", Reason.revoked, (permit(), event("revoke", kind="permit", at=LATER))),
            Case(
                "A permit revoked, a legal basis standing: the stricter",
                Reason.revoked,
                (permit(), event("revoke", kind="permit", at=LATER), event("grant", "HRESCH", kind="legal_basis")),
            ),
            Case(
                "A permit that was revoked, and the person's own consent",
                YES,
                (event("revoke", kind="permit"), event("grant", "HRESCH")),
            ),
        ),
    ),
    (
        "Scope and conditions",
        (
            Case(
                "Consent for non-commercial use (NCU)",
                Reason.condition_unmet,
                (event("grant", "HRESCH", conditions=("NCU",)),),
            ),
            Case(
                "The same",
                YES,
                (event("grant", "HRESCH", conditions=("DUO:0000046",)),),
                "where the operator states non-commercial use",
                ask("HRESCH", "non_commercial"),
            ),
            Case(
                "Consent for not-for-profit, non-commercial use (NPUNCU)",
                Reason.condition_unmet,
                (event("grant", "HRESCH", conditions=("NPUNCU",)),),
                "where the operator states non-commercial use only",
                ask("HRESCH", "non_commercial"),
            ),
            Case(
                "Consent that needs ethics approval (IRB)",
                YES,
                (event("grant", "HRESCH", conditions=("IRB",)),),
                "where the operator states ethics approval",
                ask("HRESCH", "ethics_approval"),
            ),
            Case(
                "Consent for one named user (US=Charité)",
                Reason.condition_unmet,
                (event("grant", "HRESCH", conditions=("US=Charité",)),),
                "by another user",
                ask("HRESCH", "user=Other"),
            ),
            Case(
                "Consent for a user who is not named (US)",
                Reason.condition_unmet,
                (event("grant", "HRESCH", conditions=("US",)),),
                "by any user",
                ask("HRESCH", "user=Other"),
            ),
            Case(
                "Consent, no methods development (NMDS)",
                Reason.condition_unmet,
                (event("grant", "HRESCH", conditions=("NMDS",)),),
            ),
            Case(
                "Consent for one research topic (RS=asthma)",
                YES,
                (event("grant", "HRESCH", conditions=("RS=asthma",)),),
                "on that topic",
                ask("HRESCH", "topic=asthma"),
            ),
            Case(
                "Consent under a condition unknown to the engine",
                Reason.condition_unmet,
                (event("grant", "HRESCH", conditions=("FULL-MOON",)),),
            ),
            Case(
                "Consent for laboratory data",
                YES,
                (event("grant", "HRESCH", categories=("lab",)),),
                "of laboratory data",
                ask(categories=("lab",)),
            ),
            Case(
                "Consent for laboratory data",
                Reason.scope_mismatch,
                (event("grant", "HRESCH", categories=("lab",)),),
                "of laboratory data and images",
                ask(categories=("lab", "imaging")),
            ),
            Case(
                "Consent for laboratory data",
                Reason.scope_mismatch,
                (event("grant", "HRESCH", categories=("lab",)),),
                "of data whose kind is not stated",
            ),
            Case(
                "Refusal for images only",
                YES,
                (event("grant", "HRESCH"), event("refuse", at=LATER, categories=("imaging",))),
                "of laboratory data",
                ask(categories=("lab",)),
            ),
            Case(
                "Consent for data set A",
                Reason.scope_mismatch,
                (event("grant", "HRESCH", dataset="A"),),
                "from data set B",
                ask(dataset="B"),
            ),
            Case(
                "Consent for data of 2020",
                Reason.scope_mismatch,
                (
                    event(
                        "grant", "HRESCH", data_from="2020-01-01T00:00:00.000Z", data_until="2021-01-01T00:00:00.000Z"
                    ),
                ),
                "of data from 2020 and 2021",
                ask(data_from="2020-01-01T00:00:00.000Z", data_until="2022-01-01T00:00:00.000Z"),
            ),
        ),
    ),
    (
        "FHIR R4 and R4B",
        (
            Case("Active, permit for HRESCH", YES, (r4(),)),
            Case(
                "Active, permit for HRESCH, ended on 30 June (the whole day counts)",
                Reason.expired,
                (r4(provision=rule("permit", "HRESCH", period={"end": "2026-06-30"})),),
            ),
            Case(
                "Active, permit for HRESCH, until 1 July (the whole day counts)",
                YES,
                (r4(provision=rule("permit", "HRESCH", period={"end": "2026-07-01"})),),
            ),
            Case("Inactive", Reason.withdrawn, (r4("inactive"),)),
            Case(
                "Inactive since March, and consent given anew in April",
                YES,
                (r4("inactive", meta={"lastUpdated": LATER}), event("grant", "HRESCH", at="2026-04-01T09:00:00.000Z")),
            ),
            Case("Rejected", Reason.refused, (r4("rejected"),)),
            Case("Proposed", NO, (r4("proposed"),)),
            Case("Entered in error", NO, (r4("entered-in-error"),)),
            Case("Status unknown to FHIR", Reason.unreadable, (r4("perhaps"),)),
            Case(
                "Root deny, permit for HRESCH as its exception",
                YES,
                (r4(provision=rule("deny", provision=[rule("permit", "HRESCH")])),),
            ),
            Case(
                "The same",
                Reason.refused,
                (r4(provision=rule("deny", provision=[rule("permit", "HRESCH")])),),
                "for public health",
                ask("public-health"),
            ),
            Case(
                "Root permit for HRESCH, deny for DSRCH as its exception",
                Reason.refused,
                (r4(provision=rule("permit", "HRESCH", provision=[rule("deny", "DSRCH")])),),
                "for disease research",
                ask("disease-research"),
            ),
            Case(
                "The same: a no to a part of what is asked is a no",
                Reason.refused,
                (r4(provision=rule("permit", "HRESCH", provision=[rule("deny", "DSRCH")])),),
            ),
            Case(
                "The same",
                YES,
                (r4(provision=rule("permit", "HRESCH", provision=[rule("deny", "DSRCH")])),),
                "for a clinical study",
                ask("clinical-research"),
            ),
            Case(
                "Root deny, permit for HRESCH, and within it deny for DSRCH",
                YES,
                (r4(provision=rule("deny", provision=[rule("permit", "HRESCH", provision=[rule("deny", "DSRCH")])])),),
                "for a clinical study",
                ask("clinical-research"),
            ),
            Case("Root permit without a purpose", Reason.unreadable, (r4(provision={"type": "permit"}),)),
            Case("No provision", Reason.unreadable, (r4(provision=None),)),
            Case(
                "A purpose code nobody knows", Reason.unreadable, (r4(provision=rule("permit", "HRESCH", "WHATEVER")),)
            ),
            Case(
                "A known code of an unknown code system",
                Reason.unreadable,
                (r4(provision={"type": "permit", **purposes("HRESCH", system="http://example.org")}),),
            ),
            Case("A modifierExtension", Reason.unreadable, (r4(modifierExtension=[{"url": "http://example.org"}]),)),
            Case(
                "A modifierExtension deep inside",
                Reason.unreadable,
                (r4(provision=rule("permit", "HRESCH", actor=[{"modifierExtension": [], "reference": {}}])),),
            ),
            Case(
                "A permit for collecting only",
                Reason.unreadable,
                (r4(provision=rule("permit", "HRESCH", action=[{"coding": [{"code": "collect"}]}])),),
            ),
            Case(
                "A permit for one organisation only",
                Reason.condition_unmet,
                (r4(provision=rule("permit", "HRESCH", actor=[{"reference": {"reference": "Organization/1"}}])),),
            ),
            Case(
                "The same",
                YES,
                (r4(provision=rule("permit", "HRESCH", actor=[{"reference": {"reference": "Organization/1"}}])),),
                "where the operator states that organisation",
                ask("HRESCH", "actor=Organization/1"),
            ),
            Case(
                "Permit for HRESCH with the DUO modifier NCU",
                Reason.condition_unmet,
                (
                    r4(
                        provision={
                            "type": "permit",
                            "purpose": [
                                {"system": SYSTEM, "code": "HRESCH"},
                                {"system": "http://purl.obolibrary.org/obo/duo.owl", "code": "DUO:0000046"},
                            ],
                        }
                    ),
                ),
            ),
            Case(
                "DUO general research use (GRU)",
                YES,
                (
                    r4(
                        provision={
                            "type": "permit",
                            **purposes("DUO_0000042", system="http://purl.obolibrary.org/obo/duo.owl"),
                        }
                    ),
                ),
            ),
            Case(
                "No date: nobody can say whether it came before or after another",
                Reason.unreadable,
                (r4(dateTime=None),),
            ),
            Case(
                "Scope treatment: says nothing of secondary use", NO, (r4(scope={"coding": [{"code": "treatment"}]}),)
            ),
            Case("Never verified, though it says so", Reason.unreadable, (r4(verification=[{"verified": False}]),)),
            Case("29 February 2026", Reason.unreadable, (r4(dateTime="2026-02-29"),)),
            Case(
                "Policy rule opt-out, permit for HRESCH as its exception",
                YES,
                (r4(policyRule={"coding": [{"code": "OPTOUT"}]}, provision={"provision": [rule("permit", "HRESCH")]}),),
            ),
        ),
    ),
    (
        "FHIR R5",
        (
            Case("Decision deny, permit for HRESCH as its exception", YES, (r5(),)),
            Case(
                "Decision permit, no purpose named: consent is specific or none",
                Reason.unreadable,
                (r5(decision="permit", provision=None),),
            ),
            Case("Decision deny", Reason.refused, (r5(provision=None),)),
            Case("No decision", Reason.unreadable, (r5(decision=None),)),
            Case("Period over", Reason.expired, (r5(period={"end": "2026-06"}),)),
            Case(
                "An expression",
                Reason.unreadable,
                (r5(provision=[{**purposes("HRESCH"), "expression": {"language": "text/cql"}}]),),
            ),
            Case(
                "A permit for some resources only",
                Reason.unreadable,
                (r5(provision=[{**purposes("HRESCH"), "data": [{"meaning": "instance"}]}]),),
            ),
            Case(
                "A permit for Observations",
                YES,
                (r5(provision=[{**purposes("HRESCH"), "resourceType": [{"code": "Observation"}]}]),),
                "of Observations",
                ask(categories=("Observation",)),
            ),
            Case("Inactive", Reason.withdrawn, (r5("inactive"),)),
            Case("Not done", Reason.refused, (r5("not-done"),)),
            Case("R5, permits and an opt-out", Reason.opt_out, (r5(), opt_out())),
            Case(
                "An unreadable Consent, older than a good one",
                YES,
                (r5(decision=None), event("grant", "HRESCH", at=LATER)),
            ),
            Case(
                "An unreadable Consent, newer than a good one",
                Reason.unreadable,
                (event("grant", "HRESCH", at="2026-01-01T09:00:00.000Z"), r5(decision=None)),
            ),
        ),
    ),
)


def events_of(given: tuple[Given, ...]) -> list[PermissionEvent]:
    """Return the events of what is on file, FHIR resources read as `fedge consent import` reads them."""
    how = fhir.How(now=NOW)
    found: list[PermissionEvent] = []
    for item in given:
        found += [item] if isinstance(item, PermissionEvent) else fhir.entry(item, "resource", how).events
    return found


def all_cases() -> Iterator[Case]:
    for _, cases in CASES:
        yield from cases


def rendered() -> str:
    """Return the cases as Markdown tables."""
    lines = []
    for title, cases in CASES:
        lines += [f"### {title}", "", "| on file | asked | answer | reason |", "|---|---|---|---|"]
        for case in cases:
            answer = "yes" if case.verdict == Reason.admitted else "**no**"
            lines.append(f"| {case.on_file} | {case.asked or '—'} | {answer} | {case.verdict.name} |")
        lines.append("")
    return "\n".join(lines)
