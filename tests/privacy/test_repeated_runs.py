"""Runs on the same data add up, whoever starts them; a parameter search is as many runs as it has points."""

import json
import sys
from pathlib import Path

import pytest

from fedge import cli
from fedge.calibration import recipe_of
from fedge.compose import compose
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.learning.recipe import event
from fedge.privacy.accountant import epsilon
from fedge.privacy.events import SampledGaussian
from fedge.privacy.ledger import Ledger
from tests.rounds.house import FEW

DELTA = 1e-5
TINY = [*FEW, "rounds=2", "privacy.epsilon=2", "population.budgets={hospital-1: 3.5}"]


def test_noise_is_set_for_every_step_of_the_planned_run() -> None:
    config = compose(["rounds=7", "training.steps=11", "privacy.epsilon=3"])
    one = event(recipe_of(config))
    assert isinstance(one, SampledGaussian)
    assert one.steps == 11
    assert epsilon([one] * 7, DELTA) <= 3
    less = SampledGaussian(one.sample_rate, 0.998 * one.noise_multiplier, 77)
    assert epsilon([less], DELTA) > 3, "no more noise than that takes"


def test_a_search_on_kept_homes_adds_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two points of a search: hospital-1 allows more and has spent on both; the others refuse the second."""
    home, one = tmp_path / "home", event(recipe_of(compose(TINY)))
    points = [*TINY, f"population.home={home}", f"out={tmp_path / 'runs'}", "training.learning_rate=0.1,0.5"]
    monkeypatch.setattr(sys, "argv", ["fedge", "run", "--multirun", *points, "--format=json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    printed = capfd.readouterr()
    assert not left.value.code, printed.err
    assert len(json.loads(printed.out)) == 2
    spent, refused = (ledger.spent(lineage) for ledger, lineage in (held(home, "hospital-1"), held(home, "hospital-2")))
    assert refused == (one, one), "the first run's two rounds, and nothing of the second"
    assert set(spent) == {one}
    assert len(spent) > 2
    assert held(home, "hospital-1")[0].epsilon(Lineage("cancer/hospital-1"), DELTA) == epsilon(spent, DELTA) > 2


def held(home: Path, name: str) -> tuple[Ledger, Lineage]:
    return Ledger(SqliteJournal(home / name / "ledger.db", "spends")), Lineage(f"cancer/{name}")
