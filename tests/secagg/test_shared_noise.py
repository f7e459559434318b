"""The noise in a sum that clients add together is what the ledger counts, whoever of those who may be is missing."""

from pathlib import Path

import numpy as np
import pytest

from fedge import params as parameters
from fedge.audit.leaves import DataUse
from fedge.errors import UnsoundError
from fedge.ids import ClientId
from fedge.learning.recipe import from_record
from fedge.privacy import noise
from fedge.privacy.distributed import check_sum_is_gaussian, excess
from fedge.privacy.events import SampledGaussian
from fedge.rounds.secure.messages import StepRequest
from tests.secagg.sessions import FIVE, SHARED, secure, silent_from

LOUD = (*SHARED, "privacy.epsilon=0.05", "training.steps=1", "rounds=1", "training.sample_rate=0.05")
"""One step at a tiny epsilon: what moves the model is the noise."""


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_the_variance_is_that_of_the_shares_that_came(tmp_path: Path, missing: int) -> None:
    """Five clients, of which two may be missing and one may collude: each adds a half of the variance."""
    here = secure(tmp_path, *LOUD)
    here.wrapped |= {c: silent_from(StepRequest) for c in FIVE[:missing]}
    before = parameters.flat(here.model)
    (record,) = here.rounds(1)
    assert record.accepted == 5 - missing
    recipe = from_record(dict(here.assembled.plan.recipe))
    assert recipe.privacy is not None
    moved = (parameters.flat(parameters.load(tmp_path / "model.safetensors")) - before) / recipe.learning_rate
    summed = moved * recipe.batching.normaliser * (5 - missing)  # type: ignore[union-attr]
    claimed = recipe.privacy.noise_multiplier * recipe.privacy.clip_norm
    variance = float(np.mean(np.square(summed))) / claimed**2
    assert variance == pytest.approx((5 - missing) / 2, rel=0.25)
    assert variance - 0.5 > 0.75  # without the colluder's share there is still what the ledger counts


def test_the_ledger_counts_what_is_left_against_the_colluders(tmp_path: Path) -> None:
    here = secure(tmp_path, *LOUD)
    here.rounds(1)
    recipe = from_record(dict(here.assembled.plan.recipe))
    assert recipe.privacy is not None
    said = [leaf for leaf in here.leaves() if isinstance(leaf, DataUse)]
    for name in FIVE:
        site = here.site(ClientId(name))
        (event,) = site.ledger.spent(site.training.lineage)
        assert event == SampledGaussian(0.05, recipe.privacy.noise_multiplier, 1)
    assert {(u.privacy.noise_at, float(u.privacy.epsilon_round or 0) <= 0.0501) for u in said} == {
        ("distributed", True)
    }


def test_a_share_alone_is_less_than_the_whole(tmp_path: Path) -> None:
    here = secure(tmp_path, *LOUD)
    terms = here.assembled.plan.terms
    assert terms is not None
    assert terms.share(1.0, 5) == pytest.approx(np.sqrt(1 / 2))


# ---- sums of discrete Gaussians -----------------------------------------------------------------------------------


def test_excess_by_hand() -> None:
    """Two shares: 10 exp(-pi**2 std**2)."""
    assert excess(1.0, 2) == pytest.approx(10 * np.exp(-(np.pi**2)))
    assert excess(1.0, 1) == 0
    assert excess(2.0**22, 1000) == 0


@pytest.mark.parametrize(("std", "shares"), [(0.6, 2), (0.8, 3), (1.0, 4)])
def test_the_sum_of_discrete_gaussians_is_as_close_as_the_theorem_says(std: float, shares: int) -> None:
    """By exact convolution of the distributions."""
    support = np.arange(-60, 61)

    def discrete(variance: float) -> np.ndarray:
        mass = np.exp(-np.square(support) / (2 * variance))
        return mass / mass.sum()

    summed = discrete(std**2)
    for _ in range(shares - 1):
        summed = np.convolve(summed, discrete(std**2), mode="same")
    whole = discrete(shares * std**2)
    middle = np.abs(support) <= 8
    assert np.abs(np.log(summed[middle] / whole[middle])).max() <= excess(std, shares) + 1e-9


def test_a_coarse_grid_is_refused() -> None:
    with pytest.raises(UnsoundError, match="finer grid"):
        check_sum_is_gaussian(1.0, 1.0, 4, 1000)
    with pytest.raises(UnsoundError, match="half a step"):
        excess(0.4, 2)
    check_sum_is_gaussian(1.0, 2.0**-22, 1000, 10**9)


def test_drawn_shares_add_up() -> None:
    grid = noise.grid_for(1.0)
    shares = [noise.seeded(7, "share", n).discrete_gaussian((20_000,), 3 / np.sqrt(9), grid) for n in range(9)]
    assert np.std(sum(shares)) == pytest.approx(3.0, rel=0.03)
    assert abs(np.corrcoef(shares[0], shares[1])[0, 1]) < 0.04
