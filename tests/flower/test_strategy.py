"""Flower's strategies behind our adapter, against their papers written out plainly in numpy; memory that resumes."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedge import compose, soundness
from fedge import params as parameters
from fedge.errors import ConfigError, RoundError, UnsoundError
from fedge.flower.strategy import MAKERS, aggregation
from fedge.ids import ClientId
from fedge.learning.aggregation import ROBUST, Combined, Contribution, Memory, Name, Strategy, mean
from fedge.learning.tasks import builtin
from fedge.params import Params

Vectors = NDArray[np.float64]
START: Params = {"w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "b": np.asarray([0.5], np.float32)}
SIZE = 7


@pytest.fixture(autouse=True)
def _no_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's Bulyan collects garbage once per update, a third of a second each beside torch."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def contributions(count: int, seed: int, weights: Sequence[float] | None = None) -> list[Contribution]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        delta = {n: rng.normal(size=a.shape).astype(np.float32) for n, a in START.items()}
        made.append(Contribution(ClientId(f"c{i}"), delta, weights[i] if weights else 1.0))
    return made


def vector(params: Params) -> Vectors:
    return np.concatenate([params[n].astype(np.float64).ravel() for n in sorted(params)])


def stacked(given: Sequence[Contribution]) -> Vectors:
    return np.stack([vector(c.delta) for c in given])


# ---- the papers, plainly: (start, deltas of each round) -> model after the last -----------------------------------


def fedavg(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
    del s
    return start + sum(np.mean(deltas, axis=0) for deltas in rounds)


def fedavgm(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
    """Hsu et al. 2019, https://arxiv.org/abs/1909.06335: v <- beta v + Delta, w <- w - lr v."""
    velocity = np.zeros_like(start)
    for deltas in rounds:
        velocity = s.server_momentum * velocity - np.mean(deltas, axis=0)
        start = start - s.server_learning_rate * velocity
    return start


def adaptive(second: Callable[[Strategy, Vectors, Vectors], Vectors], *, corrected: bool) -> Callable[..., Vectors]:
    """Reddi et al. 2021, https://arxiv.org/abs/2003.00295, Algorithm 2; Flower's Adam corrects the bias."""

    def combine(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
        m, v = np.zeros_like(start), np.zeros_like(start)
        beta = 0.0 if second is adagrad_moment else s.beta_1
        for round_, deltas in enumerate(rounds, start=1):
            delta = np.mean(deltas, axis=0)
            m = beta * m + (1 - beta) * delta
            v = second(s, v, delta)
            rate = s.server_learning_rate
            if corrected:
                rate *= np.sqrt(1 - s.beta_2 ** (round_ + 1)) / (1 - s.beta_1 ** (round_ + 1))
            start = start + rate * m / (np.sqrt(v) + s.tau)
        return start

    return combine


def adam_moment(s: Strategy, v: Vectors, d: Vectors) -> Vectors:
    return s.beta_2 * v + (1 - s.beta_2) * d**2


def yogi_moment(s: Strategy, v: Vectors, d: Vectors) -> Vectors:
    return v - (1 - s.beta_2) * d**2 * np.sign(v - d**2)


def adagrad_moment(s: Strategy, v: Vectors, d: Vectors) -> Vectors:
    del s
    return v + d**2


def median(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
    """Yin et al. 2018, https://arxiv.org/abs/1803.01498."""
    del s
    return start + sum(np.median(deltas, axis=0) for deltas in rounds)


def trimmed_mean(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
    for deltas in rounds:
        cut = int(s.trim * len(deltas))
        start = start + np.sort(deltas, axis=0)[cut : len(deltas) - cut].mean(axis=0)
    return start


def krum_scores(deltas: Vectors, malicious: int) -> Vectors:
    """Blanchard et al. 2017: the sum of the distances to the n - f - 2 nearest others."""
    distances = np.square(deltas[:, None] - deltas[None]).sum(axis=2)
    near = max(1, len(deltas) - malicious - 2)
    return np.asarray([np.sort(np.delete(row, i))[:near].sum() for i, row in enumerate(distances)])


def krum(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
    for deltas in rounds:
        start = start + deltas[np.argmin(krum_scores(deltas, s.malicious))]
    return start


def multi_krum(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
    for deltas in rounds:
        kept = np.argsort(krum_scores(deltas, s.malicious))[: s.select]
        start = start + deltas[kept].mean(axis=0)
    return start


def bulyan(s: Strategy, start: Vectors, rounds: Sequence[Vectors]) -> Vectors:
    """El Mhamdi et al. 2018, https://arxiv.org/abs/1802.07927: those that Krum likes best, then those near the median.

    The paper removes the best and asks Krum again; Flower takes the n - 2f best at once, and so do we.
    """
    for deltas in rounds:
        theta = len(deltas) - 2 * s.malicious
        picked = deltas[np.argsort(krum_scores(deltas, s.malicious))[:theta]]
        keep = len(picked) - 2 * s.malicious
        near = np.argsort(np.abs(picked - np.median(picked, axis=0)), axis=0)[:keep]
        start = start + np.take_along_axis(picked, near, axis=0).mean(axis=0)
    return start


ORACLES: dict[Name, tuple[Strategy, Callable[..., Vectors]]] = {
    "fedavg": (Strategy("fedavg"), fedavg),
    "fedprox": (Strategy("fedprox", proximal_mu=0.1), fedavg),
    "fedavgm": (Strategy("fedavgm", server_momentum=0.9, server_learning_rate=0.5), fedavgm),
    "fedadam": (Strategy("fedadam", server_learning_rate=0.03), adaptive(adam_moment, corrected=True)),
    "fedyogi": (Strategy("fedyogi", server_learning_rate=0.03), adaptive(yogi_moment, corrected=False)),
    "fedadagrad": (Strategy("fedadagrad", server_learning_rate=0.03), adaptive(adagrad_moment, corrected=False)),
    "median": (Strategy("median"), median),
    "trimmed_mean": (Strategy("trimmed_mean", trim=0.2), trimmed_mean),
    "krum": (Strategy("krum", malicious=1), krum),
    "multi_krum": (Strategy("multi_krum", malicious=1, select=3), multi_krum),
    "bulyan": (Strategy("bulyan", malicious=1), bulyan),
}
ROUNDS = [contributions(SIZE, seed) for seed in range(3)]


def combined(settings: Strategy, rounds: Sequence[Sequence[Contribution]]) -> Combined:
    combine, state = aggregation(settings).combine, Combined(START, {})
    for round_, given in enumerate(rounds, start=1):
        state = combine(state.params, state.memory, given, round_)
    return state


def test_every_strategy_has_an_oracle() -> None:
    assert ORACLES.keys() == MAKERS.keys()
    assert len(ORACLES) == 11


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("count", [1, 3])
def test_it_is_what_its_paper_says(name: Name, count: int) -> None:
    settings, oracle = ORACLES[name]
    expected = oracle(settings, vector(START), [stacked(r) for r in ROUNDS[:count]])
    np.testing.assert_allclose(vector(combined(settings, ROUNDS[:count]).params), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_the_order_of_answers_does_not_matter(name: Name) -> None:
    settings, _ = ORACLES[name]
    turned = [list(reversed(r)) for r in ROUNDS]
    assert parameters.digest(combined(settings, turned).params) == parameters.digest(combined(settings, ROUNDS).params)


@pytest.mark.parametrize("name", ORACLES)
def test_memory_in_float_is_all_that_a_resumed_run_needs(name: Name) -> None:
    """Two rounds, written to bytes and read back as a restart does, then the third: the same model, byte for byte."""
    settings, _ = ORACLES[name]
    whole = combined(settings, ROUNDS)
    half = combined(settings, ROUNDS[:2])
    memory: Memory = {slot: parameters.from_bytes(parameters.to_bytes(a)) for slot, a in half.memory.items()}
    params = parameters.from_bytes(parameters.to_bytes(half.params))
    rest = aggregation(settings).combine(params, memory, ROUNDS[2], 3)
    assert parameters.digest(rest.params) == parameters.digest(whole.params)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_forgetting_would_be_seen(name: Name) -> None:
    settings, _ = ORACLES[name]
    half = combined(settings, ROUNDS[:2])
    assert half.memory
    forgot = aggregation(settings).combine(half.params, {}, ROUNDS[2], 3)
    assert parameters.digest(forgot.params) != parameters.digest(combined(settings, ROUNDS).params)


def test_weights_are_used_as_given() -> None:
    given = contributions(3, 1, weights=[1.0, 2.0, 5.0])
    expected = vector(START) + np.average(stacked(given), axis=0, weights=[1, 2, 5])
    for combine in (aggregation(Strategy("fedavg")).combine, mean):
        np.testing.assert_allclose(vector(combine(START, {}, given, 1).params), expected, rtol=1e-5, atol=1e-6)


def test_the_plain_mean_needs_an_update() -> None:
    with pytest.raises(RoundError, match="no update"):
        mean(START, {}, [], 1)


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum", "multi_krum", "bulyan"])
def test_robust_ones_withstand_one_liar(name: Name) -> None:
    settings, _ = ORACLES[name]
    honest = contributions(SIZE, 5)
    huge = {n: np.full(a.shape, 1e6, np.float32) for n, a in START.items()}
    lied = [replace(honest[0], delta=huge), *honest[1:]]
    moved = np.linalg.norm(vector(combined(settings, [lied]).params) - vector(START))
    assert moved < 10
    assert np.linalg.norm(vector(combined(Strategy("fedavg"), [lied]).params)) > 1e5


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        (Strategy("fedavg"), 1),
        (Strategy("median"), 3),
        (Strategy("trimmed_mean"), 3),
        (Strategy("krum", malicious=2), 7),
        (Strategy("multi_krum", malicious=1, select=9), 9),
        (Strategy("bulyan", malicious=1), 7),
    ],
)
def test_how_many_updates_it_is_defined_for(settings: Strategy, needs: int) -> None:
    made = aggregation(settings)
    assert made.needs == needs
    assert made.sees_single_updates == (settings.name in ROBUST)
    made.combine(START, {}, contributions(needs, 0), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trim": 0.5}, "trim"),
        ({"trim": -0.1}, "trim"),
        ({"malicious": -1}, "malicious"),
        ({"select": 0}, "select"),
        ({"server_learning_rate": 0.0}, "server_learning_rate"),
        ({"tau": 0.0}, "tau"),
        ({"proximal_mu": -1.0}, "proximal_mu"),
        ({"beta_1": 1.0}, "beta_1"),
        ({"beta_2": -0.1}, "beta_2"),
        ({"server_momentum": 1.0}, "server_momentum"),
    ],
)
def test_settings_that_mean_nothing(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Strategy(**change)  # type: ignore[arg-type]


# ---- combinations whose statement would be false ----------------------------------------------------------------

UNSOUND = {
    "weights under record-level privacy": ("strategy.weighting=examples", "discloses how many records"),
    "robust under secure aggregation": ("strategy=median,privacy.secure_aggregation=true", "only their sum"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_would_be_dishonest_is_refused_with_the_reason(name: str) -> None:
    overrides, words = UNSOUND[name]
    with pytest.raises(UnsoundError, match=words):
        soundness.check(compose.compose(overrides.split(",")), builtin("cancer"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["privacy=none", "strategy.weighting=examples"], "public_size"),
        (["privacy.unit=client", "strategy.weighting=examples"], "one client's weight"),
    ],
)
def test_weights_need_sizes_that_are_public(overrides: list[str], words: str) -> None:
    with pytest.raises(UnsoundError, match=words):
        soundness.check(compose.compose(overrides), builtin("cancer"))


def test_a_strategy_for_more_clients_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"at least 7 updates, and there are 5"):
        soundness.check_enough(compose.compose(["strategy=bulyan", "strategy.malicious=1"]), 5, 7)
