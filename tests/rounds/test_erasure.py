"""A person is erased: no byte of them is left at the client, what was said stays provable, no crash undoes it."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from fedge.assemble import Hooks
from fedge.audit.leaves import DataUse, ErasureEffective, Leaf, decode
from fedge.check import check_house
from fedge.cli.clients import stores_of
from fedge.cli.root import app
from fedge.encoding import b64encode, utc_now
from fedge.errors import PermissionRecordError
from fedge.ids import Lineage
from fedge.rounds import lineage
from fedge.rounds.erasure import Stores, erase, finish
from fedge.rounds.folder import ClientFolder
from fedge.rounds.memory import indices
from fedge.running import Result, run
from tests.rounds.people import PERSON, ROWS, RUN, records, task

STEPS = ("intended", "permissions", "answers", "approvals", "caches", "destroyed", "scrubbed")


@pytest.fixture
def home(copied: Path) -> Path:
    return copied / "clients"


def site(home: Path) -> Stores:
    return stores_of(ClientFolder(home / "site-1"))


def traces(home: Path, who: list[bytes]) -> list[str]:
    """Return the files of the client that hold any of `who`, whatever part of the file it is."""
    files = [p for p in (home / "site-1").rglob("*") if p.is_file()]
    return [f"{p.name}: {mark!r}" for p in files for mark in who if mark in p.read_bytes()]


def logged(result: Result) -> list[Leaf]:
    return [decode(entry.raw)[0] for entry in result.verification.entries]


def marks(stores: Stores) -> list[bytes]:
    """Return everything by which the person could be found: names, key, features."""
    pseudonym = stores.subjects.find(PERSON)
    assert pseudonym is not None
    row = records().subjects.index(PERSON)
    key = stores.subjects.key(pseudonym)
    tag = stores.subjects._tag(PERSON)
    return [
        PERSON.encode(),
        pseudonym.encode(),
        key,
        tag.encode(),
        b64encode(key).encode(),
        records().features[row].tobytes(),
    ]


def test_no_byte_is_left_and_all_proofs_hold(home: Path) -> None:
    stores = site(home)
    who, history = marks(stores), stores.permissions.snapshot_digest()
    (home / "site-1" / "faults.log").write_text(f"ValueError: {PERSON} has an odd value\n")
    held = {trace.partition(":")[0].removesuffix("-wal") for trace in traces(home, who)}
    assert held >= {"consent.db", "subjects.db", "faults.log"}, "the search finds what is there"

    said = CliRunner().invoke(app, ["consent", "erase", str(home / "site-1"), PERSON, "--identifier", "--yes"])
    assert said.exit_code == 0, said.output
    assert "fedge unlearn" in said.output
    assert traces(home, who) == []
    assert site(home).permissions.snapshot_digest() == history, "the history's digest is what the log says"
    assert [p for p in check_house(home.parent) if not p.kept] == []
    assert CliRunner().invoke(app, ["audit", "verify", str(home.parent)]).exit_code == 0


def test_others_stay_as_they_were(home: Path) -> None:
    before = site(home)
    (run_name,) = before.memory.runs()
    other = str(before.subjects.find(f"person-{ROWS + 4:04d}"))
    uses = lineage.uses(before.memory, before.approvals, run_name, other)
    person = str(before.subjects.find(PERSON))
    assert uses and lineage.uses(before.memory, before.approvals, run_name, person)
    erase(before, person, utc_now)
    after = site(home)
    assert lineage.uses(after.memory, after.approvals, run_name, other) == uses
    assert lineage.uses(after.memory, after.approvals, run_name, person) == []
    answers = [a for a in after.memory.answers(run_name) if a.work == "train"]
    assert all(3 not in indices(a.used) and 3 not in indices(a.pool) for a in answers), "theirs is the fourth record"
    assert after.permissions.history(other) == before.permissions.history(other)
    assert after.permissions.history(person) == []


def test_never_loaded_again_and_stated_once(home: Path, tmp_path: Path) -> None:
    """The public data still hold the person; the client's next run is without them and says what it was asked to."""
    stores = site(home)
    (before,) = stores.memory.runs()
    done = erase(stores, str(stores.subjects.find(PERSON)), utc_now)
    result = run(*RUN, f"out={tmp_path}/again", f"population.home={home}", task=task(records()))
    leaves = logged(result)
    assert result.verification.holds
    (stated,) = [leaf for leaf in leaves if isinstance(leaf, ErasureEffective)]
    assert stated.subject_commitment == done.commitment
    sent = [a for a in site(home).memory.answers(before) if a.work == "train"]
    models = [leaf.model_in for a in sent if isinstance(leaf := decode(a.leaf_bytes)[0], DataUse)]
    assert list(stated.models) == models[done.used[before] :], "every model sent after the first round that used them"
    used = [leaf for leaf in leaves if isinstance(leaf, DataUse) and leaf.client == "site-1"]
    assert {leaf.outcome for leaf in used} == {"submitted"}, "a smaller cohort after an erasure is no drift"
    again = site(home)
    assert again.subjects.find(PERSON) is None and again.subjects.was_erased(PERSON)
    cohort = again.approvals.cohort(Lineage("people/site-1"), used[-1].dataset.commitment)
    assert cohort is not None and len(cohort.ids) == ROWS - 1 and "" not in cohort.ids


@pytest.mark.parametrize("consent", ["all", "permit"])
def test_erased_while_a_round_is_going_on(tmp_path: Path, consent: str) -> None:
    """Whoever permitted the use: from the moment of the erasure no batch holds the person, and no update does."""
    read: list[NDArray[np.int64]] = []
    erased: list[bool] = []

    def erase_now(client: str) -> Callable[[str], None]:
        seen: Iterator[int] = iter(range(100))

        def reached(step: str) -> None:
            if client == "site-1" and step == "reserved" and next(seen) == 1:  # round 2 is admitted, nothing is read
                (folder,) = (tmp_path / "runs").iterdir()
                stores = stores_of(ClientFolder(folder / "clients" / "site-1"))
                erase(stores, str(stores.subjects.find(PERSON)), utc_now)
                erased.append(True)

        return reached

    def on_read(client: str) -> Callable[[NDArray[np.int64]], None] | None:
        return (lambda places: read.append(places) if erased else None) if client == "site-1" else None

    overrides = [o for o in RUN if not o.startswith("consent=")]
    hooks = Hooks(client=erase_now, on_read=on_read)
    result = run(*overrides, f"consent={consent}", f"out={tmp_path}/runs", task=task(records()), hooks=hooks)
    assert erased and read and 3 not in np.concatenate(read)
    leaves = logged(result)
    uses = {leaf.round: leaf for leaf in leaves if isinstance(leaf, DataUse) and leaf.client == "site-1"}
    assert [uses[r].outcome for r in (1, 2, 3)] == ["submitted"] * 3
    assert uses[3].counts.excluded["erased"] == "1-9"
    (stated,) = [leaf for leaf in leaves if isinstance(leaf, ErasureEffective)]
    assert list(stated.models) == [uses[2].model_in, uses[3].model_in]
    assert result.verification.holds


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle_is_finished_on_the_next_start(home: Path, step: str) -> None:
    who = marks(site(home))

    def die(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:  # opens its own connections; dies at the step, or tells by its exit code that it did not
        stores = site(home)
        erase(stores, str(stores.subjects.find(PERSON)), utc_now, die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    stores = site(home)
    assert stores.subjects.enrol([PERSON]) == [None], "from the first step on no load brings the person back"
    finish(stores, utc_now)
    assert traces(home, who) == []
    assert len(stores.subjects.erasures()) == 1 and not stores.subjects.pending() and not stores.subjects.unscrubbed()
    assert [p for p in check_house(home.parent) if not p.kept] == []


def test_clear_errors(home: Path) -> None:
    stores = site(home)
    with pytest.raises(PermissionRecordError, match=r"no person 'p-0000'.*fedge consent list"):
        erase(stores, "p-0000", utc_now)
    person = str(stores.subjects.find(PERSON))
    erase(stores, person, utc_now)
    with pytest.raises(PermissionRecordError, match="never there, or erased already"):
        erase(site(home), person, utc_now)
    by_name = CliRunner().invoke(app, ["consent", "erase", str(home / "site-1"), PERSON, "--identifier", "--yes"])
    assert isinstance(by_name.exception, PermissionRecordError) and "erased" in str(by_name.exception)
    granted = CliRunner().invoke(
        app, ["consent", "grant", str(home / "site-1"), PERSON, "--identifier", "-p", "health-research"]
    )
    assert isinstance(granted.exception, PermissionRecordError), "who was erased is not enrolled again by a grant"
    with pytest.raises(PermissionRecordError, match="never there, or erased"):
        site(home).subjects.commit(person, "anything")


def test_asking_is_the_default(home: Path) -> None:
    refused = CliRunner().invoke(app, ["consent", "erase", str(home / "site-1"), PERSON, "--identifier"], input="n\n")
    assert refused.exit_code != 0
    assert site(home).subjects.find(PERSON) is not None


def test_keys_of_two_clients_do_not_link(home: Path) -> None:
    """The same identifier has another key and another pseudonym at another client."""
    one, other = site(home), stores_of(ClientFolder(home / "site-2"))
    (elsewhere,) = other.subjects.enrol([PERSON])
    assert elsewhere != one.subjects.find(PERSON)
    assert one.subjects.key(str(one.subjects.find(PERSON))) != other.subjects.key(str(elsewhere))


def test_only_the_owner_can_read_the_keys(home: Path) -> None:
    site(home)
    files = list((home / "site-1").glob("subjects.db*"))
    assert files and all(p.stat().st_mode & 0o077 == 0 for p in files)
