"""Whom an epsilon protects, through whole runs of the real client: a record, a person, and who says so.

Digits grouped by writer: people own many records each. What leaves a client is looked at on its way.
"""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict

from fedge.audit.events import ClientLeaf
from fedge.audit.forms import Decimal, hints
from fedge.audit.parts import PrivacySpend
from fedge.errors import RoundError, UnsoundError
from fedge.flower import wire
from fedge.ids import ClientId
from fedge.journal import SqliteJournal
from fedge.params import Params
from fedge.privacy.events import Gaussian, SampledGaussian
from fedge.privacy.ledger import Ledger
from fedge.results import read_json, read_lines
from fedge.rounds import client, packing
from fedge.rounds.folder import ClientFolder, RunFolder
from fedge.rounds.messages import PUBLIC_SIZE, Kind, Parcel
from fedge.running import Result, run
from fedge.simulation.fleet import CohortFleet
from tests.learning.wearables import by_writer

WEARABLES = by_writer(writers=60)
SHORT = (
    "engine=direct", "rounds=2", "training.steps=4", "training.sample_rate=0.5", "training.normaliser=8", "consent=all",
    "population.clients=3",
    "population.shares=[0.5,0.3,0.2]", "policy.minimum_records=1",
)  # fmt: skip


def went(result: Result) -> list[dict[str, typing.Any]]:
    return [p for line in read_lines(RunFolder(result.folder).metrics) for p in line["participants"]]


def payloads(result: Result, event: str) -> list[Mapping[str, typing.Any]]:
    return [e.payload for e in result.verification.entries if e.event == event]


def ledgers(result: Result) -> Iterator[Ledger]:
    for folder in sorted((result.folder / "clients").iterdir()):
        yield Ledger(SqliteJournal(ClientFolder(folder).ledger, "spends"))


# ---- the person -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_people(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(*SHORT, "privacy=subject", f"out={tmp_path_factory.mktemp('subject')}", task=WEARABLES)


def test_everything_that_names_a_unit_says_subject(of_people: Result) -> None:
    assert of_people.verification.holds
    assert payloads(of_people, "run_open")[0]["privacy_statement"]["unit"] == "subject"
    uses = [u for u in payloads(of_people, "data_use") if u["outcome"] == "submitted"]
    assert {u["work"] for u in uses} == {"train", "evaluate"}
    assert {u["privacy"]["unit"] for u in uses} == {"subject"}
    for ledger in ledgers(of_people):
        for lineage in ledger.lineages():
            budget = ledger.budget(lineage)
            assert budget is not None
            assert budget.statement.describe(budget.delta).startswith("subject-level")
            for event in ledger.spent(lineage):
                assert isinstance(event, SampledGaussian | Gaussian)
                assert event.unit == "subject"
    report = of_people.report.read_text(encoding="utf-8")
    assert "Subject-level differential privacy, adjacency add-remove one subject" in report
    assert "people own several" not in report
    assert payloads(of_people, "repeated_subjects") == []


def test_the_planned_epsilon_of_a_person_is_met_exactly(of_people: Result) -> None:
    assert of_people.epsilon == pytest.approx(4.0, rel=0.01)
    assert {p["outcome"] for p in went(of_people)} == {"accepted"}


def test_nobody_is_trained_on_and_evaluated_on(of_people: Result) -> None:
    assert of_people.federated is not None
    assert 0 < float(of_people.federated["accuracy"]) <= 1


def test_a_budget_of_people_refuses_noise_that_is_made_for_records(of_people: Result, tmp_path: Path) -> None:
    home = tmp_path / "home"
    common = (*SHORT, f"population.home={home}", f"out={tmp_path}", "evaluation.federated=none")
    run(*common, "privacy=subject", "privacy.epsilon=2", task=WEARABLES)
    refused = run(*common, "privacy=record", task=WEARABLES)
    assert {(p["outcome"], p["reason"]) for p in went(refused)} == {("refused", "epsilon_per_round_too_large")}


# ---- the record, where people own several -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_records(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(*SHORT, f"out={tmp_path_factory.mktemp('record')}", task=WEARABLES)


def test_each_client_says_once_that_its_epsilon_does_not_protect_the_person(of_records: Result) -> None:
    said = payloads(of_records, "repeated_subjects")
    assert sorted(s["lineage"] for s in said) == sorted(
        {u["dataset"]["lineage"] for u in payloads(of_records, "data_use")}
    )
    assert {s["unit"] for s in said} == {"record"}
    assert of_records.verification.holds


def test_it_says_that_there_are_such_people_not_how_many(of_records: Result) -> None:
    heading = {"schema", "run", "at", "client", "key", "seq", "previous"}
    for said in payloads(of_records, "repeated_subjects"):
        assert set(said) - heading == {"lineage", "unit", "round"}


def test_the_report_and_the_summary_say_so(of_records: Result) -> None:
    assert '<li><span class="bad">The epsilons are for one record, and people own several' in (
        of_records.report.read_text(encoding="utf-8")
    )
    assert 20 < read_json(RunFolder(of_records.folder).summary)["repeated_subjects"] <= 3 * 60


def test_where_everybody_owns_one_record_nothing_is_said(finished: Result) -> None:
    assert payloads(finished, "repeated_subjects") == []
    assert read_json(RunFolder(finished.folder).summary)["repeated_subjects"] == 0


# ---- the owner's policy is the loosest that an order can be -----------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("policy.minimum_noise_multiplier=50",), "noise_too_small"),
        (("policy.maximum_clip_norm=0.5",), "clip_norm_too_large"),
        (("policy.maximum_clip_norm=5", "privacy.adaptive_clipping=true"), "clip_norm_too_large"),
    ],
)
def test_an_order_that_is_looser_is_refused(tmp_path: Path, asked: tuple[str, ...], reason: str) -> None:
    result = run(*SHORT, "rounds=1", "evaluation.federated=none", f"out={tmp_path}", *asked)
    assert {(p["outcome"], p["reason"]) for p in went(result)} == {("refused", reason)}


def test_a_clip_norm_that_may_become_as_large_as_the_policy_allows_is_carried_out(tmp_path: Path) -> None:
    asked = ("policy.maximum_clip_norm=5", "privacy.adaptive_clipping=true", "privacy.largest_clip_norm=5")
    result = run(*SHORT, "rounds=1", "evaluation.federated=none", f"out={tmp_path}", *asked)
    assert {p["outcome"] for p in went(result)} == {"accepted"}
    (spend,) = {(u["privacy"]["mechanism"], u["privacy"]["clip_norm"]) for u in payloads(result, "data_use")}
    assert spend == ("discrete-gaussian-sampled-adaptive-clipping", "5.0")


# ---- records that add nothing are counted, by the client alone --------------------------------------------------


def test_broken_gradients_are_excluded_for_their_quality_as_a_range(tmp_path: Path) -> None:
    def broken(outputs: typing.Any, targets: typing.Any) -> typing.Any:
        losses = WEARABLES.loss(outputs, targets)
        return losses / (targets != 3)  # a three has an infinite loss

    result = run(*SHORT, "privacy=subject", "evaluation.federated=none", f"out={tmp_path}",
                 task=replace(WEARABLES, loss=broken))  # fmt: skip
    assert {p["outcome"] for p in went(result)} == {"accepted"}
    excluded = [u["counts"]["excluded"] for u in payloads(result, "data_use")]
    assert all(set(e) == {"quality"} and "-" in e["quality"] for e in excluded)


# ---- what can leave a client ------------------------------------------------------------------------------------


class Overheard(CohortFleet):
    """The clients in this process, and every answer on its way."""

    heard: typing.ClassVar[list[tuple[Kind, Parcel]]] = []

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        answers = super().dispatch(kind, parcels)
        self.heard.extend((kind, answer) for answer in answers.values())
        return answers


def test_tensors_that_leave_are_updates_and_noised_counts_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge.carrying.CohortFleet", Overheard)
    monkeypatch.setattr(Overheard, "heard", [])
    run(*SHORT, "rounds=1", f"out={tmp_path}", task=WEARABLES)
    names = {frozenset(answer.tensors) for _, answer in Overheard.heard}
    model = frozenset(n for n, _ in WEARABLES.model().named_parameters())
    assert names == {frozenset(), model, frozenset({"correct", "total"})}
    assert PUBLIC_SIZE not in {name for held in names for name in held}
    assert {kind for kind, answer in Overheard.heard if answer.tensors} == {"work"}


def _members(kind: typing.Any, path: str = "") -> Iterator[tuple[str, typing.Any, typing.Any]]:
    for name, hint in hints(kind).items():
        inner = next((a for a in typing.get_args(hint) if is_dataclass(a)), hint)
        if is_dataclass(inner):
            yield from _members(inner, f"{path}{name}.")
        else:
            yield path + name, hint, kind


def test_no_statement_of_a_client_has_a_place_for_a_metric() -> None:
    """The only numbers with a fraction are what the ledger says of noise; there is no float at all."""
    for leaf in typing.get_args(ClientLeaf):
        for path, hint, kind in _members(leaf):
            assert float not in {hint, *typing.get_args(hint)}, path
            decimal = Decimal.__metadata__[0]  # type: ignore[attr-defined]
            marks = [getattr(h, "__metadata__", ()) for h in (hint, *typing.get_args(hint))]
            assert kind is PrivacySpend or not any(decimal in m for m in marks), path


def test_flower_metrics_are_refused_on_the_wire() -> None:
    record = wire.to_record(Parcel((b"statement",), {}))
    record["metrics"] = MetricRecord({"loss": 0.1})
    with pytest.raises(RoundError, match="metrics"):
        wire.from_record(record)
    with pytest.raises(RoundError):
        wire.from_record(RecordDict({wire.ARRAYS: MetricRecord({"loss": 0.1}), wire.STATEMENTS: record["statements"]}))


# ---- compressed updates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "named", "octets"),
    [
        ((), "safetensors", 4 * 650),
        (("compression=int8",), "safetensors+int8", 650 + 8),
        (("compression=mask", "compression.bits=4"), "safetensors+random:0.25+int4", 163 // 2 + 1 + 8),
        (("compression=topk",), "safetensors+largest:0.1", 65 * 8),
    ],
)
def test_octets_are_counted_as_they_travel_and_the_form_is_in_the_log(
    tmp_path: Path, asked: tuple[str, ...], named: str, octets: int
) -> None:
    result = run(*SHORT, "rounds=1", "evaluation.federated=none", f"out={tmp_path}", *asked, task=WEARABLES)
    uses = payloads(result, "data_use")
    assert {u["format"] for u in uses} == {named}
    assert {u["resources"]["bytes_out"] for u in uses} == {octets}
    (line,) = read_lines(RunFolder(result.folder).metrics)
    assert (line["bytes_up"], line["bytes_down"]) == (3 * octets, 3 * 4 * 650)
    assert read_json(RunFolder(result.folder).summary)["bytes_up"] == 3 * octets
    assert f"<bdi>{named}</bdi>" in result.report.read_text(encoding="utf-8")
    assert result.verification.holds


def test_both_engines_give_the_same_model(tmp_path: Path) -> None:
    asked = ("rounds=1", "evaluation.federated=none", "compression=int4", "privacy.adaptive_clipping=true")
    models = {
        run(*SHORT, *asked, f"engine={engine}", f"out={tmp_path / engine}", task=WEARABLES).model.read_bytes()
        for engine in ("direct", "flower")
    }
    assert len(models) == 1


def test_a_client_that_packs_otherwise_is_rejected_and_the_round_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(change: Params, recipe: typing.Any, order: typing.Any, dice: typing.Any) -> Params:
        tensors = dict(packing.travelling(change, recipe, order, dice))
        if order.client == "hospital-2":
            tensors["compressed.scales"] = np.full(2, 3e38, np.float32)[:1]
        return tensors

    monkeypatch.setattr(client, "travelling", spoiled)
    result = run(*SHORT, "rounds=1", "evaluation.federated=none", "compression=int8", f"out={tmp_path}", task=WEARABLES)
    said = {p["client"]: (p["outcome"], p["reason"]) for p in went(result)}
    assert said == {
        "hospital-1": ("accepted", None), "hospital-2": ("rejected", "bad_update"), "hospital-3": ("accepted", None)
    }  # fmt: skip
    (line,) = read_lines(RunFolder(result.folder).metrics)
    assert not line["void"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("compression=int8", "privacy.secure_aggregation=true"), "scales and coordinates of its own"),
        (("compression=topk", "privacy.secure_aggregation=true", "privacy.noise_at=distributed"), "all of its noise"),
        (("compression=mask", "strategy=median"), "coordinate by coordinate"),
        (("privacy.adaptive_clipping=true", "privacy.secure_aggregation=true", "privacy.noise_at=distributed"),
         "one clip norm"),
        (("privacy.adaptive_clipping=true", "privacy=none"), "no clipping"),
        (("privacy.adaptive_clipping=true", "privacy.count_noise=0.01"), "counting alone"),
        (("task=digits", "training.clipping=ghost"), "only nn.Linear"),
        (("privacy=subject", "training.clipping=ghost"), "summed gradient"),
    ],
)  # fmt: skip
def test_unsound_mixes_are_refused_with_the_reason(tmp_path: Path, asked: tuple[str, ...], why: str) -> None:
    with pytest.raises(UnsoundError, match=why):
        run(*SHORT, f"out={tmp_path}", *asked)
