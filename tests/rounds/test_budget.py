"""The owner's budget in a run: it may change while rounds go on, and whoever departs from the plan is refused."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from fedge.assemble import config_bytes
from fedge.audit.verify import verify_run
from fedge.privacy.budget import Budget
from fedge.rounds.coordinator import Coordinator
from tests.rounds.house import ONE, House, house, last

DELTA = 1e-5


def setting(here: House, budget: Budget, before_round: int) -> Any:
    """Return the body of a run in which hospital-1 sets `budget` just before a round."""
    site = here.site(ONE)

    def body(coordinator: Coordinator) -> None:
        for record in coordinator.rounds():
            if record.round == before_round - 1:
                site.ledger.set_budget(site.training.lineage, budget, here.clock())
        coordinator.close(None)

    return body


def verified(here: House, body: Any) -> list[str]:
    """Carry `body` out, verify its log, and return how hospital-1 answered each round."""
    (here.folder / "config.json").write_bytes(config_bytes(here.assembled.config))
    here.coordinated(body)
    found = verify_run(here.folder)
    assert found.holds, found.checks
    said = [e.payload for e in found.entries if e.event == "data_use" and e.signer == ONE]
    return [str(use["reason"] or use["outcome"]) for use in said]


def test_an_owner_who_lowers_the_budget_is_obeyed_and_the_log_holds(tmp_path: Path) -> None:
    here = house(tmp_path)
    answers = verified(here, setting(here, Budget(0.5, DELTA), before_round=2))
    assert answers == ["submitted", "budget_exhausted", "budget_exhausted"]


def test_an_owner_may_change_the_delta_and_the_log_holds(tmp_path: Path) -> None:
    here = house(tmp_path)
    answers = verified(here, setting(here, Budget(8.0, 1e-3), before_round=3))
    assert answers == ["submitted"] * 3


def test_a_period_and_a_filter_are_stated_as_what_they_are(tmp_path: Path) -> None:
    here = house(tmp_path)
    budget = Budget(30.0, DELTA, timedelta(days=365), 90.0, "adaptive")
    assert verified(here, setting(here, budget, before_round=2)) == ["submitted"] * 3
    said = [use.privacy for use in (last(here.ask(here.order(round=4))),)]
    assert [(p.accountant, p.budget_epsilon) for p in said] == [("rdp-filter", "90.0")]


def test_an_order_that_departs_from_the_plan_is_refused(tmp_path: Path) -> None:
    """Less noise in round 2 than in round 1 may follow from what round 1 has shown."""
    here = house(tmp_path, "policy.maximum_epsilon_per_round=100")
    first = here.said(here.order())
    assert first.outcome == "submitted"
    recipe = dict(here.assembled.plan.recipe)
    other = here.order(round=2, recipe=recipe | {"steps": 4})
    said = here.said(other)
    assert (said.outcome, said.reason) == ("refused", "schedule_changed")
    site = here.site(ONE)
    site.ledger.set_budget(site.training.lineage, Budget(60.0, DELTA, schedule="adaptive"), here.clock())
    again = here.said(replace(other, attempt=2))
    assert (again.outcome, again.reason) == ("submitted", None)
