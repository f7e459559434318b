"""What of secure aggregation is refused before anything runs, with the reason."""

import pytest

from fedge import soundness
from fedge.compose import compose
from fedge.errors import FedgeError, UnsoundError
from fedge.learning.tasks import builtin

SECURE = "privacy.secure_aggregation=true"
UNSOUND = {
    "robust": (["strategy=krum", SECURE], "only their sum"),
    "sizes": (["strategy.weighting=examples", "policy.public_size=true", SECURE], "sizes would travel in clear"),
    "shares without a sum": (["privacy.noise_at=distributed"], "too little for an update that is seen by itself"),
    "shares of no noise": (["privacy=none", "privacy.noise_at=distributed", SECURE], "no noise to share"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_would_be_dishonest_is_refused(name: str) -> None:
    overrides, words = UNSOUND[name]
    with pytest.raises(UnsoundError, match=words):
        soundness.check(compose(overrides), builtin("cancer"))


@pytest.mark.parametrize(
    ("overrides", "clients", "least"),
    [
        ([SECURE], 2, 3),
        ([SECURE, "privacy.colluding=3"], 4, 5),
        ([SECURE, "privacy.noise_at=distributed", "privacy.dropouts=2"], 3, 4),
        ([SECURE, "sampling.fraction=0.2"], 10, 3),
    ],
)
def test_a_sum_of_too_few_hides_nobody(overrides: list[str], clients: int, least: int) -> None:
    with pytest.raises(UnsoundError, match=f"at least {least} to hide one"):
        soundness.check_enough(compose(overrides), clients, 1)
    soundness.check_enough(compose([*overrides, "sampling.fraction=1.0"]), max(clients, least), 1)


@pytest.mark.parametrize("override", ["privacy.colluding=-1", "privacy.dropouts=-1", "privacy.update_norm=0"])
def test_settings_that_mean_nothing(override: str) -> None:
    with pytest.raises(FedgeError, match="expected a value in"):
        compose([override])
