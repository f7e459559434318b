"""What the server's mechanism adds, hides and samples, measured while it runs; and on ones with a planted bug."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedge import params as parameters
from fedge.learning import central
from fedge.learning.aggregation import Memory
from fedge.learning.central import SLOT, Central, shortened
from fedge.learning.recipe import Adaptive, ClientLevel
from fedge.params import Params
from fedge.privacy import noise
from fedge.privacy.factorisation import error, norm, square_root
from fedge.privacy.noise import Dice
from tests.learning.test_mechanism import Noiseless

SIZE, CLIP, EXPECTED = 2000, 0.7, 4.0
LIKE: Params = {"bias": np.zeros(SIZE - 1900), "weight": np.zeros((19, 100))}
PLAIN = ClientLevel(1.5, CLIP)
BANDED = ClientLevel(1.5, CLIP, bands=square_root(6))
LEVELS = pytest.mark.parametrize("level", [PLAIN, BANDED], ids=["independent", "banded"])


def quiet(round_: int) -> Dice:
    return Noiseless(round_.to_bytes(32, "big"), "none", secure=False)


def fresh(round_: int) -> Dice:
    return noise.seeded(5, "server", round_)


def update(length: float, seed: int = 0, like: Params = LIKE) -> Params:
    vector = np.random.default_rng(seed).normal(size=parameters.flat(like).size)
    return parameters.shaped(length * vector / np.linalg.norm(vector), like)


def released(
    level: ClientLevel,
    rounds: Sequence[dict[str, Params]],
    dice: Callable[[int], Dice],
    like: Params = LIKE,
    memory: Memory | None = None,
) -> NDArray[np.float64]:
    """Return the noisy sums of some rounds, one a row."""
    running, kept, rows = Central(level, EXPECTED, dice), memory or {}, []
    for round_, updates in enumerate(rounds, start=1):
        said = running.release(updates, kept, like, round_)
        rows.append(EXPECTED * parameters.flat(said.mean))
        kept = said.memory
    return np.asarray(rows)


def hidden(level: ClientLevel, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return C Y = C X + Z: what the accountant accounts for."""
    return np.asarray([
        sum((c * rows[t - j] for j, c in enumerate(level.bands) if t >= j), np.zeros(rows.shape[1]))
        for t in range(len(rows))
    ])  # fmt: skip


# ---- noise ------------------------------------------------------------------------------------------------------


def spread(level: ClientLevel, dice: Callable[[int], Dice] = fresh) -> float:
    """Return the measured standard deviation of Z over the one that the ledger is told."""
    measured = np.std(hidden(level, released(level, [{}] * 8, dice)))
    return float(measured / (level.noise_multiplier * norm(level.bands) * level.clip_norm))


@LEVELS
@pytest.mark.parametrize("multiplier", [0.5, 1.5, 40.0])
@pytest.mark.parametrize("clip", [1e-3, 30.0])
def test_the_noise_is_as_wide_as_the_ledger_is_told(level: ClientLevel, multiplier: float, clip: float) -> None:
    assert spread(replace(level, noise_multiplier=multiplier, clip_norm=clip)) == pytest.approx(1.0, abs=0.03)


def test_noise_that_forgets_the_bands_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(central, "norm", lambda _bands: 1.0)
    assert spread(BANDED) < 0.8


@LEVELS
def test_noise_that_forgets_the_clip_norm_is_seen(monkeypatch: pytest.MonkeyPatch, level: ClientLevel) -> None:
    monkeypatch.setattr(Central, "_clip", lambda _self, _memory: 1.0)
    assert spread(level) > 1.3


def lagged(rows: NDArray[np.float64], lag: int) -> float:
    return float(np.corrcoef(rows[:-lag].ravel(), rows[lag:].ravel())[0, 1])


@LEVELS
def test_the_noise_that_hides_is_independent_from_round_to_round(level: ClientLevel) -> None:
    rows = hidden(level, released(level, [{}] * 12, fresh))
    assert all(abs(lagged(rows, lag)) < 5 / np.sqrt(rows.size / 2) for lag in (1, 2, 5))


@LEVELS
def test_noise_that_repeats_is_seen(level: ClientLevel) -> None:
    rows = hidden(level, released(level, [{}] * 12, lambda _round: fresh(1)))
    assert all(lagged(rows, lag) > 0.5 for lag in (1, 2, 5))


def test_later_noise_takes_earlier_noise_back() -> None:
    """The error of the sum of all rounds, measured, is that of the factorisation, half of the other."""
    rounds = 24
    for level in (PLAIN, BANDED):
        sums = np.cumsum(released(level, [{}] * rounds, fresh), axis=0)
        std = level.noise_multiplier * norm(level.bands) * CLIP
        assert np.sqrt(np.mean(sums**2)) == pytest.approx(std * error(level.bands, rounds), rel=0.05)
    assert error(PLAIN.bands, rounds) > 2 * error(BANDED.bands, rounds)
    rows = released(BANDED, [{}] * rounds, fresh)
    assert lagged(rows, 1) < -0.2


# ---- sensitivity ------------------------------------------------------------------------------------------------


def moved(level: ClientLevel, rounds: int, taking_part: Sequence[int], length: float = 50.0) -> float:
    """Return by how much one client, in these rounds (from 0), moves what is hidden, without the noise."""
    crowd = {f"c{i}": update(0.5, i) for i in range(3)}
    mine = [crowd | {"me": update(length, 99)} if t in taking_part else crowd for t in range(rounds)]
    both = [hidden(level, released(level, each, quiet)) for each in (mine, [crowd] * rounds)]
    return float(np.linalg.norm(both[0] - both[1]))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1e-3, 0.5, 1.0, 1e6, 1e30]), st.integers(0, 5))
def test_one_participation_moves_it_by_at_most_what_the_noise_is_made_for(length: float, first: int) -> None:
    for level in (PLAIN, BANDED):
        assert moved(level, 8, [first], length) <= norm(level.bands) * CLIP * (1 + 1e-12)


def test_the_claim_is_tight_and_participations_add_up_in_squares() -> None:
    assert moved(PLAIN, 3, [1]) > 0.999 * CLIP
    assert moved(BANDED, 12, [0, 6]) == pytest.approx(np.sqrt(2) * norm(BANDED.bands) * CLIP, rel=1e-3)


def test_taking_part_again_too_soon_is_seen() -> None:
    assert moved(BANDED, 12, [0, 3]) > 1.1 * np.sqrt(2) * norm(BANDED.bands) * CLIP


@LEVELS
def test_a_server_that_does_not_clip_is_seen(monkeypatch: pytest.MonkeyPatch, level: ClientLevel) -> None:
    right = central.on_grid
    monkeypatch.setattr(central, "on_grid", lambda v, b, clip, *rest: right(v, b, 1e9 * clip, *rest))
    assert moved(level, 8, [1]) > 2 * norm(level.bands) * CLIP


def test_a_normaliser_that_follows_who_came_would_be_seen() -> None:
    """The mean is divided by the same number, whoever answered."""
    few, many = ({f"c{i}": update(0.5, i) for i in range(n)} for n in (1, 5))
    alone = released(PLAIN, [few], quiet)
    more = released(PLAIN, [many], quiet)
    others = sum(parameters.flat(update(0.5, i)) for i in range(1, 5))
    np.testing.assert_allclose(more[0] - alone[0], others, atol=1e-5)


def test_a_client_shortens_its_whole_update() -> None:
    assert parameters.norm(shortened(update(9.0), CLIP)) == pytest.approx(CLIP)
    assert parameters.digest(shortened(update(0.1), CLIP)) == parameters.digest(update(0.1))


# ---- sampling ---------------------------------------------------------------------------------------------------

CROWD, RATE = 60, 0.3
TINY: Params = {"w": np.zeros(1)}


def counts(rounds: int = 600) -> NDArray[np.float64]:
    """Return how many of CROWD answers were in the sum, round by round: all are the same, and of length 1."""
    everybody = {f"c{i:02d}": {"w": np.full(1, 0.5)} for i in range(CROWD)}
    level = ClientLevel(1.0, 1.0, RATE)
    return released(level, [everybody] * rounds, quiet, TINY)[:, 0] / 0.5


def test_answers_are_sampled_one_by_one() -> None:
    found = counts()
    assert np.mean(found) == pytest.approx(CROWD * RATE, rel=0.05)
    assert np.var(found) == pytest.approx(CROWD * RATE * (1 - RATE), rel=0.25)
    assert found.min() < found.max()


def _fixed_size(_self: Dice, count: int, probability: float) -> NDArray[np.bool_]:
    return np.arange(count) < count * probability


def test_a_cohort_of_fixed_size_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dice, "bernoulli", _fixed_size)
    assert np.var(counts(50)) == pytest.approx(0.0)


def test_nobody_is_a_sum_like_any_other() -> None:
    assert np.std(released(PLAIN, [{}], fresh)) > 0
    assert not released(PLAIN, [{}], quiet).any()


# ---- a clip norm that follows -----------------------------------------------------------------------------------


def followed(lengths: float, rounds: int = 60) -> float:
    level = replace(PLAIN, adaptive=Adaptive(0.5, 0.5, 4.0, 5.0))
    crowd = {f"c{i:03d}": update(lengths, i, {"w": np.zeros(20)}) for i in range(200)}
    running, memory = Central(level, 200.0, fresh), {}
    for round_ in range(1, rounds + 1):
        memory = dict(running.release(crowd, memory, {"w": np.zeros(20)}, round_).memory)
    return float(memory[SLOT]["clip_norm"][0])


@pytest.mark.parametrize("length", [0.05, 2.0])
def test_the_clip_norm_finds_the_length_of_updates(length: float) -> None:
    assert followed(length) == pytest.approx(length, rel=0.3)


def test_the_clip_norm_stays_within_what_owners_were_told() -> None:
    assert followed(1e6) == pytest.approx(5.0)


def test_sum_and_count_together_cost_what_the_recipe_says() -> None:
    level = replace(PLAIN, adaptive=Adaptive(0.5, 0.5, 4.0, 5.0))
    rows = released(level, [{}], fresh)
    z_sum = np.std(rows[0]) / CLIP
    assert (z_sum**-2 + (2 * 4.0) ** -2) ** -0.5 == pytest.approx(level.noise_multiplier, rel=0.05)
    assert Central(level, 1.0, fresh)._multiplier > level.noise_multiplier


# ---- going on ---------------------------------------------------------------------------------------------------


@LEVELS
def test_a_resumed_run_goes_on_bit_for_bit(level: ClientLevel) -> None:
    rounds = [{f"c{i}": update(0.5, i + 10 * t) for i in range(3)} for t in range(9)]
    running, memory, means = Central(level, EXPECTED, fresh), {}, []
    for round_, updates in enumerate(rounds, start=1):
        again = {SLOT: parameters.from_bytes(parameters.to_bytes(memory[SLOT]))} if memory else {}
        said = Central(level, EXPECTED, fresh).release(updates, again, LIKE, round_)
        assert parameters.digest(said.mean) == parameters.digest(running.release(updates, memory, LIKE, round_).mean)
        memory = dict(said.memory)
        means.append(said.mean)


def test_the_order_of_answers_does_not_matter() -> None:
    updates = {f"c{i}": update(0.5, i) for i in range(9)}
    backwards = dict(reversed(updates.items()))
    assert (released(PLAIN, [updates], fresh) == released(PLAIN, [backwards], fresh)).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_nothing(odd: float) -> None:
    """To say that it broke would be an answer about the client's records that no noise hides."""
    broken = {name: value + np.float32(odd) for name, value in update(1.0).items()}
    assert not any(value.any() for value in shortened(broken, CLIP).values())
