"""A whole client hidden in a secure sum: each shortens its update and adds its share; nobody sees one by itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedge
from fedge import params as parameters
from fedge import soundness
from fedge.audit.leaves import DataUse
from fedge.compose import compose
from fedge.config import RunConfig
from fedge.errors import UnsoundError
from fedge.learning.mechanism import clipped_to
from fedge.learning.recipe import ClientLevel, Recipe, Shuffled, from_record
from fedge.learning.tasks import builtin
from fedge.learning.training import Learned
from fedge.privacy.accountant import epsilon
from fedge.privacy.events import SampledGaussian
from fedge.rounds.admission import Refused
from fedge.rounds.job import Job
from fedge.rounds.secure import vector
from fedge.rounds.secure.messages import MaskRequest
from fedge.rounds.secure.party import check_terms
from fedge.secagg.terms import Terms, noisy_terms, update_terms
from tests.secagg.sessions import FIVE, ONE, Stage, secure, silent_from

WHOLE = ("privacy=client", "privacy.noise_at=distributed", "privacy.secure_aggregation=true", "privacy.dropouts=2")
LOUD = (*WHOLE, "privacy.epsilon=0.05", "training.steps=1", "training.learning_rate=0.000001", "rounds=1")
"""Updates of nearly nothing: what moves the model is the noise."""


def level_of(recipe: Recipe) -> ClientLevel:
    assert recipe.client is not None
    return recipe.client


@pytest.mark.parametrize("missing", [0, 1])
def test_the_variance_is_that_of_the_shares_that_came(tmp_path: Path, missing: int) -> None:
    """The noise is made for two missing and one who colludes: each of five clients adds a half of the variance."""
    here = secure(tmp_path, *LOUD)
    here.wrapped |= {c: silent_from(MaskRequest) for c in FIVE[:missing]}
    before = parameters.flat(here.model)
    (record,) = here.rounds(1)
    assert record.accepted == 5 - missing
    summed = (parameters.flat(parameters.load(tmp_path / "model.safetensors")) - before) * (5 - missing)
    level = level_of(from_record(dict(here.assembled.plan.recipe)))
    variance = float(np.mean(np.square(summed))) / (level.noise_multiplier * level.clip_norm) ** 2
    assert variance == pytest.approx((5 - missing) / 2, rel=0.25)
    assert variance - 0.5 > 0.75  # without the colluder's share there is still what the ledger counts


def test_a_sum_without_shares_is_told_by_its_variance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: what the test above measures would be seen."""
    monkeypatch.setattr(
        vector, "_with_share", lambda _seat, level, delta, _dice: vector._shortened(delta, level.clip_norm)
    )
    here = secure(tmp_path, *LOUD)
    before = parameters.flat(here.model)
    here.rounds(1)
    moved = parameters.flat(parameters.load(tmp_path / "model.safetensors")) - before
    assert float(np.abs(moved).max()) < 1e-3


def test_too_many_missing_and_the_round_is_void(tmp_path: Path) -> None:
    """Four of five have to agree on a sum if one may collude."""
    here = secure(tmp_path, *LOUD)
    here.wrapped |= {c: silent_from(MaskRequest) for c in FIVE[:2]}
    (record,) = here.rounds(1)
    assert record.void


def test_what_is_spent_and_stated_is_a_whole_client(tmp_path: Path) -> None:
    """Against the server too: no sampling amplifies, since the server knows who is in the sum."""
    here = secure(tmp_path, *WHOLE, "privacy.epsilon=8")
    here.rounds(2)
    level = level_of(from_record(dict(here.assembled.plan.recipe)))
    event = SampledGaussian(1.0, level.noise_multiplier, 1, "client")
    assert 7.9 < epsilon([event] * 2, 1e-5, unit="client") <= 8
    for name in FIVE:
        site = here.site(name)
        assert site.ledger.spent(site.training.lineage) == (event,) * 2
    said = {
        (u.privacy.unit, u.privacy.noise_at, u.privacy.secure_noise) for u in here.leaves() if isinstance(u, DataUse)
    }
    assert said == {("client", "distributed", False)}


def test_no_update_is_longer_than_the_clip_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sensitivity that the ledgers count, on the very vectors that go under the masks."""
    seen: list[float] = []
    inner = vector._shortened

    def watched(delta: vector.Vector, norm: float) -> vector.Vector:
        found = inner(delta * 1000, norm)
        seen.append(float(np.linalg.norm(found)))
        return found

    monkeypatch.setattr(vector, "_shortened", watched)
    secure(tmp_path, *WHOLE, "rounds=1").rounds(1)
    assert len(seen) == 5
    assert 0.99 < max(seen) < 1.0


LEVEL = ClientLevel(2.0, 1.0)
TERMS = noisy_terms(5, 2.0, 1.0, 1, 2, 0)


@pytest.mark.parametrize(
    ("level", "terms"),
    [
        (LEVEL, update_terms(5, 1.0, 1)),  # no shares
        (LEVEL, replace(TERMS, norm="2.0")),  # longer updates than the noise is made for
        (LEVEL, noisy_terms(5, 2.0, 1.0, 1, 2, 3)),  # sums of records
        (replace(LEVEL, sample_rate=0.5), TERMS),  # a sample that the server knows
        (replace(LEVEL, bands=(1.0, 0.5)), TERMS),  # noise that one party would have to take back
    ],
)
def test_terms_that_would_make_the_promise_false_are_refused(tmp_path: Path, level: ClientLevel, terms: Terms) -> None:
    stage = Stage(tmp_path, *WHOLE)
    site, order = stage.here.site(ONE), stage.orders[ONE]
    event = SampledGaussian(1.0, 2.0, 1, "client")
    good = Job(Recipe(3, 0.1, Shuffled(8), client=LEVEL), event, 2.0, 1.0)
    check_terms(site, order, TERMS, good)
    with pytest.raises(Refused, match="unsound_terms"):
        check_terms(site, order, terms, replace(good, recipe=Recipe(3, 0.1, Shuffled(8), client=level)))


def test_a_grid_that_would_turn_clipping_inside_out_is_refused() -> None:
    """A lying server could name so coarse a grid that nothing is left of the clip norm, or less."""
    assert 0 < clipped_to(1.0, 2.0**-22, 100_000) < 1
    for size in (300, 100_000):
        with pytest.raises(UnsoundError, match="finer grid"):
            clipped_to(1.0, 2.0**-4, size)


def test_an_update_that_is_not_finite_is_answered_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that chooses a model on which only some records overflow must learn nothing from who fails."""
    inner = vector.train

    def broken(*words: Any) -> Learned:
        learned = inner(*words)
        return replace(learned, delta={name: value * np.nan for name, value in learned.delta.items()})

    monkeypatch.setattr(vector, "train", broken)
    (record,) = secure(tmp_path, *LOUD).rounds(1)
    assert record.accepted == 5


def config(*overrides: str) -> RunConfig:
    return compose([*WHOLE, *overrides])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["privacy.secure_aggregation=false"], "seen by itself"),
        (["privacy.noise_at=server"], "clients clip and share the noise"),
        (["privacy.mechanism=banded"], "one party has to know"),
        (["privacy.adaptive_clipping=true"], "one clip norm that all know beforehand"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: list[str], words: str) -> None:
    soundness.check(config(), builtin("cancer"))
    with pytest.raises(UnsoundError, match=words):
        soundness.check(config(*overrides), builtin("cancer"))


def test_a_run_of_twenty_clients_learns_and_its_log_holds(tmp_path: Path) -> None:
    many = ("task=cancer", "population=iid", "population.clients=20", "consent=all", "rounds=2", "training.steps=20")
    done = fedge.run(*many, *WHOLE, "privacy.epsilon=8", "privacy.clip_norm=2", f"out={tmp_path}")
    assert done.verification.holds
    assert done.scores["accuracy"] > 0.8
