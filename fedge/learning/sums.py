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
from opacus import GradSampleModule

from fedge.errors import UnsoundError
from fedge.learning.loader import Loader
from fedge.learning.models import load_params
from fedge.learning.recipe import Poisson, Recipe, RecordLevel
from fedge.learning.task import Task
from fedge.learning.training import GridGaussianOptimizer, accumulate, batches, check_apart, check_private
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
    clip, grid = recipe.privacy.clip_norm, math.ldexp(1.0, exponent)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(dice.draw(7), "big"))  # dropout and the like
        module = load_params(task.model(), params)
        module.train()
        check_private(module)
        check_apart(task, module, loader.record_shape)
        wrapped = GradSampleModule(module, batch_first=True, loss_reduction="sum")
        sgd = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1.0)
        optimizer = GridGaussianOptimizer(sgd, RecordLevel(std / clip, clip), 1.0, dice, grid)
        accumulate(task, wrapped, optimizer, loader, next(batches(loader.eligible, recipe, dice)))
        names = {id(p): name for name, p in module.named_parameters()}
        total = {names[id(p)]: noisy.numpy() for p, noisy in optimizer.noisy_sums()}
        wrapped.to_standard_module()
    return NoisySum(total, loader.touched)


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
