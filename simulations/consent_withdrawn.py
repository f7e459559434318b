"""A patient withdraws while the run is going on."""

from __future__ import annotations

from pathlib import Path

from simulations.scenario import Claim, Scenario, run, sound, uses


def play(out: Path) -> list[Claim]:
    """Let one patient of hospital-1 withdraw before round 2, and look at what the hospital states afterwards."""
    result = run(out, "consent.withdrawals=[{round: 2, client: hospital-1}]")
    effective = [e.payload for e in result.verification.entries if e.event == "withdrawal_effective"]
    before, *after = uses(result, "hospital-1")
    return [
        Claim("the withdrawal is in the log, once", [e["round"] for e in effective] == [2]),
        Claim("nobody had withdrawn before", "withdrawn" not in _excluded(before)),
        Claim("from that round on a record is left out as withdrawn", all("withdrawn" in _excluded(u) for u in after)),
        Claim("the log names no patient", all(str(e["subject_commitment"]).startswith("sha256:") for e in effective)),
        *sound(result),
    ]


def _excluded(use: dict[str, object]) -> set[str]:
    counts = use["counts"]
    return set(counts["excluded"]) if isinstance(counts, dict) else set()


SCENARIO = Scenario(
    "consent_withdrawn",
    "Between the first and the second round a patient of hospital-1 withdraws. The hospital reads the record no more; "
    "its next statement says so, with the time it took, and without a name.",
    play,
)
