"""A round of secure aggregation between real parties: the same model, nobody's update, whoever drops out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fedge import params as parameters
from fedge.assemble import config_bytes
from fedge.audit.leaves import DataUse
from fedge.audit.verify import verify_run
from fedge.rounds.messages import WorkOrder
from fedge.rounds.record import RoundRecord
from fedge.rounds.secure.messages import (
    ConfirmRequest,
    Introduction,
    MaskRequest,
    RevealRequest,
    StepRequest,
    UnmaskRequest,
)
from tests.rounds.house import Answer, House, house, uses
from tests.rounds.test_hostile import silent
from tests.secagg.sessions import FIVE, SECURE, SHARED, secure, silent_from, twisted

PLAIN = [o for o in SECURE if "secure" not in o]
ONE, TWO = FIVE[:2]


def outcomes(record: RoundRecord) -> dict[str, str]:
    return {p.client: p.outcome for p in record.participants}


def model(root: Path) -> np.ndarray:
    return parameters.flat(parameters.load(root / "model.safetensors"))


@pytest.mark.parametrize("engine", ["direct", "flower"])
@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_the_model_is_that_of_a_round_in_the_open(tmp_path: Path, engine: str, strategy: str) -> None:
    given = (f"strategy={strategy}", f"engine={engine}")
    open_, hidden = house(tmp_path / "open", *PLAIN, *given), secure(tmp_path / "hidden", *given)
    open_.rounds()
    records = hidden.rounds()
    assert all(set(outcomes(r).values()) == {"accepted"} and not r.void for r in records)
    np.testing.assert_allclose(model(tmp_path / "hidden"), model(tmp_path / "open"), atol=1e-5)


def test_the_log_holds_and_says_that_updates_were_hidden(tmp_path: Path) -> None:
    here = secure(tmp_path)
    (tmp_path / "config.json").write_bytes(config_bytes(here.assembled.config))
    here.coordinated(lambda coordinator: (list(coordinator.rounds()), coordinator.close(None))[1])
    assert verify_run(tmp_path).holds, verify_run(tmp_path).checks
    said = [use for use in uses(here.leaves()) if use.work == "train"]
    assert len(said) == 10
    assert all(use.secure_aggregation and use.privacy.noise_at == "client" for use in said)


def test_what_the_server_receives_is_noise(tmp_path: Path) -> None:
    here = secure(tmp_path)
    kept: list[np.ndarray] = []

    def listening(honest: Answer) -> Answer:
        def answer(kind, parcel):  # type: ignore[no-untyped-def]
            said = honest(kind, parcel)
            if "masked" in said.tensors:
                kept.append(np.asarray(said.tensors["masked"]))
            return said

        return answer

    here.wrapped |= dict.fromkeys(FIVE, listening)
    here.rounds(1)
    assert len(kept) == 5
    for octets in kept:
        assert octets.dtype == np.uint8
        assert stats.chisquare(np.bincount(octets, minlength=256)).pvalue > 1e-6


# ---- dropouts ---------------------------------------------------------------------------------------------------

STAGES = (WorkOrder, Introduction, MaskRequest, ConfirmRequest, UnmaskRequest)


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.__name__)
def test_one_dropout_at_any_stage_is_recovered(tmp_path: Path, stage: type) -> None:
    """Five clients and one colluder: four have to stay. The sum is that of all whose vector had come."""
    here = secure(tmp_path / "hidden", "privacy.colluding=1")
    here.wrapped[ONE] = silent_from(stage)
    (record,) = here.rounds(1)
    assert not record.void, here_faults(here)
    sent = stage in (ConfirmRequest, UnmaskRequest)
    assert outcomes(record) == {c: "accepted" if c != ONE or sent else "silent" for c in FIVE}
    open_ = house(tmp_path / "open", *PLAIN)
    if not sent:
        open_.wrapped[ONE] = silent
    open_.rounds(1)
    np.testing.assert_allclose(model(tmp_path / "hidden"), model(tmp_path / "open"), atol=1e-5)


def here_faults(here: House) -> str:
    return "\n".join(s.faults.read_text() for s in here.assembled.sites.values() if s.faults.exists())


@pytest.mark.parametrize("stage", [MaskRequest, UnmaskRequest], ids=lambda s: s.__name__)
def test_too_many_dropouts_make_the_round_void(tmp_path: Path, stage: type) -> None:
    here = secure(tmp_path)
    here.wrapped |= {c: silent_from(stage) for c in FIVE[:3]}
    record = here.rounds(1)[0]
    assert record.void
    assert record.model_out == record.model_in
    assert record.reason in {"too_few_updates", "secure_sum_failed"}


def test_dropouts_at_different_stages(tmp_path: Path) -> None:
    here = secure(tmp_path, "privacy.colluding=0")
    here.wrapped |= {ONE: silent_from(MaskRequest), TWO: silent_from(UnmaskRequest)}
    (record,) = here.rounds(1)
    assert not record.void
    assert outcomes(record)[ONE] == "silent"
    assert outcomes(record)[TWO] == "accepted"


def test_the_run_goes_on_after_a_void_round(tmp_path: Path) -> None:
    here = secure(tmp_path)

    def once(honest: Answer) -> Answer:
        hiding, calls = silent_from(MaskRequest)(honest), 0

        def answer(kind, parcel):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += kind == "seal"
            return (hiding if calls < 2 else honest)(kind, parcel)

        return answer

    here.wrapped |= dict.fromkeys(FIVE[:3], once)
    first, second = here.rounds()
    assert (first.void, second.void) == (True, False)


# ---- clients that refuse, fail or lie -----------------------------------------------------------------------------


def test_a_client_whose_budget_is_spent_refuses_before_anything_depends_on_it(tmp_path: Path) -> None:
    here = secure(tmp_path, "population.budgets={hospital-1: 0.01}")
    (record,) = here.rounds(1)
    part = next(p for p in record.participants if p.client == ONE)
    assert (part.outcome, part.reason) == ("refused", "budget_exhausted")
    assert not record.void
    assert here.site(ONE).sessions.of(here.assembled.plan.run) is None
    assert [u.secure_aggregation for u in uses(here.leaves()) if u.client == ONE] == [True]


def test_a_task_that_raises_under_masks_is_an_outcome(tmp_path: Path) -> None:
    here = secure(tmp_path)
    broken = replace(here.site(ONE).task, loss=lambda *_: 1 / 0)
    here.assembled.sites[ONE] = replace(here.site(ONE), task=broken)  # type: ignore[index]
    (record,) = here.rounds(1)
    assert outcomes(record)[ONE] == "failed"
    assert not record.void


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.__name__)
def test_garbage_from_a_client_is_no_word_of_its(tmp_path: Path, stage: type) -> None:
    here = secure(tmp_path)
    here.wrapped[ONE] = twisted(stage, lambda parcel: replace(parcel, statements=(b"garbage",)))
    (record,) = here.rounds(1)
    assert not record.void
    assert outcomes(record)[ONE] != "accepted" or stage in (ConfirmRequest, UnmaskRequest)


def test_another_vector_than_stated_is_not_in_the_sum(tmp_path: Path) -> None:
    here = secure(tmp_path)
    other = {"masked": np.zeros(2 * 4, np.uint8)}
    here.wrapped[ONE] = twisted(MaskRequest, lambda parcel: replace(parcel, tensors=other))  # type: ignore[arg-type]
    (record,) = here.rounds(1)
    assert outcomes(record)[ONE] == "rejected"
    assert not record.void


def test_a_long_update_is_shortened_to_the_norm(tmp_path: Path) -> None:
    here = secure(tmp_path, "privacy.update_norm=0.001")
    before = parameters.flat(here.model)
    here.rounds(1)
    assert np.linalg.norm(model(tmp_path) - before) <= 0.001 + 1e-6


def test_spend_is_once_a_round_and_secrets_do_not_outlast_it(tmp_path: Path) -> None:
    here = secure(tmp_path, *SHARED)
    here.rounds()
    for site in here.assembled.sites.values():
        assert len(site.ledger.spent(site.training.lineage)) == 2
        session = site.sessions.of(here.assembled.plan.run)
        assert session is not None
        assert session.over
        assert session.secret == ""


# ---- shared noise, step by step ---------------------------------------------------------------------------------


def test_shared_noise_on_both_engines_gives_one_model(tmp_path: Path) -> None:
    digests = set()
    for engine in ("direct", "flower"):
        here = secure(tmp_path / engine, *SHARED, f"engine={engine}")
        digests.add(here.rounds()[-1].model_out)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("stage", "nth"),
    [(WorkOrder, 1), (Introduction, 1), (StepRequest, 1), (StepRequest, 2), (RevealRequest, 2), (RevealRequest, 3)],
)
def test_a_dropout_between_steps_leaves_the_round_to_the_others(tmp_path: Path, stage: type, nth: int) -> None:
    here = secure(tmp_path, *SHARED, "training.steps=3")
    here.wrapped[ONE] = silent_from(stage, nth)
    (record,) = here.rounds(1)
    assert not record.void, here_faults(here)
    assert outcomes(record) == {c: "accepted" if c != ONE else "silent" for c in FIVE}
    assert record.model_out != record.model_in


def test_more_dropouts_than_the_noise_covers_make_the_round_void_and_it_is_spent(tmp_path: Path) -> None:
    here = secure(tmp_path, *SHARED, "training.steps=3")
    here.wrapped |= {c: silent_from(StepRequest, 2) for c in FIVE[:3]}
    (record,) = here.rounds(1)
    assert record.void
    assert record.model_out == record.model_in
    for name in FIVE:
        site = here.site(name)
        assert len(site.ledger.spent(site.training.lineage)) == 1


def test_a_session_cut_off_is_stated_with_the_next(tmp_path: Path) -> None:
    here = secure(tmp_path, *SHARED, "training.steps=3")

    def once(honest: Answer) -> Answer:
        hiding, sealed = silent_from(StepRequest, 2)(honest), 0

        def answer(kind, parcel):  # type: ignore[no-untyped-def]
            nonlocal sealed
            sealed += kind == "seal"
            return (hiding if sealed < 2 else honest)(kind, parcel)

        return answer

    here.wrapped[ONE] = once
    first, second = here.rounds()
    assert outcomes(first)[ONE] == "silent"
    assert outcomes(second)[ONE] == "accepted", here_faults(here)
    said = [u for u in here.leaves() if isinstance(u, DataUse) and u.client == ONE]
    assert [(u.round, u.outcome, u.reason) for u in said] == [(1, "failed", "session_cut"), (2, "submitted", None)]
    assert all(u.privacy.noise_at == "distributed" and u.privacy.epsilon_round is not None for u in said)


def test_statements_name_every_masked_vector(tmp_path: Path) -> None:
    here = secure(tmp_path, *SHARED)
    here.wrapped[ONE] = twisted(RevealRequest, lambda p: p)
    (record,) = here.rounds(1)
    said = [u for u in uses(here.leaves()) if u.work == "train"]
    assert len({u.update for u in said}) == 5
    assert all(u.privacy.steps == 2 and u.secure_aggregation and u.resources.bytes_out > 0 for u in said)
    assert record.bytes_up > 0
