"""A hospital holds no record that may be read."""

from __future__ import annotations

from pathlib import Path

from simulations.scenario import Claim, Scenario, run, sound, uses


def play(out: Path) -> list[Claim]:
    """Let nobody at any hospital have agreed."""
    result = run(out, "consent=all", "consent.refused=1.0", "evaluation.federated=none")
    stated = [use for name in ("hospital-1", "hospital-2", "hospital-3") for use in uses(result, name)]
    closings = [e.payload for e in result.verification.entries if e.event == "round_close"]
    opening = result.verification.entries[0].payload
    return [
        Claim("every hospital refuses every round", {u["reason"] for u in stated} == {"no_permitted_record"}),
        Claim("every round is void and says so", all(c["void"] and c["reason"] == "too_few_updates" for c in closings)),
        Claim("the model is still the first one", closings[-1]["model_out"] == opening["initial_model"]),
        *sound(result),
    ]


SCENARIO = Scenario(
    "nobody_permits",
    "All patients have refused. No record is read and nothing is learned: every round is void, recorded as such, and "
    "the model stays as it was.",
    play,
)
