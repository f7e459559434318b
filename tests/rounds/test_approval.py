"""The owner approves records; one row added, changed or gone, and every order is refused until they approve anew."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedge.cli.clients import stores_of
from fedge.cli.root import app
from fedge.consent.subjects import SubjectKeys
from fedge.erasable import ErasableJournal
from fedge.errors import ParseError
from fedge.ids import Lineage
from fedge.learning.task import Records
from fedge.results import read_lines
from fedge.rounds.approval import Approvals, Changes, Cohort, changes, cohort
from fedge.rounds.folder import ClientFolder
from fedge.running import Result, run
from tests.rounds.people import PERSON, RUN, changed, records, task, without

LINEAGE = Lineage("people/site-1")


def go(tmp_path: Path, train: Records) -> Result:
    """Run over `train` with clients whose folders stay from one run to the next."""
    return run(*RUN, "rounds=1", f"out={tmp_path}/runs", f"population.home={tmp_path}/home", task=task(train))


def added(whole: Records) -> Records:
    more = Records(whole.features[:1], whole.targets[:1], ("person-9999",), ("site-1",))
    both = [whole, more]
    return Records(
        np.concatenate([r.features for r in both]),
        np.concatenate([r.targets for r in both]),
        whole.subjects + more.subjects,
        (*(whole.sites or ()), "site-1"),
    )


def outcomes(result: Result, client: str) -> set[tuple[str, str | None]]:
    lines = read_lines(result.folder / "metrics.jsonl")
    return {(p["outcome"], p["reason"]) for line in lines for p in line["participants"] if p["client"] == client}


@pytest.mark.parametrize(
    ("drift", "what"),
    [
        (added, Changes(1, 0, 0)),
        (lambda whole: changed(whole, PERSON), Changes(0, 1, 0)),
        (lambda whole: without(whole, PERSON), Changes(0, 0, 1)),
    ],
    ids=["added", "changed", "gone"],
)
def test_drift_is_refused_until_approved_anew(
    tmp_path: Path, drift: Callable[[Records], Records], what: Changes
) -> None:
    assert outcomes(go(tmp_path, records()), "site-1") == {("accepted", None)}
    home = tmp_path / "home" / "site-1"
    before = stores_of(ClientFolder(home)).approvals.approved(LINEAGE)

    result = go(tmp_path, drift(records()))
    assert outcomes(result, "site-1") == {("refused", "cohort_drift")}
    assert outcomes(result, "site-0") == {("accepted", None)}, "the others' records are as they were"
    assert result.verification.holds
    found = stores_of(ClientFolder(home)).approvals.found(LINEAGE)
    assert before is not None and found is not None
    fault = (home / "faults.log").read_text()
    assert before.root in fault and found.root in fault and str(what) in fault

    said = CliRunner().invoke(app, ["approve", str(home), "--format", "json"])
    (row,) = json.loads(said.stdout)
    assert (row["added"], row["changed"], row["gone"], row["found"]) == (
        what.added,
        what.changed,
        what.gone,
        found.root,
    )
    assert outcomes(go(tmp_path, drift(records())), "site-1") == {("accepted", None)}
    assert "Nothing to approve" in CliRunner().invoke(app, ["approve", str(home)]).stdout


def test_show_approves_nothing(tmp_path: Path) -> None:
    approvals = opened(tmp_path)[1]
    one, other = Cohort(LINEAGE, ("p/0",), ("00" * 32,)), Cohort(LINEAGE, ("p/0",), ("11" * 32,))
    approvals.approve(one, "t")
    approvals.note(other, "t")
    (tmp_path / "ledger.db").touch()
    (tmp_path / "pseudonym.key").write_bytes(bytes(32))
    said = CliRunner().invoke(app, ["approve", str(tmp_path), "--show"])
    assert "0 added, 1 changed, 0 gone" in said.stdout and "not approved" in said.stdout
    assert opened(tmp_path)[1].approved(LINEAGE) == one


def opened(folder: Path) -> tuple[SubjectKeys, Approvals]:
    journal = ErasableJournal(folder / "subjects.db", "people")
    count = iter(range(1, 10_000))
    keys = SubjectKeys(journal, bytes(32), lambda n: next(count).to_bytes(n, "big"))
    return keys, Approvals(journal.beside("approvals"))


def named(keys: SubjectKeys, whole: Records) -> Records:
    return Records(whole.features, whole.targets, tuple(str(s) for s in keys.enrol(whole.subjects)))


def test_commitment_hides_without_the_keys(tmp_path: Path) -> None:
    """The same records under other keys have another root, and so has every single leaf."""
    (tmp_path / "a").mkdir()
    keys, _ = opened(tmp_path / "a")
    other = SubjectKeys(ErasableJournal(tmp_path / "b.db", "people"), bytes(32), lambda n: b"\x07" * n)
    one = cohort(LINEAGE, named(keys, records()), keys)
    same = cohort(LINEAGE, named(keys, records()), keys)
    two = cohort(LINEAGE, named(other, records()), other)
    assert one.root == same.root
    assert one.root != two.root and not set(one.leaves) & set(two.leaves)


@settings(max_examples=40, deadline=None)
@given(st.permutations(list(range(12))), st.integers(0, 11), st.integers(0, 5))
def test_root_fixes_content_not_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], row: int, column: int
) -> None:
    keys, _ = opened(tmp_path_factory.mktemp("keys"))
    whole = named(keys, records().take(np.arange(12)))
    base = cohort(LINEAGE, whole, keys)
    assert cohort(LINEAGE, whole.take(np.asarray(order)), keys).root == base.root
    features = whole.features.copy()
    features[row, column] += 1
    other = cohort(LINEAGE, Records(features, whole.targets, whole.subjects), keys)
    assert other.root != base.root
    assert changes(base, other) == Changes(0, 1, 0)


def test_several_records_of_one_person(tmp_path: Path) -> None:
    keys, _ = opened(tmp_path)
    (person,) = keys.enrol(["ann"])
    whole = records().take(np.arange(2))
    twice = Records(np.repeat(whole.features[:1], 2, axis=0), np.repeat(whole.targets[:1], 2), (str(person),) * 2)
    found = cohort(LINEAGE, twice, keys)
    assert found.ids == (f"{person}/0", f"{person}/1")
    assert len(set(found.leaves)) == 2, "equal records of one person have unequal leaves"


def test_erased_people_leave_the_approved_cohort(tmp_path: Path) -> None:
    keys, approvals = opened(tmp_path)
    whole = named(keys, records().take(np.arange(6)))
    full = cohort(LINEAGE, whole, keys)
    approvals.approve(full, "t")
    for person in (whole.subjects[2], whole.subjects[4]):
        approvals.erase(person)
        approvals.erase(person)
    rest = cohort(LINEAGE, whole.take(np.asarray([0, 1, 3, 5])), keys)
    assert approvals.stands(rest), "the cohort goes on without them"
    assert approvals.stands(full), "a process that loaded them before still holds what was approved"
    assert not approvals.stands(cohort(LINEAGE, whole.take(np.asarray([0, 1, 3])), keys))
    again = opened(tmp_path)[1]
    assert again.approved(LINEAGE) == rest
    blank = again.cohort(LINEAGE, full.root)
    assert blank is not None and blank.root == full.root
    assert [i for i, name in enumerate(blank.ids) if not name] == [2, 4]


def test_unknown_entry_is_refused(tmp_path: Path) -> None:
    _, approvals = opened(tmp_path)
    ErasableJournal(tmp_path / "subjects.db", "approvals").append([b'{"kind":"odd"}'])
    with pytest.raises(ParseError, match="unknown entry 'odd'"):
        approvals.lineages()


def test_no_approval_means_no_record(tmp_path: Path) -> None:
    """Whatever becomes of the approvals, an order without one is refused: closed by default."""
    _, approvals = opened(tmp_path)
    assert not approvals.stands(Cohort(LINEAGE, (), ()))
