"""What a report says of one client, as plain values: most of it is ATTESTED, for only the client could know it."""

from __future__ import annotations

from typing import Any

from fedge.reports.evidence import ClientEvidence
from fedge.reports.figures import MISSING, Figures

DATASET = ("version", "origin", "purpose_of_collection", "period", "commitment", "schema_digest")
MECHANISM = ("mechanism", "unit", "adjacency", "accountant", "sampling", "sample_rate", "noise_multiplier", "clip_norm",
             "delta", "secure_noise", "noise_at")  # fmt: skip
PERMISSION = ("snapshot_digest", "as_of", "policy_digest", "engine")


def client(found: ClientEvidence, figures: Figures) -> dict[str, Any]:
    """Return what the report says of a client."""
    return {
        "client": found.client,
        "organisation": figures.declared(found.organisation, found.enrolled),
        "key": figures.proven(found.key, found.enrolled),
        "enrolled": figures.proven(found.enrolled, found.enrolled),
        "retired": figures.proven(found.retired, found.retired),
        "statements": figures.proven(len(found.entries), found.entries),
        "outcomes": {name: figures.attested(len(source), source) for name, source in found.outcome_entries.items()},
        "reasons": {name: figures.attested(len(source), source) for name, source in found.reason_entries.items()},
        "purposes": figures.attested(list(found.purposes) or None, found.entries),
        "legal_bases": figures.declared(list(found.legal_bases) or None, found.entries),
        "formats": figures.attested(list(found.formats) or None, found.entries),
        "codes": figures.attested(list(found.codes) or None, found.entries),
        "secure_aggregation": figures.attested(found.secure_aggregation, found.latest),
        "data": _data(found, figures),
        "permission": _permission(found, figures),
        "privacy": _privacy(found, figures),
        "resources": _resources(found, figures),
    }


def _data(found: ClientEvidence, figures: Figures) -> dict[str, Any]:
    counts, source = found.counts, found.counts_entry
    return {
        "lineage": figures.declared(found.lineage or None, found.latest),
        **{name: figures.declared(found.dataset.get(name), found.latest) for name in DATASET},
        "eligible": figures.attested(counts.get("eligible"), source),
        "used": figures.attested(counts.get("used"), source),
        "excluded": {name: figures.attested(n, source) for name, n in found.excluded.items()},
        "counts_commitment": figures.attested(counts.get("commitment"), source),
    }


def _permission(found: ClientEvidence, figures: Figures) -> dict[str, Any]:
    return {
        **{name: figures.attested(found.permission.get(name), found.permission_entry) for name in PERMISSION},
        "snapshots": figures.attested(len(found.permissions), found.entries),
        "policies": figures.attested(len(found.policies), found.entries),
    }


def _privacy(found: ClientEvidence, figures: Figures) -> dict[str, Any]:
    total, budget = found.epsilon_total, found.budget
    left = round(budget - total, 6) if budget is not None and total is not None and total < float("inf") else None
    return {
        **{name: figures.attested(found.privacy.get(name), found.latest) for name in MECHANISM},
        "epsilon_total": figures.attested(total, found.epsilon_entry),
        "budget": figures.declared(found.privacy.get("budget_epsilon"), found.latest),
        "left": figures.attested(left, found.epsilon_entry),
        "curve": figures.row({"points": [[x, repr(y)] for x, y in found.epsilon]}, found.entries, attested=True),
    }


def _resources(found: ClientEvidence, figures: Figures) -> dict[str, Any]:
    if not found.resources:
        return {name: dict(MISSING) for name in ("wall_ms", "cpu_ms", "bytes_in", "bytes_out", "energy_mj", "device")}
    measured = any(source != "none" for source in found.energy_sources)
    took: dict[str, int | None] = dict(found.resources)
    took["energy_mj"] = took["energy_mj"] if measured else None
    return {
        **{name: figures.attested(value, found.entries) for name, value in took.items()},
        "device": figures.declared(", ".join(found.devices) or None, found.entries),
    }
