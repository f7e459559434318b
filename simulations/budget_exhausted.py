"""A hospital's privacy budget is spent before the run is over."""

from __future__ import annotations

from pathlib import Path

from simulations.scenario import Claim, Scenario, run, sound, uses


def play(out: Path) -> list[Claim]:
    """Give hospital-3 half of the budget that the run would need."""
    result = run(out, "population.budgets={hospital-3: 2.0}")
    stated = uses(result, "hospital-3")
    totals = [float(str(u["privacy"]["epsilon_total"])) for u in stated if isinstance(u["privacy"], dict)]
    others = [u["outcome"] for name in ("hospital-1", "hospital-2") for u in uses(result, name)]
    return [
        Claim("it refuses in the end, for this reason", stated[-1]["reason"] == "budget_exhausted"),
        Claim("it never spends more than it allows", max(totals) <= 2.0),
        Claim("the others go on without it", set(others) == {"submitted"}),
        *sound(result),
    ]


SCENARIO = Scenario(
    "budget_exhausted",
    "hospital-3 allows its patients' records an epsilon of 2 in all, half of what the run needs. When that is spent it "
    "refuses, and says why; the federation goes on with the two others.",
    play,
)
