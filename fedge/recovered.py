"""Metrics of rounds whose line a crash has swallowed, read back from the log: whatever is released is in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fedge.audit.leaves import DataUse, Evaluation, Participant, RoundClose, RoundRoll, decode


def missing_lines(entries: Sequence[bytes], known: set[int]) -> Iterator[dict[str, Any]]:
    """Yield the metrics line of every closed round that is not in `known`; times and bytes were lost with the crash."""
    leaves = [decode(entry)[0] for entry in entries]
    scores = {e.round: e for e in leaves if isinstance(e, Evaluation) and e.scope == "central"}
    uses = {(u.round, u.client): u for u in leaves if isinstance(u, DataUse) and u.work == "train"}
    listed: list[Participant] = []
    for leaf in leaves:
        if isinstance(leaf, RoundRoll):
            listed += leaf.participants
        elif isinstance(leaf, RoundClose):
            if leaf.round not in known:
                whole = replace(leaf, participants=(*listed, *leaf.participants))
                yield _line(whole, scores.get(leaf.round), uses)
            listed = []


def _line(closing: RoundClose, score: Evaluation | None, uses: dict[tuple[int, str], DataUse]) -> dict[str, Any]:
    parts = [
        {
            "client": p.client,
            "outcome": p.outcome,
            "reason": p.reason,
            "epsilon_total": _number(use.privacy.epsilon_total) if use else None,
            "budget_epsilon": _number(use.privacy.budget_epsilon) if use else None,
        }
        for p in closing.participants
        for use in [uses.get((closing.round, p.client))]
    ]
    spent = [p["epsilon_total"] for p in parts if p["epsilon_total"] is not None]
    return {
        "round": closing.round,
        "attempt": closing.attempt,
        "scores": {name: float(value) for name, value in score.values.items()} if score else {},
        "accepted": closing.accepted,
        "void": closing.void,
        "reason": closing.reason,
        "epsilon_max": max(spent) if spent else None,
        "participants": parts,
        "model": closing.model_out,
        "seconds": {},
        "bytes_down": 0,
        "bytes_up": 0,
    }


def _number(text: str | None) -> float | None:
    return None if text is None or text == "inf" else float(text)
