"""The one vector of a client in a session of one sum: its update, shortened; or also with its share of the noise.

With noise, the unit is the whole client: each shortens its update to the clip norm, rounds it to the session's grid and
adds a discrete Gaussian of its share of the variance, so that the sum has what the ledgers count, whoever of those that
may be is missing or colludes (Kairouz, Liu, Steinke 2021, https://arxiv.org/abs/2102.06387). Alone it has too little
noise to be seen; it leaves under masks only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedge import params as parameters
from fedge.errors import RoundError
from fedge.learning.loader import Loader
from fedge.learning.mechanism import clipped_to
from fedge.learning.recipe import ClientLevel
from fedge.learning.training import train
from fedge.params import Params
from fedge.privacy.distributed import check_sum_is_gaussian
from fedge.privacy.noise import Dice
from fedge.rounds.job import Job
from fedge.rounds.secure.seat import Seat

Vector = NDArray[np.float64]


def update_vector(seat: Seat, model: Params, job: Job, loader: Loader) -> Vector:
    """Train, and return what goes under the masks. Raises RoundError for what is no training, UnsoundError."""
    if job.recipe is None or seat.terms.norm is None:
        raise RoundError("only updates are summed")
    dice = seat.site.dice(seat.order.work, seat.order.round)
    delta = parameters.flat(train(seat.site.task, model, loader, job.recipe, dice).delta)
    if job.recipe.client is None:
        return _shortened(delta, float(seat.terms.norm))
    if not np.isfinite(delta).all():  # to say so would be an answer about the records that no noise hides
        delta = np.zeros_like(delta)
    return _with_share(seat, job.recipe.client, delta, dice)


def _with_share(seat: Seat, level: ClientLevel, delta: Vector, dice: Dice) -> Vector:
    clients, grid, size = len(seat.peers()), 2.0**seat.terms.exponent, len(delta)
    std = seat.terms.share(level.noise_multiplier * level.clip_norm, clients)
    check_sum_is_gaussian(std, grid, clients, size)
    clipped = _shortened(delta, clipped_to(level.clip_norm, grid, size))
    return np.asarray(np.rint(clipped / grid) * grid + dice.discrete_gaussian((size,), std, grid))


def _shortened(vector: Vector, norm: float) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector * min(1.0, norm / length) if length > 0 else vector
