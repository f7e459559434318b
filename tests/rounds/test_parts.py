"""The small parts of a round: who is asked, what is remembered, what noisy counts may say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.encoding import decimal
from fedge.errors import ParseError, RoundError
from fedge.ids import ClientId
from fedge.params import digest, save
from fedge.privacy import noise
from fedge.rounds.evaluation import evaluation
from fedge.rounds.job import COUNT_SENSITIVITY
from fedge.rounds.memory import bitmap, indices
from fedge.rounds.record import Participation
from fedge.rounds.sampling import cohort
from fedge.rounds.state import State, StateStore
from fedge.rounds.tally import Tally

CLIENTS = [ClientId(f"c{i}") for i in range(10)]


# ---- who is asked -----------------------------------------------------------------------------------------------


@given(st.integers(1, 10), st.floats(0.01, 1), st.integers(1, 10), st.integers(0, 99))
def test_a_cohort_is_a_repeatable_part_of_the_roster(count: int, fraction: float, minimum: int, seed: int) -> None:
    roster = CLIENTS[:count]
    if count < minimum:
        with pytest.raises(RoundError, match=f"at least {minimum} are needed"):
            cohort(roster, fraction, minimum, noise.seeded(seed))
        return
    asked = cohort(roster, fraction, minimum, noise.seeded(seed))
    assert len(asked) == max(minimum, int(np.ceil(fraction * count)))
    assert set(asked) <= set(roster)
    assert list(asked) == sorted(asked)
    assert asked == cohort(list(reversed(roster)), fraction, minimum, noise.seeded(seed))


def test_everybody_is_asked_now_and_then() -> None:
    seen = {c for seed in range(40) for c in cohort(CLIENTS, 0.3, 1, noise.seeded(seed))}
    assert seen == set(CLIENTS)


# ---- what is remembered -----------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 99)))
def test_a_bitmap_is_read_back(members: set[int]) -> None:
    chosen = np.asarray(sorted(members), dtype=np.int64)
    assert indices(bitmap(chosen, 100)).tolist() == sorted(members)


def state(round_: int) -> State:
    params = {"layer.w": np.full((2, 2), round_, np.float32)}
    return State(round_, params, {"m_t": {"layer.w": np.full((2, 2), 0.1 * round_)}})


def test_a_state_is_read_back_with_all_that_the_aggregation_remembers(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "server", tmp_path)
    assert store.released() is None
    store.prepare(state(1))
    assert store.released() is None
    assert not (tmp_path / "model.safetensors").exists()  # prepared is not released
    store.release(state(1))
    back = store.released()
    assert back is not None
    assert (back.round, back.model) == (1, state(1).model)
    np.testing.assert_array_equal(back.memory["m_t"]["layer.w"], state(1).memory["m_t"]["layer.w"])
    assert store.pending() is None


def test_what_is_no_state(tmp_path: Path) -> None:
    save({"w": np.ones(1)}, tmp_path / "server" / "pending.safetensors")
    with pytest.raises(ParseError, match="not a state file"):
        StateStore(tmp_path / "server", tmp_path).pending()


# ---- what noisy counts may say ----------------------------------------------------------------------------------


def counted(name: str, correct: float, total: float) -> Tally:
    tensors = {"correct": np.asarray([correct]), "total": np.asarray([total])}
    return Tally(Participation(ClientId(name), "accepted"), tensors=tensors)


def test_an_accuracy_comes_with_the_error_that_its_noise_makes() -> None:
    found = evaluation("r", "2026-11-23T09:30:00.000Z", 3, "m", [counted("a", 80, 100), counted("b", 45, 50)], 2.0)
    assert found is not None
    values = {name: float(v) for name, v in found.values.items()}
    assert values["accuracy"] == pytest.approx(125 / 150, abs=1e-4)
    std = 2.0 * COUNT_SENSITIVITY
    share = 125 / 150
    assert values["accuracy_error"] == pytest.approx(std * np.sqrt(2 * (1 + share**2)) / 150, abs=1e-4)
    assert (values["accuracy.a"], values["accuracy.b"]) == (0.8, 0.9)
    assert (found.noise_std, found.n) == (decimal(std), 2)


def test_the_error_is_what_noise_really_makes() -> None:
    rng = np.random.default_rng(0)
    shares, told = [], 0.0
    for _ in range(400):
        tallies = [counted("a", 160 + rng.normal(0, 4), 200 + rng.normal(0, 4))]
        found = evaluation("r", "t", 1, "m", tallies, 4 / COUNT_SENSITIVITY)
        assert found is not None
        shares.append(float(found.values["accuracy"]))
        told = float(found.values["accuracy_error"])
    assert np.std(shares) == pytest.approx(told, rel=0.15)


def test_too_little_beside_the_noise_says_nothing() -> None:
    assert evaluation("r", "t", 1, "m", [counted("a", 3, 5)], 5.0) is None
    assert evaluation("r", "t", 1, "m", [], 1.0) is None
    assert evaluation("r", "t", 1, "m", [counted("a", -3, -5)], 1.0) is None


def test_a_client_with_few_records_is_not_shown_by_itself() -> None:
    found = evaluation("r", "t", 1, "m", [counted("large", 800, 1000), counted("small", 3, 5)], 2.0)
    assert found is not None
    assert "accuracy.large" in found.values
    assert "accuracy.small" not in found.values


def test_noise_never_makes_an_accuracy_that_is_none() -> None:
    found = evaluation("r", "t", 1, "m", [counted("a", 120, 100), counted("b", -9, 100)], 1.0)
    assert found is not None
    assert (found.values["accuracy.a"], found.values["accuracy.b"]) == ("1.0", "0.0")


def test_the_digest_of_a_state_is_that_of_its_model() -> None:
    assert state(2).model == digest(state(2).params)
