"""`fedge budget`: both adjacencies, a forecast that comes true, and periods that forget nothing."""

import json
from pathlib import Path

import pytest

from fedge.compose import from_yaml
from fedge.encoding import utc_now
from fedge.errors import BudgetError
from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy.accountant import epsilon
from fedge.privacy.events import SampledGaussian
from fedge.privacy.ledger import Ledger
from tests.conftest import Run

DATA = "cancer/hospital-1"


def client(run: Path) -> Path:
    return run / "clients" / "hospital-1"


def ledger(run: Path) -> Ledger:
    return Ledger(SqliteJournal(client(run) / "ledger.db", "spends"))


def words(out: str) -> str:
    return " ".join(out.split())


def shown(fedge: Run, folder: Path) -> dict[str, object]:
    rows = json.loads(fedge("budget", "show", folder, "--format", "json")[1])
    found: dict[str, object] = next(row for row in rows if row["data_set"] == DATA)
    return found


def test_show_prints_both_adjacencies(fedge: Run, copied: Path) -> None:
    row, events, delta = shown(fedge, copied), ledger(copied).spent(Lineage(DATA)), 1e-5
    assert row["spent"] == epsilon(events, delta)
    assert row["spent_replace_one"] == epsilon(events, delta, adjacency="replace-one") > row["spent"]
    assert row["spent_if_adaptive"] > row["spent"]  # type: ignore[operator]
    out = words(fedge("budget", "show", copied)[1])
    assert "by dp-accounting PLD" in out
    assert "(add/remove). Replace-one: another record in its place" in out
    assert f"{row['spent_replace_one']:.2f}" in out


def test_a_forecast_comes_true(fedge: Run, copied: Path) -> None:
    fedge("budget", "set", client(copied), DATA, "--epsilon", "6")
    code, out, _ = fedge("budget", "forecast", client(copied), "--format", "json")
    assert code == 0
    row = next(row for row in json.loads(out) if row["data_set"] == DATA)
    here, left = ledger(copied), row["rounds_left"]
    event = here.spent(Lineage(DATA))[-1]
    assert left > 0
    for n in range(left):
        here.reserve(Lineage(DATA), f"more-{n}", event, utc_now(), repeatable=False)
    assert here.epsilon(Lineage(DATA), 1e-5) == row["spent_then"]
    with pytest.raises(BudgetError):
        here.reserve(Lineage(DATA), "one too many", event, utc_now(), repeatable=False)


def test_a_forecast_at_given_settings(fedge: Run, copied: Path) -> None:
    fedge("budget", "set", client(copied), DATA, "--epsilon", "6")
    options = ["--sample-rate", "0.1", "--noise-multiplier", "3", "--steps", "5"]
    out = fedge("budget", "forecast", client(copied), *options, "--format", "json")[1]
    left = next(row["rounds_left"] for row in json.loads(out) if row["data_set"] == DATA)
    spent = [*ledger(copied).spent(Lineage(DATA))]
    assert epsilon([*spent, SampledGaussian(0.1, 3.0, 5 * left)], 1e-5) <= 6
    assert epsilon([*spent, SampledGaussian(0.1, 3.0, 5 * (left + 1))], 1e-5) > 6
    assert "rate 0.1" in words(fedge("budget", "forecast", client(copied), *options)[1])


def test_a_run_in_which_nothing_is_spent_is_forecast_from_its_recipe(fedge: Run, copied: Path) -> None:
    config = from_yaml((copied / "config.yaml").read_text())
    for file in client(copied).glob("ledger.db*"):
        file.unlink()
    fresh = Ledger(SqliteJournal(client(copied) / "ledger.db", "spends"))
    assert fresh.spent(Lineage(DATA)) == ()
    fedge("budget", "set", client(copied), DATA, "--epsilon", str(config.privacy.epsilon))
    rows = json.loads(fedge("budget", "forecast", copied, "--format", "json")[1])
    row = next(row for row in rows if row["data_set"] == DATA)
    assert row["rounds_left"] == config.rounds, "the noise was set for the whole planned run"


@pytest.mark.parametrize("options", [["--steps", "5"], ["--noise-multiplier", "-1", "--steps", "5"]])
def test_half_a_setting_is_no_setting(fedge: Run, copied: Path, options: list[str]) -> None:
    assert fedge("budget", "forecast", copied, *options)[0] == 2


def test_a_period_and_a_total(fedge: Run, copied: Path) -> None:
    budget = ["--epsilon", "5", "--period-days", "365", "--total", "8"]
    code, out, _ = fedge("budget", "set", client(copied), DATA, *budget)
    assert code == 0
    assert "in the last 365 days" in words(out)
    assert "the guarantee for a record is the total" in words(out)
    row = shown(fedge, copied)
    assert (row["period_days"], row["total"]) == (365, 8.0)
    assert row["counted"] == row["spent"]
    assert "the total is what composes" in words(fedge("budget", "show", copied)[1])


def test_an_adaptive_budget(fedge: Run, copied: Path) -> None:
    before = shown(fedge, copied)
    out = fedge("budget", "set", client(copied), DATA, "--epsilon", "9", "--schedule", "adaptive")[1]
    assert "RDP filter" in out
    after = shown(fedge, copied)
    assert after["spent"] == before["spent_if_adaptive"]
    code, _, err = fedge("budget", "set", client(copied), DATA, "--epsilon", "9")
    assert (code, "stays so" in err) == (6, True)
    assert fedge("budget", "set", client(copied), DATA, "--epsilon", "9", "--schedule", "loose")[0] == 2
