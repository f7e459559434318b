"""The command line: exit codes by the tree of errors, one paragraph for a mistake, JSON for programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedge import __version__, cli, params
from fedge.running import Result
from tests.conftest import SMALL, Run

MISTAKES = {
    "unknown key": (["run", "fooo=1"], 2, "unknown key 'fooo'"),
    "value": (["run", "rounds=0"], 2, "rounds is 0"),
    "group": (["run", "task=digitz"], 2, "did you mean 'digits'"),
    "no folder": (["run", "task=heart"], 3, "task.folder=PATH"),
    "missing files": (["run", "task=heart", "task.folder=/nonexistent"], 3, "is missing"),
    "unsound": (["run", "strategy.weighting=examples"], 6, "discloses how many records"),
    "resume nothing": (["run", "resume=/nonexistent"], 2, "not the folder of a run"),
    "resume and more": (["run", "resume=/nonexistent", "rounds=3"], 2, "takes no 'rounds=3'"),
    "cfg": (["run", "--cfg", "hydra"], 2, "job"),
    "verify nothing": (["audit", "verify", "/nonexistent"], 7, "audit"),
    "check nothing": (["check", "/nonexistent"], 2, "not the folder of a run"),
    "report nothing": (["report", "build", "/nonexistent"], 4, "does not exist"),
    "budget of nobody": (["budget", "show", "/nonexistent"], 2, "ledger.db"),
    "unknown command": (["fly"], 2, "fly"),
    "unknown option": (["run", "--fast"], 2, "--fast"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_paragraph_and_its_exit_code(fedge: Run, tmp_path: Path, name: str) -> None:
    arguments, expected, words = MISTAKES[name]
    out = [f"out={tmp_path}"] if arguments[0] == "run" and "resume" not in arguments[1] else []
    code, _, err = fedge(*arguments, *out)
    assert code == expected, err
    assert words in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 8
    assert list(tmp_path.rglob("checkpoint")) == [], "a run was begun for a mistake"
    assert not Path("/nonexistent").exists()


def test_the_trace_can_be_had(fedge: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDGE_TRACE", "1")
    monkeypatch.setattr(sys, "argv", ["fedge", "run", "fooo=1"])
    with pytest.raises(Exception, match="unknown key"):
        cli.main()


COMMANDS = ["", "run", "demo", "audit", "audit verify", "budget", "budget set", "consent", "report build", "check"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps(fedge: Run, command: str) -> None:
    code, out, _ = fedge(*command.split(), "--help")
    assert code == 0
    assert "Usage" in out


def test_help_has_examples(fedge: Run) -> None:
    assert "fedge run task=digits" in fedge("run", "--help")[1]
    assert "Example" in fedge("budget", "set", "--help")[1]


def test_version(fedge: Run) -> None:
    assert fedge("--version")[:2] == (0, f"{__version__}\n")


# ---- run --------------------------------------------------------------------------------------------------------

SHORT = ("rounds=2", "evaluation.federated=none", "consent.withdrawals=[]")


def test_run_prints_a_line_a_round_and_where_everything_is(fedge: Run, tmp_path: Path) -> None:
    code, out, err = fedge("run", *SMALL, *SHORT, f"out={tmp_path}")
    assert code == 0, err
    assert "round 1/2" in out
    assert "round 2/2" in out
    assert "the log holds" in out
    assert "report.html" in out
    (folder,) = tmp_path.iterdir()
    assert str(folder) in out


def test_run_for_programs_prints_json_and_nothing_else(fedge: Run, tmp_path: Path) -> None:
    code, out, _ = fedge("run", *SMALL, *SHORT, f"out={tmp_path}", "--format", "json")
    summary = json.loads(out)
    assert code == 0
    assert (summary["rounds"], summary["verified"], summary["task"]) == (2, True, "cancer")
    assert Path(summary["folder"]).is_dir()


def test_quiet_prints_only_what_it_has_come_to(fedge: Run, tmp_path: Path) -> None:
    _, out, _ = fedge("run", *SMALL, *SHORT, f"out={tmp_path}", "--quiet")
    assert "round 1/2" not in out
    assert "accuracy" in out


def test_multirun_runs_every_combination(fedge: Run, tmp_path: Path) -> None:
    code, out, _ = fedge("run", "-m", *SMALL, *SHORT, "seed=1,2", f"out={tmp_path}", "--format", "json")
    points = json.loads(out)
    assert code == 0
    assert [[o for o in p["overrides"] if o.startswith("seed")] for p in points] == [["seed=1"], ["seed=2"]]
    assert len({p["folder"] for p in points}) == 2


def test_cfg_job_prints_what_would_run(fedge: Run) -> None:
    code, out, _ = fedge("run", "--cfg", "job", "rounds=4", "strategy=krum")
    assert code == 0
    assert "rounds: 4" in out
    assert "name: krum" in out


def test_resume_of_a_finished_run(fedge: Run, copied: Path) -> None:
    code, out, err = fedge("run", f"resume={copied}")
    assert code == 0, err
    assert "the log holds" in out


@pytest.mark.slow
def test_the_demo(fedge: Run, tmp_path: Path) -> None:
    code, out, err = fedge("demo", "--out", tmp_path)
    assert code == 0, err
    assert "central" in out
    assert "each alone" in out
    assert "budget exhausted" in out
    (folder,) = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["scores"]["accuracy"] >= 0.9
    assert 3 < summary["epsilon"] <= 4.0
    assert summary["repeated_subjects"] == 0
    assert "the log holds" in out


# ---- audit, report, check ---------------------------------------------------------------------------------------


def test_verify_and_its_json(fedge: Run, finished: Result) -> None:
    code, out, _ = fedge("audit", "verify", finished.folder)
    assert code == 0
    assert "The log holds." in out
    assert "PROVEN" in out
    code, out, _ = fedge("audit", "verify", finished.folder, "--format", "json")
    found = json.loads(out)
    assert (code, found["holds"]) == (0, True)


def test_a_changed_model_is_exit_code_7(fedge: Run, copied: Path) -> None:
    model = copied / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x7f")
    code, out, err = fedge("audit", "verify", copied)
    assert code == 7
    assert "FAILED" in out
    assert "model.safetensors" in err
    code, out, _ = fedge("audit", "verify", copied, "--format", "json")
    assert (code, json.loads(out)["holds"]) == (7, False)


def test_a_log_that_cannot_be_read_has_a_report_that_says_so(fedge: Run, copied: Path) -> None:
    (copied / "audit" / "checkpoint").write_text("garbage")
    code, _, err = fedge("report", "build", copied)
    assert (code, "does not hold" in err) == (7, True)
    assert "The log does not hold." in (copied / "report" / "report.html").read_text()


def test_report_is_written_anew(fedge: Run, copied: Path) -> None:
    code, out, _ = fedge("report", "build", copied)
    assert code == 0
    assert f"fedge report check {copied / 'report'}" in out
    assert (copied / "report" / "report.html").read_text().startswith("<!doctype html>")


def test_check_says_each_promise(fedge: Run, finished: Result) -> None:
    code, out, _ = fedge("check", finished.folder)
    assert code == 0
    assert out.count("kept") >= 5
    promises = json.loads(fedge("check", finished.folder, "--format", "json")[1])
    assert all(p["kept"] for p in promises)


def test_a_broken_promise_is_exit_code_7(fedge: Run, copied: Path, tmp_path: Path) -> None:
    model = params.load(copied / "model.safetensors")
    params.save({name: array + 1 for name, array in model.items()}, copied / "model.safetensors")
    code, out, _ = fedge("check", copied)
    assert code == 7
    assert "BROKEN log before release" in out


# ---- budget -----------------------------------------------------------------------------------------------------


def test_budget_show_and_set(fedge: Run, copied: Path) -> None:
    code, out, _ = fedge("budget", "show", copied, "--format", "json")
    assert code == 0
    rows = {row["data_set"]: row for row in json.loads(out)}
    row = rows["cancer/hospital-1"]
    assert 0 < row["spent"] <= row["budget"] == 4.0
    assert row["left"] == pytest.approx(row["budget"] - row["spent"])
    assert (row["spends"], row["unfinished"]) == (3, 0)
    client = copied / "clients" / "hospital-1"
    code, out, _ = fedge("budget", "set", client, "cancer/hospital-1", "--epsilon", "9")
    assert (code, "of 9 spent" in out) == (0, True)
    shown = json.loads(fedge("budget", "show", client, "--format", "json")[1])
    after = next(r for r in shown if r["data_set"] == "cancer/hospital-1")
    assert (after["budget"], after["spent"]) == (9.0, row["spent"])
    assert "cancer/hospital-1" in fedge("budget", "show", copied)[1]


@pytest.mark.parametrize("arguments", [["--epsilon", "0"], ["--epsilon", "nan"], ["--epsilon", "1", "--delta", "2"]])
def test_what_is_no_budget(fedge: Run, copied: Path, arguments: list[str]) -> None:
    code, _, err = fedge("budget", "set", copied / "clients" / "hospital-1", "cancer/hospital-1", *arguments)
    assert (code, "a budget has epsilon above 0" in err) == (2, True)


def test_a_budget_belongs_to_one_client(fedge: Run, copied: Path) -> None:
    code, _, err = fedge("budget", "set", copied, "cancer/hospital-1", "--epsilon", "1")
    assert (code, "name one" in err) == (2, True)


# ---- a real process ---------------------------------------------------------------------------------------------


def test_a_real_process_and_a_reader_that_leaves(finished: Result) -> None:
    command = f"{sys.executable} -m fedge audit show {finished.folder} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
