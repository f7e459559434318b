"""Every scenario's claims hold, and a claim that does not is shown."""

from pathlib import Path

import pytest

from simulations import __main__ as command
from simulations.__main__ import SCENARIOS
from simulations.scenario import Claim, Scenario


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_claim_holds(name: str, tmp_path: Path) -> None:
    false = [claim.text for claim in SCENARIOS[name].play(tmp_path) if not claim.holds]
    assert false == []


def test_a_false_claim_fails_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Scenario("wrong", "A story that is not true.", lambda _out: [Claim("water is dry", holds=False)])
    monkeypatch.setattr(command, "SCENARIOS", {"wrong": wrong})
    assert command.main(["wrong"]) == 1
    assert "NO" in capsys.readouterr().out


def test_an_unknown_scenario_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["heathly"]) == 2
    assert "healthy" in capsys.readouterr().err
