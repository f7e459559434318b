"""Every rule by two examples: one that breaks it and is found, one like it that does not and is left alone."""

import ast
import json
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.compose import compose
from fedge.errors import ConfigError
from fedge.lint import flower, run, script
from fedge.lint.rules import RULES, Finding, markdown
from fedge.lint.source import program
from fedge.lint.target import findings
from fedge.running import Result
from tests.conftest import Run

DOCUMENT = Path(__file__).parents[2] / "docs" / "privacy-lint.md"
LOCAL = "from flwr.clientapp.mod import LocalDpMod\nmod = LocalDpMod({})\n"
WRAPPER = "strategy = DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 10{})\n"
ONCE = "engine = PrivacyEngine(secure_mode=True)\nmodel, optimizer, loader = engine.make_private({})\n"
CLIENT = """
app = ClientApp(mods=[LocalDpMod(1.0, 1.0, 0.9, 1e-5)])

@app.train()
def train(message, context):
    loss = fit(message)
    metrics = {{{}}}
    return Message(RecordDict({{"metrics": MetricRecord(metrics)}}), reply_to=message)
"""

SOURCE: dict[str, tuple[str, str]] = {
    "fresh-engine": (
        """
        class Hospital(NumPyClient):
            def fit(self, parameters, config):
                engine = PrivacyEngine(secure_mode=True)
                train(engine.make_private(module=self.model))
                return self.model, 1, {"epsilon": engine.get_epsilon(1e-5)}
        """,
        """
        engine = PrivacyEngine(secure_mode=True)
        engine.make_private(module=model)
        for epoch in range(10):
            print(engine.get_epsilon(1e-5))
        """,
    ),
    "budget-ignored": (
        """
        def local(model):
            return PrivacyEngine(secure_mode=True).make_private_with_epsilon(module=model, epochs=1, target_epsilon=1.0)

        for round in range(rounds):
            local(model)
        """,
        "PrivacyEngine(secure_mode=True).make_private_with_epsilon(module=model, epochs=9, target_epsilon=1.0)",
    ),
    "not-poisson": (ONCE.format("poisson_sampling=False"), ONCE.format("poisson_sampling=True")),
    "sensitivity-below-clip": (
        "CLIP = 3.0\nmod = LocalDpMod(clipping_norm=CLIP, sensitivity=1.0, epsilon=0.5, delta=1e-5)",
        "CLIP = 3.0\nmod = LocalDpMod(clipping_norm=CLIP, sensitivity=3, epsilon=0.5, delta=1e-5)",
    ),
    "classical-gaussian": (
        "epsilon = 4.0\nsigma = clip * np.sqrt(2 * np.log(1.25 / delta)) / epsilon",
        "epsilon = 0.5\nsigma = clip * np.sqrt(2 * np.log(1.25 / delta)) / epsilon",
    ),
    "noise-for-fewer-steps": (
        """
        EPOCHS = 20
        engine = PrivacyEngine(secure_mode=True)
        engine.make_private_with_epsilon(module=m, target_epsilon=1.0, target_delta=1e-5, epochs=5)
        for epoch in range(EPOCHS):
            step(m)
        """,
        """
        EPOCHS = 20
        engine = PrivacyEngine(secure_mode=True)
        engine.make_private_with_epsilon(module=m, target_epsilon=1.0, target_delta=1e-5, epochs=EPOCHS)
        for epoch in range(EPOCHS):
            step(m)
        """,
    ),
    "mixes-records": (
        "net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8))\n" + ONCE.format("module=net"),
        "net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8))\n" + ONCE.format("module=net"),
    ),
    "weighted-mean-loss": (
        "loss = nn.CrossEntropyLoss(weight=balance)\n" + ONCE.format(""),
        "loss = nn.CrossEntropyLoss(weight=balance, reduction='none')\n" + ONCE.format(""),
    ),
    "example-weights": (WRAPPER.format(""), WRAPPER.format(", accountant=RdpAccountant(config)")),
    "insecure-noise": ("engine = PrivacyEngine()", "engine = opacus.PrivacyEngine(secure_mode=True)"),
    "gdp": ("PrivacyEngine(accountant='gdp', secure_mode=True)", "PrivacyEngine(accountant='prv', secure_mode=True)"),
    "seed-in-round": (
        ONCE.format("") + "for epoch in range(5):\n    torch.manual_seed(7)\n    step(model)\n",
        "torch.manual_seed(7)\n" + ONCE.format("") + "for epoch in range(5):\n    step(model)\n",
    ),
    "empty-batch": (
        "loader = DataLoader(data, batch_size=64, drop_last=True)\n" + ONCE.format(""),
        "loader = DataLoader(data, batch_size=64)\n" + ONCE.format(""),
    ),
    "metrics-leave": (CLIENT.format('"train_loss": loss'), CLIENT.format('"version": 3')),
    "rates-multiplied": (
        "accountant.step(noise_multiplier=s, sample_rate=fraction_fit * cfg.sample_rate)",
        "accountant.step(noise_multiplier=s, sample_rate=cfg.sample_rate)",
    ),
    "adaptive-clipping": (ONCE.format("clipping='adaptive'"), ONCE.format("clipping='flat'")),
}

CONFIGURED: dict[str, tuple[tuple[list[str], dict[str, int]], tuple[list[str], dict[str, int]]]] = {
    "no-privacy": ((["privacy=none"], {}), ([], {})),
    "insecure-noise": ((["privacy.noise=seeded"], {}), (["privacy.noise=secure"], {})),
    "several-records": (([], {"repeated_subjects": 3}), ([], {"repeated_subjects": 0})),
    "ledger-per-run": ((["privacy.noise=secure"], {}), (["privacy.noise=secure", "population.home=/srv/fedge"], {})),
    "large-delta": ((["privacy.delta=0.01"], {}), (["privacy.delta=1e-6"], {})),
    "few-clients": (
        (["privacy=client", "population=iid", "population.clients=99"], {}),
        (["privacy=client", "population=iid", "population.clients=100"], {}),
    ),
    "refused": ((["strategy.weighting=examples"], {}), (["strategy.weighting=uniform"], {})),
}


def in_source(source: str) -> list[Finding]:
    examined = program({"example.py": textwrap.dedent(source).encode()})
    return [found for check in (*script.CHECKS, *flower.CHECKS) for found in check(examined)]


def ids(found: list[Finding]) -> set[str]:
    return {f.rule.id for f in found}


@pytest.mark.parametrize("rule", SOURCE)
def test_source_that_breaks_a_rule_and_source_that_does_not(rule: str) -> None:
    broken, sound = (in_source(example) for example in SOURCE[rule])
    assert ids(broken) == {rule}
    assert all(f.place.startswith("example.py:") and f.seen for f in broken)
    assert rule not in ids(sound)


@pytest.mark.parametrize("rule", CONFIGURED)
def test_configurations_that_break_a_rule_and_ones_that_do_not(rule: str) -> None:
    broken, sound = (ids(list(run.check(compose(o), summary))) for o, summary in CONFIGURED[rule])
    assert rule in broken
    assert rule not in sound


def test_every_rule_has_its_examples_and_a_name_of_its_own() -> None:
    assert SOURCE.keys() | CONFIGURED.keys() == {rule.id for rule in RULES}
    assert len({rule.id for rule in RULES}) == len(RULES)


MORE = {
    "poisson by hand": (
        "not-poisson",
        "d = DataLoader(x, shuffle=True)\na.step(noise_multiplier=1.0, sample_rate=0.1)",
    ),
    "mod above 1": ("classical-gaussian", LOCAL.format("1.0, 1.0, 8.0, 1e-5")),
    "unknown epsilon": ("classical-gaussian", "s = math.sqrt(2 * math.log(1.25 / d)) / eps"),
    "twice": ("budget-ignored", "a.make_private_with_epsilon(m)\nb.make_private_with_epsilon(m)"),
    "instance norm": ("mixes-records", "nn.InstanceNorm2d(8, track_running_stats=True)\n" + ONCE.format("")),
    "torchvision": ("mixes-records", "net = torchvision.models.resnet18(num_classes=2)\n" + ONCE.format("")),
    "gaussian accountant": ("gdp", "accountant = GaussianAccountant()"),
    "numpy seed": ("seed-in-round", "np.random.seed(0)\n" + LOCAL.format("1.0, 1.0, 0.5, 1e-5")),
    "expand weights": ("empty-batch", ONCE.format("grad_sample_mode='ew'")),
    "flower adaptive": ("adaptive-clipping", "DifferentialPrivacyClientSideAdaptiveClipping(FedAvg(), 1.0, 10)"),
    "legacy wrapper": ("example-weights", "DPFedAvgFixed(FedAvg(), 10, 1.0)"),
    "tuple of fit": (
        "metrics-leave",
        """
        class Hospital(fl.client.NumPyClient):
            def fit(self, parameters, config):
                return self.model, 1, {"accuracy": 0.9}

        LocalDpMod(1.0, 1.0, 0.5, 1e-5)
        """,
    ),
    "seed in a function of a function": (
        "seed-in-round",
        """
        def seeded():
            torch.manual_seed(0)

        def fit_one():
            seeded()
            PrivacyEngine(secure_mode=True)

        @app.train()
        def train(message, context):
            fit_one()
        """,
    ),
}


@pytest.mark.parametrize(
    ("source", "known"),
    [("clip: float = 3.0", 3.0), ("clip = 3", 3.0), ("clip = 3\nclip += 1", None), ("clip = x", None), ("", None)],
)
def test_what_is_known_of_a_name(source: str, known: float | None) -> None:
    assert program({"a.py": source.encode()}).number(ast.Name("clip")) == known


@pytest.mark.parametrize("name", MORE)
def test_other_forms_of_the_same(name: str) -> None:
    rule, source = MORE[name]
    assert rule in ids(in_source(source))


@pytest.mark.parametrize(
    "source",
    [
        "net = nn.BatchNorm2d(8)",  # nobody claims privacy here
        "net = ModuleValidator.fix(nn.BatchNorm2d(8))\n" + ONCE.format(""),
        "net = resnet18(norm_layer=group)\n" + ONCE.format(""),
        "loss = nn.CrossEntropyLoss(weight=w)",
        "torch.manual_seed(0)",
        "for e in range(3):\n    torch.manual_seed(e)",
        "rate = clients * sample_size",
        "x = a / b",
        "",
    ],
)
def test_what_claims_nothing_breaks_nothing(source: str) -> None:
    assert in_source(source) == []


# ---- targets ----------------------------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return a Flower app whose numbers stand in its pyproject.toml."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.flwr.app]\npublisher = 'x'\n[tool.flwr.app.config]\nclip = 2.0\nsensitivity = 0.5\n", encoding="utf-8"
    )
    (tmp_path / "client_app.py").write_text(
        "def mods(context):\n"
        "    return LocalDpMod(context.run_config['clip'], float(context.run_config['sensitivity']), 0.5, 1e-5)\n",
        encoding="utf-8",
    )
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "theirs.py").write_text("PrivacyEngine()", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["", "pyproject.toml"])
def test_a_flower_app(app: Path, name: str) -> None:
    (found,) = findings([str(app / name)])
    assert (found.rule.id, found.place, found.seen) == (
        "sensitivity-below-clip",
        "client_app.py:2",
        "sensitivity 0.5, clipping_norm 2",
    )


def test_a_script_is_never_run(tmp_path: Path) -> None:
    victim = tmp_path / "ran"
    file = tmp_path / "train.py"
    file.write_text(f"open({str(victim)!r}, 'w')\nGaussianAccountant()\n", encoding="utf-8")
    assert ids(findings([str(file)])) == {"gdp"}
    assert not victim.exists()


@pytest.mark.parametrize("source", [b"def (", b"\x00", b"x = '\xff'", b"(" * 5000, b"-" * 100_000 + b"1"])
def test_what_is_no_python_is_an_error_that_names_the_file(tmp_path: Path, source: bytes) -> None:
    (tmp_path / "bad.py").write_bytes(source)
    with pytest.raises(ConfigError, match=r"bad\.py is not Python"):
        findings([str(tmp_path / "bad.py")])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_no_source_breaks_the_reader(source: str) -> None:
    with suppress(ConfigError):
        in_source(source)


@pytest.mark.parametrize("target", [["/nonexistent"], ["a", "b"], ["rounds=3", "x"], ["privacy.epsilom=3"]])
def test_what_cannot_be_examined(target: list[str]) -> None:
    with pytest.raises(ConfigError):
        findings(target)


def test_an_empty_folder_and_a_broken_app(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no Python file"):
        findings([str(tmp_path)])
    (tmp_path / "app.py").write_text("", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read"):
        findings([str(tmp_path)])


# ---- the command ------------------------------------------------------------------------------------------------


def test_a_run_is_examined(fedge: Run, finished: Result) -> None:
    code, out, _ = fedge("privacy", "lint", finished.folder, "--format", "json")
    assert (code, [f["rule"] for f in json.loads(out)]) == (1, ["insecure-noise"])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["privacy.noise=secure", "population.home=/srv/fedge"], 0),
        ([], 1),
        (["strategy.weighting=examples"], 6),
        (["rounds=zero"], 2),
    ],
)
def test_exit_codes(fedge: Run, overrides: list[str], expected: int) -> None:
    assert fedge("privacy", "lint", *overrides)[0] == expected


def test_text_names_place_reason_and_fix(fedge: Run, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("PrivacyEngine(accountant='gdp')", encoding="utf-8")
    code, out, _ = fedge("privacy", "lint", tmp_path / "train.py")
    assert code == 6
    for part in ("train.py:1", "gdp", "understates", "Fix:", "1 errors, 1 warnings"):
        assert part in out
    assert out.index("gdp:") < out.index("insecure-noise"), "errors come first"


def test_help_states_the_exit_codes(fedge: Run) -> None:
    assert "Exit code: 0 nothing was found, 1 warnings only, 6" in " ".join(
        fedge("privacy", "lint", "--help")[1].split()
    )


def test_rules_are_listed(fedge: Run) -> None:
    out = fedge("privacy", "rules")[1]
    assert all(rule.id in out for rule in RULES)
    assert [r["id"] for r in json.loads(fedge("privacy", "rules", "--format", "json")[1])] == [r.id for r in RULES]


def test_the_documentation_lists_the_same_rules() -> None:
    assert markdown() in DOCUMENT.read_text(encoding="utf-8")
