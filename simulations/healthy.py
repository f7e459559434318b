"""Everybody takes part."""

from __future__ import annotations

from pathlib import Path

from simulations.scenario import Claim, Scenario, run, sound


def play(out: Path) -> list[Claim]:
    """Run, and count who answered."""
    result = run(out)
    closings = [e.payload for e in result.verification.entries if e.event == "round_close"]
    return [
        Claim("every hospital's update is in every round", [c["accepted"] for c in closings] == [3, 3, 3]),
        Claim("the model is better than guessing", result.scores["accuracy"] > 0.63),
        *sound(result),
    ]


SCENARIO = Scenario(
    "healthy",
    "Three hospitals train one model for three rounds. Some of their patients refused, some permissions have expired; "
    "their records are left out, and the rest is enough.",
    play,
)
