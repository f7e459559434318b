"""The report as plain values: canonical JSON, the object that is signed and that every other form is made of.

    report(judged, request) -> plain        canonical(plain) is report.json

It is a function of verified entries and of what was asked (`Request`), and of nothing else. So whoever holds the log
can make it again and compare: that is how `fedge report check` finds an edited number. It speaks no language; words
come where it is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedge.audit.verify import Verification
from fedge.reports import clients_report
from fedge.reports.evidence import EventEvidence, Evidence, Notable, PersonAct, RoundEvidence, Scope, gather
from fedge.reports.figures import MISSING, Figures, Source
from fedge.reports.judged import Judged

SCHEMA = "fedge.report/1"
EVERYTHING = Scope()


@dataclass(frozen=True)
class Signer:
    """Whose key signs the report: the server's, as the log names it, or one that its maker gave."""

    key: str
    whose: Literal["server", "given"]


@dataclass(frozen=True)
class Request:
    """What was asked for. `policy` is the text of the policy file that the maker trusts; None if none was given."""

    made_at: str
    made_by: str
    language: str = "en"
    scope: Scope = EVERYTHING
    policy: str | None = None
    signer: Signer | None = None


def report(runs: Sequence[Judged], request: Request) -> dict[str, Any]:
    """Return the report of `runs` as plain values, fit for `encoding.canonical`."""
    scope = request.scope
    signer = request.signer
    return {
        "schema": SCHEMA,
        "made_at": request.made_at,
        "made_by": request.made_by,
        "language": request.language,
        "scope": {"client": scope.client, "since": scope.since, "until": scope.until},
        "policy": request.policy,
        "signer": {"key": signer.key, "whose": signer.whose} if signer else None,
        "runs": [run_report(judged, scope) for judged in runs],
    }


def run_report(judged: Judged, scope: Scope) -> dict[str, Any]:
    """Return what one log says."""
    found, figures = gather(judged.entries, scope), Figures(judged.holds)
    return {
        "name": judged.name,
        "verification": _verification(judged.verification, judged),
        "run": _opening(found, figures),
        "privacy": _promise(found, figures),
        "totals": _totals(found, figures),
        "clients": [clients_report.client(c, figures) for c in found.clients],
        "repeated": [
            figures.row({"client": e.payload["client"], "lineage": e.payload["lineage"]}, e.index, attested=True)
            for e in found.repeated
        ],
        "acts": [_act(a, figures) for a in found.acts],
        "rounds": [_round(r, figures) for r in found.rounds],
        "evaluations": _evaluations(found, figures),
        "events": [_event(e, figures) for e in found.events.values()],
        "notable": {"count": found.notable_count, "rows": [_notable(n, figures) for n in found.notable]},
    }


def _verification(found: Verification, judged: Judged) -> dict[str, Any]:
    said = found.plain
    return {
        "holds": found.holds,
        "verdict": found.verdict,
        "entries": found.size,
        "shown": len(judged.entries),
        "root": found.root,
        "quorum": found.quorum,
        "cosigned_by": list(found.cosigned_by),
        "checks": said["checks"],
        "damage": [{"where": d.where, "reason": d.reason} for d in judged.damage],
    }


def _opening(found: Evidence, figures: Figures) -> dict[str, Any]:
    said, first = found.run, found.opened
    closed = found.closed
    models = [(r.model, r.index) for r in found.rounds]
    proven = {
        name: figures.proven(said.get(name), first)
        for name in ("run", "rounds_planned", "config_digest", "initial_model", "model_format", "server_key", "log_key")
    }
    declared = {
        name: figures.declared(said.get(name), first)
        for name in ("task", "purpose", "strategy", "code_version", "packages_digest")
    }
    continues = said.get("continues")
    return {
        **proven,
        **declared,
        "opened_at": figures.proven(said.get("at"), first),
        "closed_at": figures.proven(closed.payload["at"], closed.index) if closed else dict(MISSING),
        "last_at": figures.proven(found.last_at, first),
        "final_model": figures.proven(models[-1][0], models[-1][1]) if models else dict(MISSING),
        "aggregation": figures.proven(", ".join(found.aggregations) or None, [r.index for r in found.rounds]),
        "quorum": figures.proven(said.get("quorum"), first),
        "continues": figures.proven(
            f"{continues['run']}, round {continues['round']}: {continues['reason']}" if continues else None, first
        ),
    }


def _promise(found: Evidence, figures: Figures) -> dict[str, Any]:
    said: Mapping[str, Any] = found.run.get("privacy_statement", {})
    names = ("unit", "adjacency", "accountant", "sampling", "delta", "noise_source", "noise_at")
    return {name: figures.proven(said.get(name), found.opened) for name in names} | {"seeded": found.seeded}


def _totals(found: Evidence, figures: Figures) -> dict[str, Any]:
    closed, enrolled = [r.index for r in found.rounds], [c.enrolled for c in found.clients]
    refused: list[int] = []
    for client in found.clients:
        for outcome in ("refused", "skipped"):
            refused += client.outcome_entries.get(outcome, [])
    spent = [(c.epsilon_total, c.epsilon_entry) for c in found.clients if c.epsilon_total is not None]
    most, entry = max(spent, key=lambda s: s[0], default=(None, None))
    return {
        "rounds": figures.proven(len(found.rounds), closed),
        "void": figures.proven(sum(r.void for r in found.rounds), [r.index for r in found.rounds if r.void]),
        "updates": figures.proven(sum(r.accepted for r in found.rounds), closed),
        "clients": figures.proven(len(found.clients), enrolled),
        "organisations": figures.declared(len({c.organisation for c in found.clients}), enrolled),
        "refusals": figures.attested(len(refused), refused),
        "withdrawals": figures.attested(len(found.withdrawals), [a.entry for a in found.withdrawals]),
        "epsilon": figures.attested(most, entry) if found.unit != "none" else dict(MISSING),
    }


def _act(act: PersonAct, figures: Figures) -> dict[str, Any]:
    return figures.row(
        {
            "kind": act.kind,
            "client": act.client,
            "asked_at": act.asked_at,
            "effective_at": act.effective_at,
            "milliseconds": act.milliseconds,
            "round": act.round,
            "commitment": act.commitment,
            "models": act.models,
            "models_from": act.models_from,
            "models_to": act.models_to,
        },
        act.entry,
        attested=True,
    )


def _round(found: RoundEvidence, figures: Figures) -> dict[str, Any]:
    return figures.row(
        {
            "round": found.round,
            "at": found.at,
            "accepted": found.accepted,
            "void": found.void,
            "reason": found.reason,
            "model": found.model,
            "others": [[outcome, reason, n] for (outcome, reason), n in found.others.items()],
            "named": [list(n) for n in found.named],
        },
        found.index,
    )


def _evaluations(found: Evidence, figures: Figures) -> dict[str, Any]:
    said, sources = found.evaluations, found.events.get("evaluation")
    return {
        "headline": said.headline,
        "count": figures.proven(said.count, sources.entries if sources else None),
        "curves": {
            name: figures.row({"points": [[x, repr(y)] for x, y in points]}, sources.entries if sources else None)
            for name, points in said.curves.items()
        },
        "central": _evaluation(said.central, figures),
        "federated": _evaluation(said.federated, figures),
    }


def _evaluation(entry: Any, figures: Figures) -> dict[str, Any]:
    if entry is None:
        return {"values": {}, **{k: v for k, v in MISSING.items() if k != "value"}}
    said, source = entry.payload, entry.index
    members: dict[str, Any] = {name: said[name] for name in ("round", "at", "model", "noise_std", "n")}
    return figures.row(members | {"values": dict(said["values"])}, source)


def _event(found: EventEvidence, figures: Figures) -> dict[str, Any]:
    return figures.row(
        {
            "event": found.event,
            "aims": list(found.aims),
            "first_at": found.first_at,
            "last_at": found.last_at,
            "times": [at for _, at in found.times],
            "count": len(found.entries),
        },
        found.entries,
    )


def _notable(found: Notable, figures: Figures) -> dict[str, Any]:
    source: Source = found.entry
    return figures.row(
        {
            "event": found.event,
            "at": found.at,
            "client": found.client,
            "round": found.round,
            "reason": found.reason,
            "detail": found.detail,
        },
        source,
    )
