"""Start, stop, resume, repeat: the same seed is the same model, and whatever goes wrong loses nothing."""

import errno
import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedge import running
from fedge.assemble import Hooks
from fedge.audit.verify import verify_run
from fedge.check import check_house
from fedge.errors import ConfigError, DataError, Interrupted, LedgerError, LogConflictError, StorageError, UnsoundError
from fedge.learning import models
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
from fedge.rounds.folder import RunFolder
from fedge.running import Result, Watch, resume, run
from tests.conftest import SMALL


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def broken(folder: Path) -> list[str]:
    return [f"{p.name}: {p.text}" for p in check_house(folder) if not p.kept]


def events(result: Result) -> list[str]:
    return [e.event for e in result.verification.entries]


# ---- determinism ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["flower", "direct"])
def test_the_same_seed_is_the_same_model_on_both_engines(tmp_path: Path, finished: Result, engine: str) -> None:
    again = run(*SMALL, f"engine={engine}", f"out={tmp_path}")
    assert digest(again.model) == digest(finished.model)
    assert again.scores == finished.scores
    assert again.federated == finished.federated


def test_the_number_of_threads_changes_nothing(tmp_path: Path, finished: Result) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = run(*SMALL, "engine=direct", f"out={tmp_path}")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert digest(again.model) == digest(finished.model)


def test_another_seed_is_another_model(tmp_path: Path, finished: Result) -> None:
    assert digest(run(*SMALL, "seed=8", f"out={tmp_path}").model) != digest(finished.model)


def test_noise_of_the_operating_system_never_repeats(tmp_path: Path, finished: Result) -> None:
    once, twice = (run(*SMALL, "privacy.noise=secure", f"out={tmp_path / n}") for n in "ab")
    assert len({digest(r.model) for r in (once, twice, finished)}) == 3


# ---- stopping and going on --------------------------------------------------------------------------------------


def stopped(out: Path, after: int, *more: str) -> Path:
    """Return the folder of a run that was asked to stop during round `after`, by a real interrupt of this process."""

    def interrupt(step: str, seen: list[str] = []) -> None:  # noqa: B006 - counts over one run
        seen.append(step)
        if step == "answered" and seen.count("answered") == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=f"stopped after round {after}.*resume="):
        run(*SMALL, *more, f"out={out}", hooks=Hooks(server=interrupt))
    (folder,) = out.iterdir()
    return folder


def test_a_stopped_run_goes_on_to_the_same_model(tmp_path: Path, finished: Result) -> None:
    folder = stopped(tmp_path, 1)
    assert broken(folder) == []
    assert verify_run(folder).entries[-1].event == "run_stopped"
    result = resume(folder)
    assert digest(result.model) == digest(finished.model)
    assert result.verification.holds, result.verification.checks
    assert {"run_stopped", "run_resumed", "run_close"} <= set(events(result))


def test_resuming_a_finished_run_tells_what_it_came_to(tmp_path: Path, finished: Result) -> None:
    copy = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, copy)
    again = resume(copy)
    assert (again.scores, again.federated, again.epsilon) == (finished.scores, finished.federated, finished.epsilon)
    assert digest(again.model) == digest(finished.model)


def test_interrupting_a_process_stops_it_cleanly(tmp_path: Path, finished: Result) -> None:
    """Ctrl-C at a terminal: exit code 130, one sentence, the stop in the log, and the run can go on."""
    command = [sys.executable, "-m", "fedge", "run", *SMALL, "rounds=3", f"out={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 1/"):
                process.send_signal(signal.SIGINT)
                break
        rest, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert re.search(r"Interrupted: stopped after round [12], recorded in the log; go on with: fedge run resume=", said)
    assert "Traceback" not in said + rest
    (folder,) = tmp_path.iterdir()
    assert verify_run(folder).entries[-1].event == "run_stopped"
    assert digest(resume(folder).model) == digest(finished.model)


def test_resume_needs_the_folder_of_a_run_and_its_own_task(tmp_path: Path, finished: Result) -> None:
    with pytest.raises(ConfigError, match="not the folder of a run"):
        resume(tmp_path)
    with pytest.raises(ConfigError, match="resume it with that task"):
        resume(finished.folder, task=toy())


def test_a_configuration_that_was_changed_is_not_resumed(tmp_path: Path, finished: Result) -> None:
    copy = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, copy)
    path = RunFolder(copy).config_yaml
    path.write_text(path.read_text().replace("rounds: 3", "rounds: 9"))
    with pytest.raises(LogConflictError, match="not the configuration that the run was opened with"):
        resume(copy)


# ---- a disk that is full, files that are damaged ----------------------------------------------------------------


PLACES = ["pending.safetensors", "checkpoint", "model.safetensors", "round-000002.safetensors"]


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_at_the_server_stops_the_run_and_loses_nothing(
    tmp_path: Path, finished: Result, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with monkeypatch.context() as patch:
        fill(patch, lambda path: path.name == f"{place}.partial", after=1 - place.startswith("round"))
        with pytest.raises(StorageError, match="check free space"):
            run(*SMALL, f"out={tmp_path}")
    (folder,) = tmp_path.iterdir()
    assert broken(folder) == []
    result = resume(folder)
    assert broken(folder) == []
    assert digest(result.model) == digest(finished.model)


def test_a_full_disk_at_a_client_makes_it_silent_and_the_round_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(monkeypatch, lambda path: path.name == "answer.safetensors.partial" and "hospital-2" in str(path))
    result = run(*SMALL, "evaluation.federated=none", f"out={tmp_path}")
    closed = [e.payload for e in result.verification.entries if e.event == "round_close"]
    assert [c["accepted"] for c in closed] == [2, 2, 2]
    assert {p["outcome"] for c in closed for p in c["participants"] if p["client"] == "hospital-2"} == {"silent"}
    assert broken(result.folder) == []
    assert result.verification.holds


def fill(patch: pytest.MonkeyPatch, full: Callable[[Path], bool], after: int = 0) -> None:
    """Let the disk be full for the files that `full` names, after it has taken `after` of them."""
    real, taken = os.open, 0

    def refusing(path: Any, *args: Any, **kwargs: Any) -> int:
        nonlocal taken
        if full(Path(os.fsdecode(path))):
            taken += 1
            if taken > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *args, **kwargs)

    patch.setattr(os, "open", refusing)


def test_a_damaged_ledger_is_never_spent_from(tmp_path: Path) -> None:
    folder = stopped(tmp_path, 1)
    with sqlite3.connect(folder / "clients" / "hospital-1" / "ledger.db") as db:
        db.execute("UPDATE spends SET entry = X'00' WHERE position = 0")
    db.close()
    with pytest.raises(LedgerError, match=r"entry 0 .*damaged.*restore it"):
        resume(folder)


def test_a_servers_folder_that_was_lost_releases_nothing(tmp_path: Path) -> None:
    folder = stopped(tmp_path, 1)
    shutil.rmtree(folder / "server" / "states")
    with pytest.raises(LogConflictError, match="not among the server's files"):
        resume(folder)


@pytest.mark.parametrize("content", [b"", b"rounds: [", b"\xff\xfe"])
def test_a_damaged_configuration(tmp_path: Path, finished: Result, content: bytes) -> None:
    copy = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, copy)
    RunFolder(copy).config_yaml.write_bytes(content)
    with pytest.raises(ConfigError):
        resume(copy)


def test_metrics_that_a_crash_has_cut_are_read_back_from_the_log(tmp_path: Path, finished: Result) -> None:
    copy = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, copy)
    path = RunFolder(copy).metrics
    first, second, _third = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[:40])
    again = resume(copy)
    assert again.scores == finished.scores
    assert again.epsilon == finished.epsilon


# ---- data that cannot be learned from ---------------------------------------------------------------------------


def toy(features: Any = None, metrics: Any = None, **changes: Any) -> Task:
    """Return a task of 240 records in two clouds; `features` may spoil them."""
    rng = np.random.default_rng(0)
    targets = np.arange(240) % 2
    clean = (rng.normal(size=(240, 4)) + 2 * targets[:, None]).astype(np.float32)
    spoiled = features(clean) if features else clean
    names = tuple(f"person-{i}" for i in range(240))
    records = Records(spoiled, targets.astype(np.int64), names)
    test = Records(clean[:60], targets[:60].astype(np.int64), names[:60])
    given = {"loss": cross_entropy, "model": lambda: models.linear(4, 2), **changes}
    return Task("toy", lambda: Data(records, test), given["model"], given["loss"], metrics or {"accuracy": accuracy})


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    result = run(*SMALL, "privacy=none", "training.steps=60", f"out={tmp_path}", task=toy())
    assert result.scores["accuracy"] > 0.85  # two clouds, four standard deviations apart
    assert result.verification.holds


def test_records_with_NaN_are_left_out_and_counted(tmp_path: Path) -> None:
    def spoil(features: Any) -> Any:
        features[::3, 1] = np.nan
        features[1::3, 2] = np.inf
        return features

    seen: list[Any] = []
    result = run(*SMALL, "consent=all", f"out={tmp_path}", task=toy(spoil), watch=Watch(on_start=seen.append))
    assert np.isfinite(list(result.scores.values())).all()
    uses = [e.payload for e in result.verification.entries if e.event == "data_use" and e.payload["work"] == "train"]
    assert {u["outcome"] for u in uses} == {"submitted"}
    assert all(u["counts"]["excluded"].get("quality", "0") != "0" for u in uses)
    assert all(site.training.records.usable.mean() < 0.5 for site in seen[0].sites.values())


def test_a_client_without_a_permitted_record_refuses_and_the_round_goes_on(tmp_path: Path) -> None:
    def withdraw_all(assembled: Any) -> None:
        site = assembled.sites["hospital-2"]
        people = site.training.records.subjects
        for n, _ in enumerate(people):
            running.withdraw_one(site.permissions, people, "health-research", site.machine.clock(), nth=n)

    small = ("population.shares=[0.6,0.1,0.3]", "rounds=1", "consent.withdrawals=[]", "evaluation.federated=none")
    result = run(*SMALL, *small, f"out={tmp_path}", task=toy(), watch=Watch(on_start=withdraw_all))
    (closed,) = [e.payload for e in result.verification.entries if e.event == "round_close"]
    outcomes = {p["client"]: (p["outcome"], p["reason"]) for p in closed["participants"]}
    assert outcomes["hospital-2"] == ("refused", "no_permitted_record")
    assert closed["accepted"] == 2
    assert not closed["void"]


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        (toy(loss=lambda o, t: cross_entropy(o, t).mean()), UnsoundError, "reduction='none'"),
        (toy(model=batch_norm), UnsoundError, r"nn\.GroupNorm"),
    ],
    ids=["loss", "layer"],
)
def test_a_task_that_cannot_be_private_is_refused_before_anything_runs(
    tmp_path: Path, task: Task, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(*SMALL, f"out={tmp_path}", task=task)


def test_a_task_without_a_metric_or_with_ragged_records() -> None:
    with pytest.raises(DataError, match="names no metric"):
        Task("toy", lambda: pytest.fail("not loaded"), lambda: models.linear(4, 2), cross_entropy, {})
    with pytest.raises(DataError, match="differ in length"):
        Records(np.zeros((3, 2), np.float32), np.zeros(2, np.int64), ("a", "b", "c"))


def test_privacy_none_says_so(tmp_path: Path) -> None:
    result = run(*SMALL, "privacy=none", "rounds=1", "consent.withdrawals=[]", f"out={tmp_path}")
    assert result.epsilon is None
    opening = result.verification.entries[0].payload
    assert opening["privacy_statement"]["unit"] == "none"
    assert "no differential privacy" in result.report.read_text().lower()


def test_budgets_hold_across_runs(tmp_path: Path) -> None:
    """A home outlives its runs: what the first run has spent is not there for the second."""
    home, short = f"population.home={tmp_path / 'home'}", ("rounds=2", "evaluation.federated=none")
    first = run(*SMALL, *short, home, f"out={tmp_path / 'runs'}")
    second = run(*SMALL, *short, home, f"out={tmp_path / 'runs'}")
    assert first.epsilon is not None
    closed = [e.payload for e in second.verification.entries if e.event == "round_close"]
    assert all(c["void"] for c in closed)
    assert {p["reason"] for c in closed for p in c["participants"]} == {"budget_exhausted"}
