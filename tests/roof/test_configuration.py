"""Configuration: every option composes, every mistake names its key, and a run keeps what it was made of."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge import __version__, compose
from fedge.assemble import config_bytes
from fedge.config import Evaluation, Permissions, Population, Privacy, RunConfig, Sampling, Training, Withdrawal
from fedge.errors import ConfigError
from fedge.learning.aggregation import Strategy
from fedge.rounds.folder import RunFolder
from fedge.running import Result

MISTAKES: dict[str, tuple[str, list[str]]] = {
    "unknown key": ("fooo=3", ["'fooo'", "known here", "rounds"]),
    "near key": ("training.stepz=4", ["'training.stepz'", "did you mean 'steps'"]),
    "deeper key": ("privacy.noise.kind=x", ["privacy.noise"]),
    "wrong type": ("training.steps=abc", ["training.steps", "a whole number", "'abc' (str)"]),
    "fraction": ("rounds=1.5", ["rounds", "a whole number", "1.5"]),
    "a word for a number": ("privacy.epsilon=much", ["privacy.epsilon", "a number", "'much'"]),
    "a list for a number": ("rounds=[1]", ["rounds", "a whole number"]),
    "no number": ("privacy.epsilon=nan", ["privacy.epsilon", "NaN"]),
    "null": ("seed=null", ["seed", "a whole number", "None"]),
    "option of a group": ("task=digitz", ["task", "cancer, digits, fashion, heart", "did you mean 'digits'"]),
    "far option": ("strategy=nope", ["strategy", "fedavg", "multi_krum"]),
    "choice": ("strategy.name=fedavgg", ["strategy.name", "did you mean 'fedavg'"]),
    "engine": ("engine=ray", ["engine", "flower, direct"]),
    "below": ("privacy.epsilon=-1", ["privacy", "epsilon is -1.0", "(0, 10000"]),
    "zero": ("rounds=0", ["rounds is 0", "[1,"]),
    "above": ("training.sample_rate=1.5", ["training", "sample_rate is 1.5"]),
    "delta": ("privacy.delta=0.5", ["privacy", "delta is 0.5"]),
    "shares": ("population.clients=3", ["population", "clients is 3", "shares names 5", "population=iid"]),
    "permissions": ("consent.refused=0.99", ["consent", "cannot exceed 1 together"]),
    "withdrawals": ("consent.withdrawals=[{round: 2}]", ["consent.withdrawals[0].client", "text"]),
    "policy": ("policy.minimum_records=0", ["policy", "minimum_records"]),
    "trim": ("strategy.trim=0.7", ["strategy", "trim"]),
    "a sweep without saying so": ("seed=1,2", ["seed=1,2", "--multirun"]),
    "no value": ("rounds", ["rounds"]),
    "no grammar": ("rounds=[1", ["[1"]),
    "added key": ("+new=1", ["'new'"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_its_key_what_was_expected_and_what_is_near(name: str) -> None:
    override, words = MISTAKES[name]
    with pytest.raises(ConfigError) as error:
        compose.compose([override])
    assert [w for w in words if w not in str(error.value)] == []
    assert "\n" not in str(error.value)
    assert "omegaconf" not in str(error.value).lower()


OPTIONS = [(group, option) for group, options in compose.groups().items() for option in options]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(group: str, option: str) -> None:
    config = compose.compose([f"{group}={option}"])
    if group in {"task", "strategy"}:
        assert getattr(config, group).name == option


@pytest.mark.parametrize("task", compose.groups()["task"])
@pytest.mark.parametrize("privacy", compose.groups()["privacy"])
def test_groups_go_together(task: str, privacy: str) -> None:
    config = compose.compose([f"task={task}", f"privacy={privacy}", "strategy=fedadam", "population=iid"])
    assert config.privacy.unit == privacy
    assert config.policy.require_privacy == (privacy != "none")


def test_all_groups_are_there() -> None:
    assert {"task", "strategy", "privacy", "population", "consent", "policy", "training", "evaluation"} <= set(
        compose.groups()
    )
    assert len(OPTIONS) >= 25


def test_a_value_beats_its_group_wherever_it_stands() -> None:
    for overrides in (["training.steps=3", "task=digits"], ["task=digits", "training.steps=3"]):
        assert compose.compose(overrides).training.steps == 3


CONFIGS = st.builds(
    RunConfig,
    population=st.builds(Population, budgets=st.dictionaries(st.sampled_from("ab"), st.floats(0.1, 9), max_size=2)),
    training=st.builds(Training, steps=st.integers(1, 99), learning_rate=st.floats(0.001, 10)),
    privacy=st.builds(Privacy, unit=st.sampled_from(["none", "record"]), epsilon=st.floats(0.1, 100)),
    strategy=st.builds(Strategy, name=st.sampled_from(["fedavg", "krum"]), tau=st.floats(1e-9, 1)),
    consent=st.builds(Permissions, withdrawals=st.just((Withdrawal(2, "hospital-1"),))),
    sampling=st.builds(Sampling, fraction=st.floats(0.1, 1)),
    evaluation=st.builds(Evaluation, baselines=st.booleans()),
    purpose=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=9),
    seed=st.integers(0, 2**53 - 1),
)


@settings(max_examples=40, deadline=None)
@given(CONFIGS)
def test_yaml_is_read_back(config: RunConfig) -> None:
    assert compose.from_yaml(compose.to_yaml(config)) == config


@pytest.mark.parametrize(
    "text", ["", "rounds: [", "- 1", "rounds: 3\nroundz: 4", "\x00", "!!python/object:os.system {}"]
)
def test_yaml_that_is_no_configuration(text: str) -> None:
    with pytest.raises(ConfigError):
        compose.from_yaml(text)


def test_equal_configurations_have_equal_digests_and_others_do_not() -> None:
    one = config_bytes(compose.compose(["rounds=4"]))
    assert one == config_bytes(compose.compose(["rounds=4"])) != config_bytes(compose.compose(["rounds=5"]))


def test_a_sweep_is_every_combination() -> None:
    points = compose.sweep(["seed=1,2", "strategy=fedavg,fedadam", "rounds=3"])
    assert points == [
        ("seed=1", "strategy=fedavg", "rounds=3"),
        ("seed=1", "strategy=fedadam", "rounds=3"),
        ("seed=2", "strategy=fedavg", "rounds=3"),
        ("seed=2", "strategy=fedadam", "rounds=3"),
    ]
    assert compose.sweep(["seed=range(1,4)"]) == [("seed=1",), ("seed=2",), ("seed=3",)]
    with pytest.raises(ConfigError):
        compose.sweep(["seed=1,"])


# ---- what a run keeps -------------------------------------------------------------------------------------------


def test_a_run_keeps_what_it_was_made_of(finished: Result) -> None:
    folder = RunFolder(finished.folder)
    config = compose.from_yaml(folder.config_yaml.read_text())
    assert (config.rounds, config.training.steps, config.population.clients) == (3, 5, 3)
    assert folder.config_json.read_bytes() == config_bytes(config)
    opening = finished.verification.entries[0].payload
    assert opening["config_digest"] == "sha256:" + hashlib.sha256(folder.config_json.read_bytes()).hexdigest()
    environment = json.loads(folder.environment.read_text())
    assert (environment["fedge"], environment["seed"]) == (__version__, config.seed)
    assert {"flwr", "torch", "opacus", "dp-accounting", "numpy"} <= environment["packages"].keys()


def test_its_metrics_its_summary_and_its_log_say_the_same(finished: Result) -> None:
    folder = RunFolder(finished.folder)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    summary = json.loads(folder.summary.read_text())
    closed = [e.payload for e in finished.verification.entries if e.event == "round_close"]
    assert [line["model"] for line in lines] == [c["model_out"] for c in closed]
    assert [line["accepted"] for line in lines] == [c["accepted"] for c in closed]
    assert summary["scores"] == lines[-1]["scores"] == dict(finished.scores)
    assert summary["epsilon"] == max(line["epsilon_max"] for line in lines) <= 4.0
    rows = folder.metrics_csv.read_text().splitlines()
    assert len(rows) == 1 + sum(len(line["participants"]) for line in lines)
    assert hashlib.sha256(folder.model.read_bytes()).hexdigest() in lines[-1]["model"]


def test_a_withdrawal_is_in_the_log_and_names_nobody(finished: Result) -> None:
    (withdrawn,) = [e for e in finished.verification.entries if e.event == "withdrawal_effective"]
    assert (withdrawn.payload["client"], withdrawn.payload["round"]) == ("hospital-1", 2)
    assert withdrawn.payload["subject_commitment"].startswith("sha256:")


def test_private_files_are_not_for_everybody(finished: Result) -> None:
    for pattern in ("server/*.key", "clients/*/*.key"):
        keys: list[Path] = list(finished.folder.glob(pattern))
        assert keys
        assert {p.stat().st_mode & 0o077 for p in keys} == {0}
