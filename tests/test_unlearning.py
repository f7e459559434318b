"""Unlearning is exact: the redone run's model is that of a run over data that never had the person, byte for byte."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedge import unlearning
from fedge.assemble import Hooks
from fedge.check import check_house
from fedge.cli.clients import person, stores_of
from fedge.consent.events import PermissionEvent
from fedge.encoding import timestamp, utc_now
from fedge.errors import AuditError, BudgetError, ConfigError, PermissionRecordError
from fedge.params import digest, load
from fedge.rounds.erasure import Stores, erase
from fedge.rounds.folder import ClientFolder, RunFolder
from fedge.running import resume, run
from tests.rounds.people import PERSON, RUN, call, records, task, without

FREE = tuple(o for o in RUN if not o.startswith("population.budgets"))
"""The same without budgets of their own: what a run without privacy needs, and what is just enough for one with."""


def site(run_folder: Path) -> Stores:
    return stores_of(ClientFolder(run_folder / "clients" / "site-1"))


def withdraw(run_folder: Path) -> Stores:
    call("consent", "withdraw", str(run_folder / "clients" / "site-1"), PERSON, "--identifier", "-p", "health-research")
    return site(run_folder)


def model(folder: Path) -> str:
    return digest(load(RunFolder(folder).model))


SETTINGS = [
    (),
    pytest.param(("strategy=fedadam",), marks=pytest.mark.slow),
    pytest.param(("privacy=none", "training.batch_size=8"), marks=pytest.mark.slow),
    pytest.param(("sampling.fraction=0.6",), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_a_run_that_never_had_the_person(tmp_path: Path, settings: Sequence[str]) -> None:
    """The oracle is a run over data without the row: nothing of permissions or erasure takes part in it."""
    chosen = [*(FREE if "privacy=none" in settings else RUN), *settings]
    whole = run(*chosen, f"out={tmp_path}/a", task=task(records()))
    never = run(*chosen, f"out={tmp_path}/b", task=task(without(records(), PERSON)))
    assert model(whole.folder) != model(never.folder), "the person has left a trace"
    stores = withdraw(whole.folder)
    redo = unlearning.plan(whole.folder, stores, subject=person(stores, PERSON, identifier=True))
    redone = unlearning.unlearn(redo, task(records()))
    assert redone.model.read_bytes() == never.model.read_bytes()
    assert redone.verification.holds
    assert [p for p in check_house(redone.folder, whole.folder / "clients") if not p.kept] == []
    opening = redone.verification.entries[0].payload
    assert opening["continues"]["run"] == whole.folder.name
    assert opening["continues"]["root"] == f"sha256:{whole.verification.root}"


def test_starts_at_the_last_round_without_the_person(tmp_path: Path) -> None:
    """A person who joins before round 3 of 4 costs two rounds; the two before are not done again."""

    refused: list[str] = []

    def event(act: str, who: str) -> PermissionEvent:
        now = timestamp(utc_now())
        return PermissionEvent(act, "consent", who, ("health-research",), now, now)  # type: ignore[arg-type]

    def change_mind(step: str) -> None:
        (folder,) = (tmp_path / "runs").iterdir()
        stores = site(folder)
        who = person(stores, PERSON, identifier=True)
        if step == "sealed" and not refused:
            stores.permissions.append([event("refuse", who)])
            refused.append(who)
        elif step == "released" and len(refused) == 1 and (folder / "server/states/round-000002.safetensors").exists():
            stores.permissions.append([event("grant", who)])
            refused.append("granted")

    hooks = Hooks(server=change_mind)
    whole = run(*RUN, "rounds=4", f"out={tmp_path}/runs", task=task(records()), hooks=hooks)
    never = run(*RUN, "rounds=4", f"out={tmp_path}/never", task=task(without(records(), PERSON)))
    stores = withdraw(whole.folder)
    redo = unlearning.plan(whole.folder, stores, subject=refused[0])
    assert redo.first == 3
    assert {c.rounds for c in redo.costs} == {2}
    redone = unlearning.unlearn(redo, task(records()))
    assert redone.model.read_bytes() == never.model.read_bytes()
    rounds = [e.payload["round"] for e in redone.verification.entries if e.event == "round_close"]
    assert rounds == [3, 4] and redone.verification.holds
    ledger = json.loads(call("budget", "show", str(whole.folder), "--format", "json"))
    spends = {row["data_set"]: row["spends"] for row in ledger}
    assert spends["people/site-0"] == 4 + 2, "redone rounds are new spends"


def test_after_an_erasure_the_commitment_names_the_person(copied: Path, tmp_path: Path) -> None:
    done = erase(site(copied), person(site(copied), PERSON, identifier=True), utc_now)
    never = run(*RUN, f"out={tmp_path}/never", task=task(without(records(), PERSON)))
    redo = unlearning.plan(copied, site(copied), erasure=done.commitment)
    redone = unlearning.unlearn(redo, task(records()))
    assert redone.model.read_bytes() == never.model.read_bytes()
    stated = [e.payload for e in redone.verification.entries if e.event == "erasure_effective"]
    assert [s["subject_commitment"] for s in stated] == [done.commitment], "said with the client's next answer"


def test_a_redone_run_is_resumed_like_any_other(copied: Path, tmp_path: Path) -> None:

    class Stop(Exception):
        pass

    def dying(step: str) -> None:
        if step == "appended":
            raise Stop

    stores = withdraw(copied)
    redo = unlearning.plan(copied, stores, subject=person(stores, PERSON, identifier=True))
    with pytest.raises(Stop):
        unlearning.start(redo.config, task(records()), hooks=Hooks(server=dying), before=redo.before)
    (begun,) = set(tmp_path.iterdir()) - {copied}
    result = resume(begun, task(records()))
    assert result.verification.holds
    never = run(*RUN, f"out={tmp_path}/never", task=task(without(records(), PERSON)))
    assert result.model.read_bytes() == never.model.read_bytes()


def test_budgets_are_asked_first(tmp_path: Path) -> None:
    whole = run(*FREE, f"out={tmp_path}/runs", task=task(records()))
    stores = withdraw(whole.folder)
    redo = unlearning.plan(whole.folder, stores, subject=person(stores, PERSON, identifier=True))
    advice = r"Nothing was begun.*fedge budget set \S+site-0 people/site-0 --epsilon"
    with pytest.raises(BudgetError, match=advice) as told:
        unlearning.unlearn(redo, task(records()))
    assert len(list((tmp_path / "runs").iterdir())) == 1, "no folder says that a run began"
    for command in str(told.value).partition("each with: ")[2].split("; "):
        call(*command.partition(": ")[2].removeprefix("fedge ").split())
    allowed = unlearning.plan(whole.folder, stores, subject=person(stores, PERSON, identifier=True))
    redone = unlearning.unlearn(allowed, task(records()))
    lines = [e.payload for e in redone.verification.entries if e.event == "round_close"]
    assert {p["outcome"] for line in lines for p in line["participants"]} == {"accepted"}, "the budgets named suffice"


def test_bad_input_names_the_fix(copied: Path, tmp_path: Path) -> None:
    stores = site(copied)
    who = person(stores, PERSON, identifier=True)
    options = ("unlearn", str(copied), "--client", "site-1")
    with pytest.raises(ConfigError, match="add --exact"):
        call(*options, "--subject", who)
    with pytest.raises(ConfigError, match="--subject, or an erased one by --erasure"):
        call(*options, "--exact")
    with pytest.raises(PermissionRecordError, match=r"permits health-research now.*fedge consent withdraw"):
        call(*options, "--subject", who, "--exact")
    with pytest.raises(PermissionRecordError, match="fedge consent list"):
        call(*options, "--subject", "p-0000000000000000", "--exact")
    with pytest.raises(ConfigError, match="known: none"):
        call(*options, "--erasure", "sha256:00", "--exact")
    with pytest.raises(ConfigError, match=r"no client 'site-9'.*known: site-0, site-1, site-2"):
        call("unlearn", str(copied), "--client", "site-9", "--subject", who, "--exact")
    withdraw(copied)
    (copied / "server" / "states" / "round-000000.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"after round 0.*not kept \(kept: 1, 2, 3\).*keep_states=null"):
        call(*options, "--subject", who, "--exact")
    shutil.copy(copied / "server/states/round-000001.safetensors", copied / "server/states/round-000000.safetensors")
    with pytest.raises(AuditError, match="not the one that the log names"):
        call(*options, "--subject", who, "--exact")


def test_never_used(copied: Path) -> None:
    (stranger,) = site(copied).subjects.enrol(["somebody else"])
    with pytest.raises(PermissionRecordError, match="in no pool of run"):
        unlearning.plan(copied, site(copied), subject=str(stranger))


def test_impact_lists_rounds_and_models(copied: Path) -> None:
    who = person(site(copied), PERSON, identifier=True)
    said = json.loads(call("lineage", "impact", str(copied), "--client", "site-1", "-s", who, "--format", "json"))
    assert {u["round"] for u in said["uses"] if u["work"] == "train"} == {1, 2, 3}
    first = min(u["round"] for u in said["uses"] if u["read"])
    assert [m["round"] for m in said["models"]] == list(range(first, 4))
    assert said["models"][-1]["model"] == model(copied)
    text = call("lineage", "impact", str(copied), "-c", "site-1", "-s", PERSON, "--identifier")
    assert f"{4 - first} model versions include the person" in text


def test_impact_of_a_foreign_client_folder(copied: Path, tmp_path: Path) -> None:
    other = run(*RUN, "rounds=1", f"out={tmp_path}/other", task=task(records()))
    foreign = other.folder / "clients" / "site-1"
    with pytest.raises(ConfigError, match="made no statement in run"):
        call("lineage", "impact", str(copied), "--client", str(foreign), "--subject", PERSON, "--identifier")


def test_keep_states_keeps_the_newest(tmp_path: Path) -> None:
    result = run(*RUN, "keep_states=2", f"out={tmp_path}", task=task(records()))
    kept = sorted(p.name for p in (result.folder / "server" / "states").iterdir())
    assert kept == ["round-000002.safetensors", "round-000003.safetensors"]
