"""One step of private training that several clients take together: each its noisy sum, the server the step.

    client   clipped gradients of a Poisson batch, summed, rounded to a common grid, plus its share of the noise
    server   the sum of all, divided by the public normaliser: a step of SGD

Alone, a client's sum has too little noise to be seen; it leaves under masks only. What the noise of all comes to, and
what that is worth, is not decided here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedge.errors import UnsoundError
from fedge.learning.checks import check_apart, check_private
from fedge.learning.clipping import clipper
from fedge.learning.loader import Loader
from fedge.learning.mechanism import clipped_to
from fedge.learning.models import load_params, seed_torch
from fedge.learning.recipe import Poisson, Recipe
from fedge.learning.task import Task
from fedge.learning.training import batches, clipped_sum
from fedge.params import Params
from fedge.privacy.noise import Dice


@dataclass(frozen=True)
class NoisySum:
    """The noisy sum of one step by parameter, float64 multiples of the grid; and which records were read (private)."""

    total: Params
    used: NDArray[np.int64]


def noisy_sum(
    task: Task, params: Params, loader: Loader, recipe: Recipe, std: float, exponent: int, dice: Dice
) -> NoisySum:
    """Return the clipped sum of one Poisson batch at `params`, with discrete Gaussian noise of deviation `std`.

    Values are multiples of 2**`exponent`. The claimed sensitivity is the recipe's clip norm. Raises UnsoundError.
    """
    if recipe.privacy is None or not isinstance(recipe.batching, Poisson):
        raise UnsoundError("a noisy sum needs a clip norm and Poisson sampling")
    claimed, grid = recipe.privacy.clip_norm, math.ldexp(1.0, exponent)
    if recipe.privacy.unit != "record" or recipe.privacy.adaptive is not None:
        raise UnsoundError("noise is shared for sums that are clipped per record, to a norm that all know beforehand")
    with torch.random.fork_rng(devices=[]):
        seed_torch(dice)
        module = load_params(task.model(), params)
        module.train()
        check_private(module)
        check_apart(task, module, loader.record_shape)
        like = {name: p.detach().numpy() for name, p in module.named_parameters() if p.requires_grad}
        dimension = sum(array.size for array in like.values())
        with clipper(module, task.loss, recipe.clipping, loader.record_shape) as clip:
            indices = next(batches(loader, recipe, dice))
            clipped = clipped_sum(clip, loader, indices, clipped_to(claimed, grid, dimension), dimension)
    noise = dice.discrete_gaussian((dimension,), std, grid)
    noisy = np.rint(clipped.total.numpy() / grid) * grid + noise
    return NoisySum(_in_shape(noisy, like), loader.touched)


def _in_shape(vector: NDArray[np.float64], like: Params) -> Params:
    """Return `vector`, which holds the tensors of `like` one after the other in the module's own order."""
    ends = np.cumsum([array.size for array in like.values()])
    parts = np.split(vector, ends[:-1])
    return {name: part.reshape(array.shape) for (name, array), part in zip(like.items(), parts, strict=True)}


class Descent:
    """SGD on sums, as torch does it (momentum, weight decay), with FedProx's pull towards where the round began."""

    def __init__(self, start: Params, recipe: Recipe) -> None:
        self._start, self._recipe = start, recipe
        self._velocity: dict[str, NDArray[np.float64]] = {}
        self.params: Params = start

    def step(self, total: Params, clients: int) -> None:
        """Step along the mean of `clients` clients' sums, each divided by the recipe's normaliser."""
        recipe = self._recipe
        if not isinstance(recipe.batching, Poisson):
            raise UnsoundError("sums are divided by the normaliser of Poisson sampling")
        divisor = recipe.batching.normaliser * clients
        moved: dict[str, NDArray[np.floating]] = {}
        for name, value in self.params.items():
            wide = value.astype(np.float64)
            gradient = total[name] / divisor + recipe.weight_decay * wide
            gradient += recipe.proximal_mu * (wide - self._start[name])
            self._velocity[name] = recipe.momentum * self._velocity.get(name, np.zeros_like(wide)) + gradient
            moved[name] = (wide - recipe.learning_rate * self._velocity[name]).astype(value.dtype)
        self.params = moved
