"""One client's training: SGD on permitted records, with clipping and noise where the recipe says so.

    Poisson batch → clipped sum (`clipping`) → noisy mean (`mechanism`) → a step of SGD

Opacus computes per-record gradients; what earns the claim is ours: a fixed public sample rate and normaliser, batches
drawn from `dice`, a discrete Gaussian on a grid, and a clip norm reduced by what rounding to that grid can add. Empty
batches are steps like any other (noise only): skipping one would show that it was empty.

Abadi et al. 2016, https://arxiv.org/abs/1607.00133; Opacus, https://arxiv.org/abs/2109.12298.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedge.errors import UnsoundError
from fedge.learning.checks import check_apart, check_private
from fedge.learning.clipping import Clipped, Clipper, clipper, nothing
from fedge.learning.loader import Loader
from fedge.learning.mechanism import Mechanism
from fedge.learning.models import load_params, one_thread, seed_torch, to_params
from fedge.learning.recipe import Poisson, Recipe, Shuffled
from fedge.learning.task import Task, per_record
from fedge.params import Params, subtract
from fedge.privacy.noise import Dice


@dataclass(frozen=True)
class Learned:
    """What training gives: the change to the model, and which records it read (private)."""

    delta: Params
    used: NDArray[np.int64]


def train(task: Task, params: Params, loader: Loader, recipe: Recipe, dice: Dice) -> Learned:
    """Return the change that `recipe` makes to `params` on the records of `loader`.

    Everything random comes from `dice`; torch's own generator is left as it was. Raises UnsoundError for a model or a
    loss that cannot be trained privately.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        seed_torch(dice)
        module = load_params(task.model(), params)
        module.train()
        step = _private_steps if recipe.privacy is not None else _plain_steps
        step(task, module, params, loader, recipe, dice)
    return Learned(subtract(to_params(module), params), loader.touched)


def _plain_steps(task: Task, module: nn.Module, start: Params, loader: Loader, recipe: Recipe, dice: Dice) -> None:
    optimizer = _sgd(module, recipe)
    for indices in batches(loader, recipe, dice):
        _, features, targets = loader.read(indices)
        optimizer.zero_grad()
        if len(targets):
            losses = per_record(task.loss, module(features), targets)
            divisor = recipe.batching.normaliser if isinstance(recipe.batching, Poisson) else len(targets)
            (losses.sum() / divisor).backward()  # type: ignore[no-untyped-call]
        _pull(module, start, recipe.proximal_mu)
        optimizer.step()


def _private_steps(task: Task, module: nn.Module, start: Params, loader: Loader, recipe: Recipe, dice: Dice) -> None:
    check_private(module)
    privacy, batching = recipe.privacy, recipe.batching
    if privacy is None or not isinstance(batching, Poisson):
        raise UnsoundError("private training needs a clip norm, a noise multiplier and Poisson sampling")
    check_apart(task, module, loader.record_shape)
    optimizer, trainable = _sgd(module, recipe), _trainable(module)
    mechanism = Mechanism(privacy, batching.normaliser, _dimension(trainable), recipe.steps, dice)
    by_owner = privacy.unit == "subject"
    with clipper(module, task.loss, recipe.clipping, loader.record_shape, by_owner=by_owner) as clip:
        for indices in batches(loader, recipe, dice):
            clipped = clipped_sum(clip, loader, indices, mechanism.clip_norm, mechanism.dimension, by_owner=by_owner)
            _set_gradients(trainable, torch.from_numpy(mechanism.release(clipped)))
            _pull(module, start, recipe.proximal_mu)
            optimizer.step()


def clipped_sum(
    clip: Clipper,
    loader: Loader,
    indices: NDArray[np.int64],
    clip_norm: float,
    dimension: int,
    *,
    by_owner: bool = False,
) -> Clipped:
    """Read the records at `indices` and return the clipped sum of their gradients; zero if there are none."""
    permitted, features, targets = loader.read(indices)
    if len(permitted) == 0:
        return nothing(dimension)
    owners = torch.from_numpy(loader.owners[permitted]) if by_owner else None
    clipped = clip.sum(features, targets, owners, clip_norm)
    loader.drop(permitted[clipped.dropped.numpy()])
    return clipped


def batches(loader: Loader, recipe: Recipe, dice: Dice) -> Iterator[NDArray[np.int64]]:
    """Yield the record numbers of each of the recipe's steps."""
    eligible = loader.eligible
    match recipe.batching:
        case Poisson(sample_rate, _) if recipe.privacy is not None and recipe.privacy.unit == "subject":
            people, places = np.unique(loader.owners[eligible], return_inverse=True)
            for _ in range(recipe.steps):
                yield eligible[dice.bernoulli(len(people), sample_rate)[places]]
        case Poisson(sample_rate, _):
            for _ in range(recipe.steps):
                yield eligible[dice.bernoulli(len(eligible), sample_rate)]
        case Shuffled(batch_size):
            per_pass = math.ceil(len(eligible) / batch_size)
            for step in range(recipe.steps):
                if step % per_pass == 0:
                    order = eligible[dice.permutation(len(eligible))]
                place = step % per_pass * batch_size
                yield order[place : place + batch_size]


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _dimension(parameters: list[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def _set_gradients(parameters: list[nn.Parameter], gradient: torch.Tensor) -> None:
    """Give each parameter its part of `gradient`, which holds them one after the other."""
    place = 0
    for parameter in parameters:
        part = gradient[place : place + parameter.numel()]
        parameter.grad = part.to(parameter.dtype).reshape(parameter.shape)
        place += parameter.numel()


def _sgd(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    return torch.optim.SGD(
        _trainable(module), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def _pull(module: nn.Module, start: Params, mu: float) -> None:
    """Add FedProx's gradient mu * (w - w0), after clipping and noise: it depends on no record."""
    if mu == 0:
        return
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            pull = mu * (parameter.detach() - torch.from_numpy(np.ascontiguousarray(start[name])))
            parameter.grad = pull if parameter.grad is None else parameter.grad + pull
