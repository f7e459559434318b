"""Somebody withdraws in another process while a run goes on: the record is in no later batch, and the log says so."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedge.assemble import Assembled, Hooks
from fedge.encoding import moment
from fedge.running import Result, Watch, run
from tests.conftest import SMALL

CLIENT = "hospital-1"
QUICK = (*(o for o in SMALL if "withdrawals" not in o), "evaluation.federated=none", "engine=direct")


@dataclass
class Story:
    """Who reads what, and who withdraws after the reads of the third batch of round 2."""

    choose: Callable[[NDArray[np.int64], int], int]
    assembled: list[Assembled] = field(default_factory=list)
    batches: list[NDArray[np.int64]] = field(default_factory=list)
    after: int = -1
    record: int = -1

    def hooks(self) -> Hooks:
        return Hooks(on_read=lambda client: self.on_read if client == CLIENT else None)

    def on_read(self, indices: NDArray[np.int64]) -> None:
        self.batches.append(indices)
        steps = self.assembled[0].config.training.steps
        if len(self.batches) == steps + 3:
            site = self.assembled[0].sites[CLIENT]
            self.record = self.choose(indices, len(site.training.records))
            withdraw(self.assembled[0].folder.clients / CLIENT, site.training.records.subjects[self.record])
            self.after = len(self.batches)


def withdraw(client: Path, subject: str) -> None:
    """Withdraw as a person at the hospital's desk does: with the command, in a process of its own."""
    command = [sys.executable, "-m", "fedge", "consent", "withdraw", str(client), subject, "-p", "health-research"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr


def told(story: Story, out: Path, *overrides: str) -> Result:
    watch = Watch(on_start=story.assembled.append)
    return run(*QUICK, f"out={out}", *overrides, watch=watch, hooks=story.hooks())


def uses(result: Result) -> list[tuple[int, str, str | None]]:
    entries = [e.payload for e in result.verification.entries if e.event == "data_use"]
    return [(p["round"], p["outcome"], p["reason"]) for p in entries if p["client"] == CLIENT]


def in_batch(indices: NDArray[np.int64], _records: int) -> int:
    return int(indices[0])


def test_withdrawn_in_flight_the_update_is_not_sent(tmp_path: Path) -> None:
    story = Story(in_batch)
    result = told(story, tmp_path)
    assert result.verification.holds, result.verification.checks
    assert story.record in np.concatenate(story.batches[: story.after])
    assert story.record not in np.concatenate(story.batches[story.after :])
    assert uses(result) == [(1, "submitted", None), (2, "skipped", "withdrawn_in_flight"), (3, "submitted", None)]
    (effect,) = (e.payload for e in result.verification.entries if e.event == "withdrawal_effective")
    latency = moment(effect["effective_at"]) - moment(effect["withdrawn_at"])
    assert 0 <= latency.total_seconds() < 60
    assert effect["round"] == 3


@pytest.mark.slow
def test_an_owner_may_let_the_round_finish(tmp_path: Path) -> None:
    story = Story(in_batch)
    result = told(story, tmp_path, "policy.withdrawn_in_flight=finish")
    assert story.record not in np.concatenate(story.batches[story.after :])
    assert [outcome for _, outcome, _ in uses(result)] == ["submitted"] * 3


@pytest.mark.slow
def test_withdrawn_before_it_was_read_the_update_is_sent(tmp_path: Path) -> None:
    story = Story(lambda indices, records: 0)

    def unread(_indices: NDArray[np.int64], records: int) -> int:
        round_two = np.concatenate(story.batches[-3:])
        return next(n for n in range(records) if n not in round_two)

    story.choose = unread
    result = told(story, tmp_path)
    assert story.record not in np.concatenate(story.batches[story.after :])
    assert [outcome for _, outcome, _ in uses(result)] == ["submitted"] * 3


@pytest.mark.parametrize("basis", ["permit", "legal_basis"])
def test_a_hospital_without_consents_works_under_its_basis_and_the_log_says_which(tmp_path: Path, basis: str) -> None:
    result = run(*QUICK, f"consent={basis}", "consent.opted_out=0.2", "rounds=1", f"out={tmp_path}")
    assert result.verification.holds
    found = [e.payload for e in result.verification.entries if e.event == "data_use"]
    stated = {"permit": ["eu-gdpr:A6-1-e", "eu-gdpr:A9-2-j", "permit:HDAB-2026-0017"]}.get(
        basis, ["eu-gdpr:A6-1-e", "eu-gdpr:A9-2-i"]
    )
    assert {tuple(use["legal_bases"]) for use in found} == {tuple(stated)}
    assert all("opt_out" in use["counts"]["excluded"] for use in found)


def test_a_permit_bound_to_a_condition_admits_nobody_until_the_owner_states_the_fact(tmp_path: Path) -> None:
    overrides = (*QUICK, "consent=permit", "rounds=1", f"out={tmp_path}")
    story = Story(in_batch)

    def bind(assembled: Assembled) -> None:
        for site in assembled.sites.values():
            (permit,) = site.permissions.history("*")
            site.permissions.append([replace(permit, conditions=("NCU",))])

    watch = Watch(on_start=bind)
    refused = run(*overrides, "consent.facts=[not_for_profit]", watch=watch, hooks=story.hooks())
    assert {e.payload["reason"] for e in refused.verification.entries if e.event == "data_use"} == {
        "no_permitted_record"
    }
    stated = run(*overrides, "consent.facts=[non_commercial]", watch=watch)
    assert {e.payload["outcome"] for e in stated.verification.entries if e.event == "data_use"} == {"submitted"}
