"""Reason codes and sizes of the log in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "no_consent": "never asked, or no answer",
        "refused": "refused",
        "withdrawn": "withdrawn",
        "expired": "permission expired",
        "not_yet_valid": "permission not yet valid",
        "purpose_mismatch": "permitted for another purpose",
        "opt_out": "opted out of secondary use",
        "revoked": "permit or legal basis revoked",
        "scope_mismatch": "permitted for other data or recipients",
        "condition_unmet": "permitted under a condition that is not met",
        "unreadable": "a permission that cannot be read",
        "quality": "unusable values",
        "budget_exhausted": "privacy budget spent",
        "schedule_changed": "other noise, rate or steps than the run's plan",
        "no_budget": "no privacy budget set",
        "no_permitted_record": "no permitted record",
        "too_few_records": "too few permitted records",
        "permission_unreadable": "permission records unreadable",
        "ledger_unreadable": "privacy ledger unreadable or an older copy",
        "withdrawn_in_flight": "a person withdrew before the update was sent",
        "order_expired": "the order had expired",
        "replayed_order": "an order for a round already past",
        "conflicting_order": "two different orders for one round",
        "log_rewritten": "the server's log was rewritten, forked or cut",
        "statement_not_logged": "the server left a statement of the client out of its log",
        "cohort_drift": "the records are not the ones that their owner approved",
        "erased": "erased",
        "task_mismatch": "another task than the one approved",
        "unknown_purpose": "a purpose that is not known",
        "unknown_recipe": "a recipe that is not known",
        "task_not_approved": "the owner has not approved the task",
        "purpose_not_allowed": "the owner does not allow the purpose",
        "cohort_too_small": "too few clients were asked",
        "no_privacy": "the owner demands privacy",
        "insecure_noise": "the owner demands noise from a secure source",
        "noise_too_small": "the owner demands more noise",
        "clip_norm_too_large": "the owner demands a smaller clip norm",
        "epsilon_per_round_too_large": "the round would cost more than the owner allows",
        "unsound_terms": "the terms of the secure sum do not keep what they promise",
        "too_few_colluders_covered": "the owner demands that more colluding clients do no harm",
        "session_cut": "the session of secure sums ended before this client's last word",
        "secure_sum_failed": "the masks could not be taken off the sum",
        "too_few_updates": "too few updates came",
        "bad_statement": "a statement that does not hold",
        "bad_update": "an update that is not what it says",
        "task_error": "the task's own code failed at the client",
        "unsound": "the task cannot be trained with the privacy that was asked for",
        "data": "the task's result is no number",
        "storage": "the client's disk refused",
        "model_not_finite": "the updates together make no finite model",
        "owner": "by decision of the data's owner",
        "operator": "stopped by the operator",
    }
)


def octets(count: int) -> str:
    """Return a number of bytes for people: 950 B, 12.3 kB, 4.56 MB."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
