"""Client-level privacy from the order to the log: who is asked, what each ledger is charged, and what is refused."""

import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant

from fedge import soundness, unlearning
from fedge.audit.leaves import RoundClose
from fedge.calibration import recipe_of
from fedge.check import check_house
from fedge.compose import compose
from fedge.errors import ConfigError, ParseError, UnsoundError
from fedge.learning.recipe import Adaptive, ClientLevel, Poisson, Recipe, Shuffled, event, from_record, to_record
from fedge.learning.tasks import builtin
from fedge.params import flat, load, norm
from fedge.privacy.events import Gaussian, SampledGaussian
from fedge.rounds import client as work
from fedge.rounds import erasure
from fedge.rounds.folder import ClientFolder
from fedge.rounds.messages import Kind, Parcel
from fedge.running import resume, run
from fedge.signing import parse_envelope
from tests.rounds.house import FEW, ONE, THREE, TWO, Answer, House, SilentError, house, last, uses

CLIENTS = (
    "privacy=client",
    "population=iid",
    "population.clients=6",
    "population.shares=[]",
    "population.prefix=hospital",
    "policy.minimum_records=1",
    "sampling.fraction=0.5",
)
BANDED = ("privacy.mechanism=banded", "rounds=6")


def few(root: Path, *overrides: str) -> House:
    return house(root, *CLIENTS, *overrides)


# ---- accounting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_the_noise_of_a_secret_sample_is_what_dp_accounting_asks_for(fraction: float) -> None:
    config = compose([*CLIENTS, "rounds=40", "privacy.epsilon=3", f"sampling.fraction={fraction}"])
    level = recipe_of(config).client
    assert level is not None
    direct = PLDAccountant(value_discretization_interval=1e-3)
    direct.compose(PoissonSampledDpEvent(fraction, GaussianDpEvent(level.noise_multiplier)), 40)
    assert 2.95 < direct.get_epsilon(1e-5) <= 3.0


def test_correlated_noise_is_for_as_many_rounds_as_a_client_can_be_in() -> None:
    config = compose([*CLIENTS, "rounds=40", "privacy.epsilon=3", "sampling.fraction=0.1", BANDED[0]])
    level = recipe_of(config).client
    assert level is not None
    assert level.separation == 10
    direct = PLDAccountant(value_discretization_interval=1e-3)
    direct.compose(GaussianDpEvent(level.noise_multiplier), 4)
    assert 2.95 < direct.get_epsilon(1e-5) <= 3.0


def test_an_event_is_one_round_of_one_client() -> None:
    assert event(recipe_of(compose(CLIENTS))) == SampledGaussian(0.5, _noise(CLIENTS), 1, "client")
    assert event(recipe_of(compose([*CLIENTS, *BANDED]))) == Gaussian(_noise([*CLIENTS, *BANDED]), 1, "client")


def _noise(overrides: tuple[str, ...] | list[str]) -> float:
    level = recipe_of(compose(overrides)).client
    assert level is not None
    return level.noise_multiplier


def test_the_product_of_two_rates_is_refused() -> None:
    with pytest.raises(ValueError, match="the product of two rates is the rate of nothing"):
        Recipe(1, 0.1, Poisson(0.1, 10.0), client=ClientLevel(1.0, 1.0, 0.1))


LEVELS = [
    ClientLevel(1.25, 0.5, 0.1, secure=True),
    ClientLevel(1.25, 0.5, bands=(1.0, 0.5, 0.375)),
    ClientLevel(1.25, 0.5, 0.1, adaptive=Adaptive(0.5, 0.2, 3.0, 5.0)),
]


@pytest.mark.parametrize("level", LEVELS)
def test_a_recipe_is_written_and_read_back(level: ClientLevel) -> None:
    recipe = Recipe(3, 0.1, Shuffled(8), client=level)
    assert from_record(to_record(recipe)) == recipe


@pytest.mark.parametrize(
    "odd",
    [
        {"sample_rate": "0"},
        {"noise_multiplier": "inf"},
        {"clip_norm": "0"},
        {"bands": []},
        {"bands": ["0.5"]},
        {"bands": ["1", "-0.5"]},
        {"bands": ["1", "0.5"], "sample_rate": "0.1"},
        {"secure": "true"},
        {"secure": 1},
    ],
)
def test_what_is_no_client_level_recipe_is_refused(odd: dict[str, object]) -> None:
    record = to_record(Recipe(3, 0.1, Shuffled(8), client=LEVELS[0]))
    with pytest.raises(ParseError):
        from_record(record | {"client": record["client"] | odd})


# ---- what is refused --------------------------------------------------------------------------------------------

UNSOUND = {
    "sizes": (["strategy.weighting=examples", "policy.public_size=true"], "one client's weight"),
    "robust": (["strategy=median"], "compares single updates"),
    "secure sums": (["privacy.secure_aggregation=true"], "cannot clip single updates that it does not see"),
    "noise elsewhere": (["privacy.noise_at=client"], "added to the sum of a round, by the server"),
    "single counts": (["evaluation.federated=noised"], "need noise for all its records"),
    "compressed": (["compression=int8"], "comes before the noise there"),
    "banded, following": ([*BANDED, "privacy.adaptive_clipping=true"], "made for the same clip norm"),
    "banded records": (["privacy=record", BANDED[0]], "noise that the server adds"),
    "server noise for records": (["privacy=record", "privacy.noise_at=server"], "which protects clients"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_would_be_dishonest_is_refused(name: str) -> None:
    overrides, words = UNSOUND[name]
    with pytest.raises(UnsoundError, match=words):
        soundness.check(compose([*CLIENTS, *overrides]), builtin("cancer"))


def test_clients_that_cannot_rest_are_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match="cannot each rest for 4 rounds"):
        soundness.check_enough(compose([*CLIENTS, *BANDED, "privacy.bands=4"]), 6, 1)
    with pytest.raises(ConfigError, match="in every round"):
        soundness.check(compose([*CLIENTS, *BANDED, "sampling.fraction=0.9"]), builtin("cancer"))


REFUSALS = {
    "server_noise_not_trusted": ["policy.trust_server_noise=false"],
    "insecure_noise": ["policy.require_secure_noise=true"],
    "clip_norm_too_large": ["policy.maximum_clip_norm=0.5"],
    "noise_too_small": ["policy.minimum_noise_multiplier=100"],
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_the_owner_decides(tmp_path: Path, reason: str) -> None:
    here = few(tmp_path, *REFUSALS[reason])
    assert here.said(here.order()).reason == reason
    assert here.read == {}


# ---- what a client sends, and what it costs it ------------------------------------------------------------------


def test_an_update_is_as_long_as_the_clip_norm_and_says_who_adds_the_noise(tmp_path: Path) -> None:
    here = few(tmp_path, "privacy.clip_norm=0.05")
    parcel = here.ask(here.order())
    said = last(parcel).privacy
    assert norm(parcel.tensors) == pytest.approx(0.05, rel=1e-4)
    assert (said.unit, said.noise_at, said.mechanism) == ("client", "server", "discrete-gaussian-sampled")
    assert (said.sampling, said.sample_rate, said.steps, said.secure_noise) == ("poisson", "0.5", 1, False)
    (spent,) = here.site(ONE).ledger.spent(here.site(ONE).training.lineage)
    assert spent == SampledGaussian(0.5, _noise([*FEW, *CLIENTS]), 1, "client")


def test_a_client_refuses_to_take_part_again_too_soon(tmp_path: Path) -> None:
    here = few(tmp_path, *BANDED, "privacy.bands=3", "sampling.fraction=0.3")
    for name, round_, reason in ((ONE, 2, "asked_too_soon"), (TWO, 3, "asked_too_soon"), (THREE, 4, None)):
        first = here.said(here.order(name))
        assert (first.privacy.mechanism, first.privacy.sampling) == ("discrete-gaussian-banded", "none")
        assert here.said(here.order(name, round=round_)).reason == reason
        site = here.site(name)
        assert len(site.ledger.spent(site.training.lineage)) == (1 if reason else 2)


def test_a_refused_order_is_no_participation(tmp_path: Path) -> None:
    here = few(tmp_path, *BANDED)
    assert here.said(here.order(purpose="advertising")).outcome == "refused"
    assert here.said(here.order(round=2)).outcome == "submitted"


# ---- whole runs -------------------------------------------------------------------------------------------------


def test_everybody_answers_and_the_log_does_not_tell_whose_answers_count(tmp_path: Path) -> None:
    """Amplification by a sample needs a secret sample, and the log is public."""
    here = few(tmp_path)
    records = here.rounds()
    assert [[p.outcome for p in r.participants] for r in records] == [["accepted"] * 6] * 3
    statements = list(uses(here.leaves()))
    assert {u.privacy.unit for u in statements} == {"client"}
    assert max(float(u.privacy.epsilon_total or "inf") for u in statements) <= 8.0
    promise = here.assembled.plan.opening.privacy_statement
    assert (promise.unit, promise.noise_at, promise.sampling) == ("client", "server", "poisson")


def asked(here: House) -> dict[str, list[int]]:
    rounds: dict[str, list[int]] = {}
    for leaf in here.leaves():
        if isinstance(leaf, RoundClose):
            for part in leaf.participants:
                rounds.setdefault(part.client, []).append(leaf.round)
    return rounds


@pytest.mark.parametrize("silent", [False, True])
def test_nobody_is_asked_again_before_it_has_rested(tmp_path: Path, silent: bool) -> None:
    here = few(tmp_path, *BANDED)
    if silent:
        here.wrapped = {ONE: _sometimes_silent}
    here.rounds(3)
    again = few(tmp_path, *BANDED)
    again.wrapped = here.wrapped
    again.rounds()
    found = asked(again)
    assert len(found) == 6
    assert all(b - a >= 2 for rounds in found.values() for a, b in pairwise(rounds))
    assert {u.reason for u in uses(again.leaves())} == {None}


def _sometimes_silent(honest: Answer) -> Answer:
    def answer(kind: Kind, parcel: Parcel) -> Parcel:
        if kind == "work":
            honest(kind, parcel)
            raise SilentError
        return honest(kind, parcel)

    return answer


@pytest.mark.parametrize("overrides", [(), BANDED, ("privacy.adaptive_clipping=true",)])
def test_a_run_that_stops_and_goes_on_ends_with_the_same_model(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    straight, stopped = few(tmp_path / "straight", *overrides), few(tmp_path / "stopped", *overrides)
    models = [r.model_out for r in straight.rounds()]
    halves = [r.model_out for r in stopped.rounds(2)]
    halves += [r.model_out for r in few(tmp_path / "stopped", *overrides).rounds()]
    assert models == halves


def test_a_void_round_moves_the_noise_on(tmp_path: Path) -> None:
    """Rounds are what separates participations, so a round without a model is a step of the mechanism all the same."""
    here = few(tmp_path, *BANDED)
    here.wrapped = {name: _silent_in(2) for name in here.assembled.sites}
    records = here.rounds()
    assert [r.void for r in records] == [False, True, False, False, False, False]
    plain = few(tmp_path / "plain", *BANDED)
    assert plain.rounds()[0].model_out == records[0].model_out == records[1].model_out
    assert all(b - a >= 2 for rounds in asked(here).values() for a, b in pairwise(rounds))


def _silent_in(round_: int) -> Callable[[Answer], Answer]:
    def wrap(honest: Answer) -> Answer:
        def answer(kind: Kind, parcel: Parcel) -> Parcel:
            if kind == "work" and f'"round":{round_},'.encode() in _payload(parcel):
                raise SilentError
            return honest(kind, parcel)

        return answer

    return wrap


def _payload(parcel: Parcel) -> bytes:
    return parse_envelope(parcel.statements[0]).payload


def test_huge_updates_of_hostile_clients_move_the_model_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server clips what comes, whatever the clients say they have done; the seeded noise is the same."""
    plain, hostile = (few(tmp_path / name, "sampling.fraction=1.0", "rounds=1") for name in ("plain", "hostile"))
    plain.rounds()
    monkeypatch.setattr(work, "shortened", lambda update, _norm: {n: v * 1e6 for n, v in update.items()})
    hostile.rounds()
    one, other = (flat(load(here.assembled.folder.model)) for here in (plain, hostile))
    assert 0 < np.linalg.norm(one - other) <= 2.0


def test_through_flower_the_model_is_the_same(tmp_path: Path) -> None:
    direct, flower = few(tmp_path / "d", "rounds=2"), few(tmp_path / "f", "rounds=2", "engine=flower")
    assert [r.model_out for r in direct.rounds()] == [r.model_out for r in flower.rounds()]


def test_the_machines_noise_never_repeats(tmp_path: Path) -> None:
    secure = ("privacy.noise=secure", "rounds=1")
    first, second = few(tmp_path / "a", *secure), few(tmp_path / "b", *secure)
    assert [r.model_out for r in first.rounds()] != [r.model_out for r in second.rounds()]
    assert all(u.privacy.secure_noise for u in uses(first.leaves()))


def test_rounds_with_correlated_noise_are_not_redone(tmp_path: Path) -> None:
    """Redoing would put the updates of the rounds before under other noise: they would be shown a second time."""
    done = run(*RUN, *BANDED, "rounds=2", f"out={tmp_path}")
    stores = erasure.open_stores(ClientFolder(done.folder / "clients" / ONE), bytes(32), bytes)
    with pytest.raises(ConfigError, match="noise is correlated over rounds"):
        unlearning.plan(done.folder, stores, subject="somebody")


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [("sampling.fraction=0.3",), ("sampling.fraction=0.1", BANDED[0])])
def test_a_hundred_clients_learn_in_every_engine(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    many = ("task=digits", "privacy=client", "population=iid", "population.clients=100", "consent=all", "rounds=2")
    results = [
        run(*many, *overrides, f"engine={engine}", f"out={tmp_path / engine}")
        for engine in ("flower", "direct", "vectorised")
    ]
    assert all(r.verification.holds and r.epsilon is not None and r.epsilon <= 8.0 for r in results)
    assert results[0].model.read_bytes() == results[1].model.read_bytes()
    assert all(0.15 < r.scores["accuracy"] == pytest.approx(results[0].scores["accuracy"], abs=0.02) for r in results)


RUN = (*CLIENTS, "rounds=2", "training.steps=2", "engine=direct", "consent=all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("party", "step", "nth"), [("client", "reserved", 8), ("client", "kept", 8), ("server", "prepared", 2)]
)
def test_killed_between_spend_and_send_nothing_is_refunded(tmp_path: Path, party: str, step: str, nth: int) -> None:
    whole = run(*RUN, f"out={tmp_path / 'whole'}")
    command = [sys.executable, "-m", "tests.rounds.dying", str(tmp_path / "cut"), party, step, str(nth), *RUN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (cut,) = (tmp_path / "cut").iterdir()
    assert [p.text for p in check_house(cut) if not p.kept] == []
    ended = resume(cut)
    assert [p.text for p in check_house(cut) if not p.kept] == []
    assert ended.verification.holds
    assert ended.model.read_bytes() == whole.model.read_bytes()
