"""The verifier: one file that runs alone, and says of a run what its own modules say."""

import dataclasses
import json
import shutil
import subprocess
import sys
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedge.audit import verify
from fedge.audit.forms import form_of, hints, optional
from fedge.audit.leaves import EVENTS, decode, plain
from fedge.audit.verify import verify_run
from fedge.cli.root import app
from fedge.errors import AuditError, ConfigError
from fedge.running import Result

FILE = Path(verify.__file__)
HOUSE = {"fedge", "torch", "numpy", "flwr", "rfc8785", "hydra", "opacus"}


@pytest.fixture
def bundle(tmp_path: Path, finished: Result) -> Path:
    """Return a copy of the public part of a finished run."""
    for name in ("audit", "receipts"):
        shutil.copytree(finished.folder / name, tmp_path / "bundle" / name)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(finished.folder / name, tmp_path / "bundle" / name)
    return tmp_path / "bundle"


@pytest.fixture
def policy(tmp_path: Path, finished: Result) -> Path:
    """Return the policy file as it reached the auditor by another way."""
    return Path(shutil.copy(finished.folder / "audit" / "policy.txt", tmp_path / "policy.txt"))


def grades(found: verify.Verification) -> dict[str, str]:
    return {check.name: check.grade for check in found.checks}


# ---- the file alone ----------------------------------------------------------------------------------------------


def alone(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the file where fedge cannot be imported; print what it has loaded after its own output."""
    copy = shutil.copy(FILE, tmp_path / "verify.py")
    script = (
        "import importlib.abc, runpy, sys\n"
        "class NoHouse(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {HOUSE!r}: raise ImportError(name + ' is not for the verifier')\n"
        "sys.meta_path.insert(0, NoHouse())\n"
        f"sys.argv = ['verify.py', *{list(arguments)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(copy)!r}, run_name='__main__')\n"
        "finally:\n"
        "    print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    command = [sys.executable, "-I", "-W", "error", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)


def test_the_file_runs_alone(tmp_path: Path, bundle: Path, policy: Path, finished: Result) -> None:
    done = alone(tmp_path, str(bundle), "--policy", str(policy), "--expect-run", finished.folder.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The log holds." in done.stdout
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "cryptography" in loaded
    assert loaded & HOUSE == set()


def test_the_file_says_the_same_as_the_command(tmp_path: Path, bundle: Path, policy: Path) -> None:
    done = alone(tmp_path, str(bundle), "--policy", str(policy), "--format", "json")
    said = json.loads(done.stdout.rpartition("LOADED")[0])
    shown = CliRunner().invoke(app, ["audit", "verify", str(bundle), "--policy", str(policy), "--format", "json"])
    assert json.loads(shown.stdout) == said == verify_run(bundle, policy).plain
    assert said["holds"] is True
    assert said["verdict"] == "PROVEN"


def test_exit_code_is_0_only_if_intact(tmp_path: Path, bundle: Path) -> None:
    (bundle / "config.json").write_text("{}")
    done = alone(tmp_path, str(bundle))
    assert done.returncode == 1
    assert "FAILED   configuration" in done.stdout
    assert "THE LOG DOES NOT HOLD." in done.stdout


@pytest.mark.parametrize("wrong", [["--not-older-than", "soon"], ["--format", "xml"], []])
def test_a_wrong_command_line_is_exit_code_2(tmp_path: Path, bundle: Path, wrong: list[str]) -> None:
    done = alone(tmp_path, *([str(bundle), *wrong] if wrong else []))
    assert done.returncode == 2
    assert "usage: verify.py" in done.stderr


# ---- what it says of an intact run -------------------------------------------------------------------------------


def test_every_question_is_answered(bundle: Path, policy: Path, finished: Result) -> None:
    now = datetime.now(UTC)
    found = verify_run(bundle, policy, expect_run=finished.folder.name, not_older_than=now - timedelta(hours=6))
    assert grades(found) == {
        "log files": "PROVEN",
        "policy": "PROVEN",
        "signatures of entries": "PROVEN",
        "one run, named keys": "PROVEN",
        "key life": "PROVEN",
        "no client statement missing": "PROVEN",
        "no round missing": "PROVEN",
        "times": "PROVEN",
        "data use": "ATTESTED",
        "privacy budgets": "ATTESTED",
        "witnesses": "PROVEN",
        "end of the log": "PROVEN",
        "words of people": "DECLARED",
        "model": "PROVEN",
        "configuration": "PROVEN",
        "receipts": "PROVEN",
        "trust": "PROVEN",
        "expected run": "PROVEN",
        "freshness": "PROVEN",
    }
    assert (found.verdict, found.quorum, len(found.cosigned_by)) == ("PROVEN", 2, 3)


def test_without_a_policy_the_trust_is_missing(bundle: Path) -> None:
    found = verify_run(bundle)
    assert grades(found)["trust"] == "MISSING"
    assert (found.holds, found.verdict) == (True, "MISSING")
    assert "what is MISSING above was not shown" in verify.report(found)


def test_its_entries_are_what_the_house_reads(bundle: Path) -> None:
    for entry in verify_run(bundle).entries:
        leaf, envelope = decode(entry.raw)
        assert dict(entry.payload) == plain(leaf)
        assert entry.signer == (getattr(leaf, "client", "") if leaf.party == "client" else "server")
        assert entry.by_client == (leaf.party == "client")
        assert envelope.key_id


def test_what_was_not_shown_is_missing_not_failed(bundle: Path) -> None:
    (bundle / "model.safetensors").unlink()
    shutil.rmtree(bundle / "receipts")
    found = verify_run(bundle)
    assert found.holds
    assert [c.text for c in found.checks if c.grade == "MISSING"] == [
        "the bundle holds no model.safetensors",
        "13 client statements have no receipt here",
        "no policy was given: the keys are those that the log itself names; use --policy",
    ]


def test_no_folder_is_an_answer_not_a_crash(tmp_path: Path) -> None:
    found = verify_run(tmp_path / "nowhere")
    assert not found.holds
    assert "policy.txt cannot be read" in found.failures


# ---- options -----------------------------------------------------------------------------------------------------


def test_a_log_that_is_too_old(bundle: Path, policy: Path) -> None:
    found = verify_run(bundle, policy, not_older_than=datetime.now(UTC) + timedelta(minutes=1))
    assert "the log may have grown" in found.failures


@pytest.mark.parametrize(
    ("text", "age"),
    [("90m", timedelta(minutes=90)), ("24h", timedelta(days=1)), ("7d", timedelta(days=7))],
)
def test_an_age_is_counted_from_now(text: str, age: timedelta) -> None:
    now = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    assert verify.since(text, now) == now - age


def test_a_time_is_taken_as_it_is() -> None:
    expected = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    assert verify.since("2026-11-23T09:30:00Z", expected) == verify.since("2026-11-23 09:30", expected) == expected


def test_the_command_names_the_wrong_option(bundle: Path) -> None:
    done = CliRunner().invoke(app, ["audit", "verify", str(bundle), "--not-older-than", "999999999d"])
    assert isinstance(done.exception, ConfigError)
    assert "--not-older-than: '999999999d' is neither a time" in str(done.exception)


def test_the_command_fails_with_the_reason(bundle: Path) -> None:
    done = CliRunner().invoke(app, ["audit", "verify", str(bundle), "--expect-run", "another"])
    assert isinstance(done.exception, AuditError)
    assert "another run was handed to you" in str(done.exception)


def test_a_policy_with_strangers_counts_only_those_it_knows(bundle: Path, policy: Path) -> None:
    """An auditor who trusts two of the three hospitals: the third cosigns too, and does not count."""
    given = verify.parse_policy(policy.read_text())
    known = {name: key for name, key in given.witnesses.items() if "hospital-3" not in name}
    organisations = {name: given.organisations[name] for name in known}
    policy.write_text(verify.Policy(given.log, known, organisations, 2).text)
    found = verify_run(bundle, policy)
    assert found.holds, found.failures
    assert found.cosigned_by == ("hospital-1", "hospital-2")
    assert any("you do not know them: hospital-3-witness" in c.text for c in found.checks)


# ---- the schema, written twice -----------------------------------------------------------------------------------

WORDS = {"verifier key": "vkey", "key id": "keyid"}


def form(hint: Any) -> str:  # noqa: PLR0911 - one line a kind
    """Return a field's type in the verifier's own notation."""
    if (inner := optional(hint)) is not None:
        return form(inner) + "?"
    if spelled := form_of(hint):
        return WORDS.get(spelled.name, spelled.name)
    if dataclasses.is_dataclass(hint):
        return hint.__name__  # type: ignore[union-attr]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return f"[{form(arguments[0])}]"
    if origin is Mapping:
        return f"{{{form(arguments[0])}:{form(arguments[1])}}}"
    if origin is typing.Literal:
        return "|".join(arguments)
    return str(hint.__name__)


def members(kind: Any) -> dict[str, str]:
    return {name: form(hint) for name, hint in hints(kind).items()}


def spelled(text: str) -> dict[str, str]:
    found = (member.partition(":") for member in text.split())
    return {name: verify.FORMS[f] if f in ("unit", "noise_at") else f for name, _, f in found}


def test_both_know_the_same_events() -> None:
    """A new event, or a new field, must be written in `verify.EVENTS` too: the auditor's file knows all of them."""
    assert {name: members(kind) for name, kind in EVENTS.items()} == {
        name: spelled(text) for name, text in verify.EVENTS.items()
    }


def test_both_know_the_same_parts() -> None:
    used = {h for kind in EVENTS.values() for h in hints(kind).values()}
    parts = {typing.get_args(h)[0] if typing.get_origin(h) is tuple else optional(h) or h for h in used}
    found = {p.__name__: members(p) for p in parts if dataclasses.is_dataclass(p)}
    inner = {i.__name__: members(i) for p in parts if dataclasses.is_dataclass(p) for i in hints(p).values()
             if dataclasses.is_dataclass(i)}  # fmt: skip
    assert found | inner == {name: spelled(text) for name, text in verify.PARTS.items()}


def test_both_know_the_same_spellings() -> None:
    from fedge.audit import forms

    own = {f.name: f.pattern for h in vars(forms).values() if (f := form_of(h))}
    for name, pattern in own.items():
        if name != "moment":  # the verifier's pattern also says that a year has four digits
            assert verify.FORMS[WORDS.get(name, name)] == pattern, name


def test_both_know_the_same_signers() -> None:
    for name, kind in EVENTS.items():
        assert verify.EVENTS[name].startswith(verify._CLIENT) == (kind.party == "client"), name
