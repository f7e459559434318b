"""One client's training: SGD on permitted records, with per-record clipping and noise where the recipe says so.

Opacus computes per-record gradients and clips them; what earns the claim is ours: a fixed public sample rate and
normaliser, Poisson batches drawn from `dice`, a discrete Gaussian on a grid, and a clip norm reduced by what rounding
to that grid can add. Empty batches are steps like any other (noise only): skipping one would show that it was empty.

Abadi et al. 2016, https://arxiv.org/abs/1607.00133; Opacus, https://arxiv.org/abs/2109.12298.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn

from fedge.errors import UnsoundError
from fedge.learning.loader import Loader
from fedge.learning.models import load_params, one_thread, to_params
from fedge.learning.recipe import Poisson, Recipe, RecordLevel, Shuffled
from fedge.learning.task import Task, per_record
from fedge.params import Params, subtract
from fedge.privacy.noise import Dice, grid_for, rounding_slack

FLOAT32_MARGIN = 1 - 2.0**-14
"""Norms and sums of gradients are taken in float32; this much less clipping norm covers their rounding."""
PROBES = 4
"""How many records of noise a model is tried on."""


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
        torch.manual_seed(int.from_bytes(dice.draw(7), "big"))  # dropout and the like
        module = load_params(task.model(), params)
        module.train()
        step = _private_steps if recipe.privacy is not None else _plain_steps
        step(task, module, params, loader, recipe, dice)
    return Learned(subtract(to_params(module), params), loader.touched)


def check_private(module: nn.Module) -> None:
    """Raise UnsoundError if `module` has a layer that mixes records or keeps statistics of them."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            raise UnsoundError(
                f"layer {name!r} is {type(layer).__name__}, which mixes records or keeps un-noised statistics; "
                "use nn.GroupNorm instead"
            )
    faults = ModuleValidator.validate(module, strict=False)
    if faults:
        raise UnsoundError(f"the model cannot be trained with per-record privacy: {faults[0]}")


def check_apart(task: Task, module: nn.Module, record_shape: tuple[int, ...]) -> None:
    """Raise UnsoundError if a record's loss depends on the other records in its batch.

    Clipping per record bounds nothing then, whatever the shape of the loss says. It is tried on records of noise, never
    on real ones, so that a refusal depends on the task's code alone.
    """
    generator = torch.Generator().manual_seed(0)
    features = torch.randn((PROBES, *record_shape), generator=generator)
    targets = torch.zeros(PROBES, dtype=torch.int64)
    training = module.training
    module.eval()
    with torch.no_grad():
        together = per_record(task.loss, module(features), targets)
        alone = [per_record(task.loss, module(features[[i]]), targets[[i]]) for i in range(PROBES)]
    module.train(training)
    if not torch.allclose(together, torch.cat(alone), rtol=1e-3, atol=1e-5, equal_nan=True):
        raise UnsoundError(
            "the loss of one record depends on the others in its batch, so clipping per record bounds nothing; let the "
            "model and the loss treat each record alone (reduction='none', nn.GroupNorm or nn.LayerNorm)"
        )


def _plain_steps(task: Task, module: nn.Module, start: Params, loader: Loader, recipe: Recipe, dice: Dice) -> None:
    optimizer = _sgd(module, recipe)
    for indices in batches(loader.eligible, recipe, dice):
        features, targets = loader.read(indices)
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
    wrapped = GradSampleModule(module, batch_first=True, loss_reduction="sum")
    try:
        optimizer = GridGaussianOptimizer(_sgd(module, recipe), privacy, batching.normaliser, dice)
        for indices in batches(loader.eligible, recipe, dice):
            optimizer.zero_grad()
            accumulate(task, wrapped, optimizer, loader, indices)
            optimizer.release()
            _pull(module, start, recipe.proximal_mu)
            optimizer.original_optimizer.step()
    finally:
        wrapped.to_standard_module()


def accumulate(
    task: Task, wrapped: nn.Module, optimizer: GridGaussianOptimizer, loader: Loader, indices: NDArray[np.int64]
) -> None:
    """Read the records at `indices` and add their clipped gradients to the sum; nothing for an empty batch."""
    features, targets = loader.read(indices)
    if len(targets):
        losses = per_record(task.loss, wrapped(features.requires_grad_(True)), targets)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.clip_and_accumulate()


class GridGaussianOptimizer(DPOptimizer):  # type: ignore[misc] # Opacus is untyped
    """Opacus' clipping with our noise: the clipped sum is rounded to a grid and a discrete Gaussian is added.

    `noise_multiplier * clip_norm` is the noise's standard deviation, `clip_norm` the claimed L2 sensitivity. Records
    whose gradient is not finite count as zero: one of them must not turn the model into NaN.
    """

    def __init__(
        self, sgd: torch.optim.SGD, privacy: RecordLevel, normaliser: float, dice: Dice, grid: float | None = None
    ) -> None:
        self._std = privacy.noise_multiplier * privacy.clip_norm
        self._grid = grid or grid_for(self._std)
        dimension = sum(p.numel() for g in sgd.param_groups for p in g["params"] if p.requires_grad)
        super().__init__(
            sgd,
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.clip_norm * FLOAT32_MARGIN - rounding_slack(self._grid, dimension),
            expected_batch_size=1,
            loss_reduction="sum",
        )
        self._normaliser, self._dice = normaliser, dice

    def clip_and_accumulate(self) -> None:
        """Add the clipped gradients of this batch to the sum; non-finite ones as zero."""
        for parameter in self.params:
            sample = parameter.grad_sample
            finite = torch.isfinite(sample.reshape(len(sample), -1)).all(dim=1)
            if not bool(finite.all()):
                self._zero_records(~finite)
        super().clip_and_accumulate()

    def release(self) -> None:
        """Turn the sum into the noisy mean gradient of every parameter; this is the mechanism the ledger accounts."""
        for parameter, noisy in self.noisy_sums():
            parameter.grad = (noisy / self._normaliser).to(parameter.dtype)

    def noisy_sums(self) -> Iterator[tuple[nn.Parameter, torch.Tensor]]:
        """Yield every parameter with its noisy sum in float64, exact multiples of the grid, and forget the sum."""
        for parameter in self.params:
            rounded = torch.round(_sum_of(parameter) / self._grid) * self._grid
            noise = self._dice.discrete_gaussian(tuple(parameter.shape), self._std, self._grid)
            yield parameter, rounded + torch.from_numpy(noise)
            parameter.grad_sample = parameter.summed_grad = None

    def _zero_records(self, unusable: torch.Tensor) -> None:
        for parameter in self.params:
            parameter.grad_sample[unusable] = 0.0


def batches(eligible: NDArray[np.int64], recipe: Recipe, dice: Dice) -> Iterator[NDArray[np.int64]]:
    """Yield the record numbers of each of the recipe's steps."""
    match recipe.batching:
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


def _sgd(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    trainable = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.SGD(
        trainable, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def _pull(module: nn.Module, start: Params, mu: float) -> None:
    """Add FedProx's gradient mu * (w - w0), after clipping and noise: it depends on no record."""
    if mu == 0:
        return
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            pull = mu * (parameter.detach() - torch.from_numpy(np.ascontiguousarray(start[name])))
            parameter.grad = pull if parameter.grad is None else parameter.grad + pull


def _sum_of(parameter: nn.Parameter) -> torch.Tensor:
    """Return the clipped sum in float64; zero for a batch with no record in it."""
    total = getattr(parameter, "summed_grad", None)
    return torch.zeros_like(parameter, dtype=torch.float64) if total is None else total.to(torch.float64)
