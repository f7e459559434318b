"""A client judges an order before it touches a record: each refusal with its reason, nothing read, nothing spent."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedge.assemble import Hooks
from fedge.errors import ParseError, RoundError, SignatureError
from fedge.learning.recipe import Shuffled, from_record, to_record
from fedge.params import digest as digest_of
from fedge.reports.words import REASONS
from fedge.rounds import client
from fedge.rounds.messages import Hello, Parcel, sign
from fedge.signing import PrivateKey
from tests.rounds.house import ONE, TWO, Clock, House, house, withdrawal


def recipe(here: House, **changes: Any) -> dict[str, Any]:
    return to_record(replace(from_record(dict(here.assembled.plan.recipe)), **changes))


def check_refused(here: House, said: Any, reason: str) -> None:
    lineage = here.site(ONE).training.lineage
    assert (said.outcome, said.reason) == ("refused", reason)
    assert said.update is None
    assert here.read == {}, "a record was read for an order that was refused"
    assert here.site(ONE).ledger.spent(lineage) == (), "a refused order was paid for"
    assert reason in REASONS, "the reason has no words for people"


ORDERS: dict[str, Callable[[House], dict[str, Any]]] = {
    "order_expired": lambda _: {"issued": "2026-11-23T07:00:00.000Z", "expires": "2026-11-23T08:00:00.000Z"},
    "task_mismatch": lambda _: {"task": "digits"},
    "unknown_recipe": lambda _: {"recipe": {"steps": 1}},
    "unknown_purpose": lambda _: {"purpose": "world-domination"},
    "no_permitted_record": lambda _: {"purpose": "commercial"},
    "cohort_too_small": lambda _: {"cohort": 1},
    "no_privacy": lambda here: {"recipe": recipe(here, privacy=None, batching=Shuffled(8))},
}


@pytest.mark.parametrize("reason", ORDERS)
def test_an_order_is_refused(tmp_path: Path, reason: str) -> None:
    here = house(tmp_path)
    check_refused(here, here.said(here.order(**ORDERS[reason](here))), reason)


def test_an_order_from_the_future_is_refused(tmp_path: Path) -> None:
    here = house(tmp_path)
    order = here.order(issued="2026-11-23T09:40:00.000Z", expires="2026-11-23T10:40:00.000Z")
    check_refused(here, here.said(order), "order_expired")


def test_another_architecture_is_another_task(tmp_path: Path) -> None:
    here = house(tmp_path)
    check_refused(here, here.said(here.order(task_digest="sha256:" + "0" * 64)), "task_mismatch")


POLICIES = {
    "task_not_approved": "policy.tasks=[digits]",
    "purpose_not_allowed": "policy.purposes=[public-health]",
    "cohort_too_small": "policy.minimum_cohort=4",
    "insecure_noise": "policy.require_secure_noise=true",
    "noise_too_small": "policy.minimum_noise_multiplier=50",
    "clip_norm_too_large": "policy.maximum_clip_norm=0.5",
    "epsilon_per_round_too_large": "policy.maximum_epsilon_per_round=0.01",
    "too_few_records": "policy.minimum_records=100000",
}


@pytest.mark.parametrize("reason", POLICIES)
def test_the_owners_policy_refuses(tmp_path: Path, reason: str) -> None:
    here = house(tmp_path, POLICIES[reason])
    check_refused(here, here.said(here.order()), reason)


def test_nobody_has_agreed(tmp_path: Path) -> None:
    here = house(tmp_path, "consent.refused=0.5", "consent.missing=0.5")
    said = here.said(here.order())
    check_refused(here, said, "no_permitted_record")
    assert set(said.counts.excluded) == {"refused", "no_consent"}


def test_a_spent_budget_refuses(tmp_path: Path) -> None:
    here = house(tmp_path, "population.budgets={hospital-1: 0.01}", "policy.maximum_epsilon_per_round=1000")
    check_refused(here, here.said(here.order()), "budget_exhausted")


def test_data_without_a_budget_is_refused(tmp_path: Path) -> None:
    house(tmp_path)
    with sqlite3.connect(tmp_path / "clients" / ONE / "ledger.db") as db:
        db.execute("DELETE FROM spends")
    db.close()
    here = house(tmp_path)
    site = here.site(ONE)
    emptied = replace(site, training=replace(site.training, dataset=replace(site.training.dataset, lineage="other")))
    here.assembled.sites[ONE] = emptied
    check_refused(here, here.said(here.order()), "no_budget")


@pytest.mark.parametrize("entry", [b"garbage", b"{}", b'{"act":"grant"}'])
def test_a_permission_record_that_cannot_be_read_closes_everything(tmp_path: Path, entry: bytes) -> None:
    here = house(tmp_path)
    with sqlite3.connect(tmp_path / "clients" / ONE / "consent.db") as db:
        db.execute("INSERT INTO permissions SELECT MAX(position) + 1, ? FROM permissions", (entry,))
    db.close()
    check_refused(here, here.said(here.order()), "permission_unreadable")


def test_an_older_ledger_put_back_refuses(tmp_path: Path) -> None:
    here = house(tmp_path)
    assert here.said(here.order()).outcome == "submitted"
    with sqlite3.connect(tmp_path / "clients" / ONE / "ledger.db") as db:
        db.execute("DELETE FROM spends WHERE position > 1")  # what was spent is gone, the budgets are there
    db.close()
    again = house(tmp_path)
    check_refused(again, again.said(again.order(round=2)), "ledger_unreadable")


# ---- replay -----------------------------------------------------------------------------------------------------


def test_a_round_that_is_past_is_a_replay(tmp_path: Path) -> None:
    here = house(tmp_path)
    assert here.said(here.order(round=2)).outcome == "submitted"
    assert here.said(here.order(round=1)).reason == "replayed_order"


def test_two_different_orders_for_one_round_conflict(tmp_path: Path) -> None:
    here = house(tmp_path)
    assert here.said(here.order()).outcome == "submitted"
    spent = here.site(ONE).ledger.spent(here.site(ONE).training.lineage)
    assert here.said(here.order(recipe=recipe(here, steps=4))).reason == "conflicting_order"
    assert here.site(ONE).ledger.spent(here.site(ONE).training.lineage) == spent


@pytest.mark.parametrize("noise", ["seeded", "secure"])
def test_a_repeated_order_is_answered_with_the_same_bytes_and_costs_nothing(tmp_path: Path, noise: str) -> None:
    here = house(tmp_path, f"privacy.noise={noise}")
    first = here.ask(here.order())
    head, batches = here.site(ONE).ledger.head(), len(here.read[ONE])
    here.clock.move(minutes=10)
    again = here.ask(here.order(attempt=2))
    assert again.statements == first.statements
    assert digest_of(again.tensors) == digest_of(first.tensors)
    assert here.site(ONE).ledger.head() == head
    assert len(here.read[ONE]) == batches


def test_a_repeated_order_is_not_answered_with_a_withdrawn_record(tmp_path: Path) -> None:
    here = house(tmp_path)
    here.ask(here.order())
    person = here.site(ONE).training.records.subjects[here.read[ONE][0][0]]
    withdraw(here, person)
    said = here.said(here.order(attempt=2))
    assert said.outcome == "submitted"  # computed anew, without that person, and paid for anew
    assert len(here.site(ONE).ledger.spent(here.site(ONE).training.lineage)) == 2
    gone = {i for i, s in enumerate(here.site(ONE).training.records.subjects) if s == person}
    assert not gone & {i for batch in here.read[ONE][3:] for i in batch}


def withdraw(here: House, person: str) -> None:
    here.clock.move(seconds=1)
    here.site(ONE).permissions.append([withdrawal(person, here.clock())])


# ---- what is no order at all ------------------------------------------------------------------------------------


def test_another_servers_order_is_not_even_answered(tmp_path: Path) -> None:
    here = house(tmp_path)
    with pytest.raises(SignatureError):
        here.ask(here.order(), key=PrivateKey(b"\x07" * 32))
    assert here.site(ONE).memory.answers(here.assembled.plan.run) == []


def test_an_order_for_somebody_else(tmp_path: Path) -> None:
    here = house(tmp_path)
    parcel = Parcel((sign(here.order(TWO), here.assembled.server_key),), here.model)
    with pytest.raises(RoundError, match="for hospital-2"):
        client.answer(here.site(ONE), "work", parcel)


def test_an_order_with_another_model_beside_it(tmp_path: Path) -> None:
    here = house(tmp_path)
    other = {name: array + 1 for name, array in here.model.items()}
    with pytest.raises(RoundError, match="not the one"):
        client.answer(here.site(ONE), "work", Parcel((sign(here.order(), here.assembled.server_key),), other))


def test_one_message_never_passes_for_another(tmp_path: Path) -> None:
    here = house(tmp_path)
    hello = Hello("run", "key", "key", "2026-11-23T09:30:00.000Z")
    with pytest.raises(SignatureError, match="expected a"):
        client.answer(here.site(ONE), "work", Parcel((sign(hello, here.assembled.server_key),), here.model))


@pytest.mark.parametrize("statements", [(), (b"",), (b"garbage",), (b"a", b"b")])
def test_garbage_is_no_order(tmp_path: Path, statements: tuple[bytes, ...]) -> None:
    here = house(tmp_path)
    with pytest.raises((RoundError, ParseError)):
        client.answer(here.site(ONE), "work", Parcel(statements, here.model))
    assert (tmp_path / "clients" / ONE / "faults.log").read_text().startswith("2026-11-23T09:30:00")


# ---- what an accepted order leaves ------------------------------------------------------------------------------


def test_an_accepted_order_is_paid_for_before_it_is_computed(tmp_path: Path) -> None:
    """Order of effect 2: the spend is in the file when the first record is read."""
    sizes: list[int] = []

    def look(_name: Any) -> Callable[[Any], None]:
        def count(_indices: Any) -> None:
            with sqlite3.connect(tmp_path / "clients" / ONE / "ledger.db") as db:
                entries = [row[0] for row in db.execute("SELECT entry FROM spends")]
            db.close()
            sizes.append(sum(b'"reserve"' in entry for entry in entries))

        return count

    here = house(tmp_path, hooks=Hooks(on_read=look))
    assert here.said(here.order()).outcome == "submitted"
    assert sizes == [1, 1, 1]


def test_a_statement_says_ranges_and_never_a_name(tmp_path: Path) -> None:
    here = house(tmp_path)
    parcel = here.ask(here.order())
    (statement,) = parcel.statements
    site = here.site(ONE)
    said = here.said(here.order())
    assert said.counts.eligible.endswith("9")
    assert str(len(site.training.records)) not in said.counts.eligible
    assert not any(subject.encode() in statement for subject in site.training.records.subjects)
    assert set(parcel.tensors) == set(here.model)


def test_the_clocks_of_two_parties_may_differ_a_little(tmp_path: Path) -> None:
    here = house(tmp_path, clock=Clock())
    ahead = here.order(issued="2026-11-23T09:34:00.000Z", expires="2026-11-23T10:34:00.000Z")
    assert here.said(ahead).outcome == "submitted"
    assert np.isfinite([float(here.said(ahead).privacy.epsilon_total or "nan")]).all()
