"""The clipped sum of a batch's gradients: each record, or each person with all records, adds at most the clip norm.

Two ways to the same sum, to within the rounding of float32:

    hooks   Opacus keeps the gradient of every record, [batch, parameters], and we weigh and add them
    ghost   for linear layers, Opacus' fast gradient clipping: the norm of a record's gradient is that of its input
            times that of its output's gradient (Goodfellow 2015, https://arxiv.org/abs/1510.01799), and the weighted
            sum is one product of the two, kept from the same backward pass (Bu et al. 2022,
            https://arxiv.org/abs/2210.00038); no gradient of a record ever exists

Norms and sums are taken in float64. A record whose gradient is not finite adds nothing and is counted: one of them
must not turn the model into NaN, so both ways leave it out before it meets another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from fedge.errors import UnsoundError
from fedge.learning.checks import noise_records
from fedge.learning.recipe import Method
from fedge.learning.task import Loss, per_record

FLOAT32_MARGIN = 1 - 2.0**-14
"""How float32 rounds one record's gradient depends on the size of its batch; this much less clip norm covers it."""
CHUNK = 2**17
"""So many numbers are widened to float64 at a time: what fits into a processor's cache."""


@dataclass(frozen=True)
class Clipped:
    """The clipped sum, float64 [parameters], and what is private beside it.

    `units` is how many records or people are in the batch, `within` how many of them had no need of clipping;
    `dropped` are the places in the batch of records that added nothing.
    """

    total: Tensor
    units: int
    within: int
    dropped: Tensor


class Clipper(Protocol):
    """Computes clipped sums of one model's gradients."""

    def sum(self, features: Tensor, targets: Tensor, owners: Tensor | None, clip_norm: float) -> Clipped:
        """Return the clipped sum of a batch; records with equal `owners` are clipped as one, None: each alone."""
        ...


def nothing(dimension: int) -> Clipped:
    """Return the sum of a batch with no record in it."""
    return Clipped(torch.zeros(dimension, dtype=torch.float64), 0, 0, torch.zeros(0, dtype=torch.int64))


@contextmanager
def clipper(
    module: nn.Module, loss: Loss, method: Method, record_shape: tuple[int, ...], *, by_owner: bool = False
) -> Iterator[Clipper]:
    """Yield what computes clipped sums for `module`, whose hooks are gone afterwards.

    Raises UnsoundError if ghost clipping is asked for where it is not to be had.
    """
    objection = why_no_ghost(module, record_shape, by_owner=by_owner) if method != "hooks" else None
    if method == "ghost" and objection is not None:
        raise UnsoundError(f"training.clipping=ghost: {objection}; use training.clipping=auto or hooks")
    kind = _Hooks if method == "hooks" or objection is not None else _Ghost
    chosen = kind(module, loss)
    try:
        yield chosen
    finally:
        chosen.wrapped.to_standard_module()


def why_no_ghost(module: nn.Module, record_shape: tuple[int, ...], *, by_owner: bool) -> str | None:
    """Return why ghost clipping does not fit, None if it does: only linear layers learn, each once per record.

    On sequences [batch, length, features] the norm comes out of a difference of large numbers, which can hide a
    gradient far above the clip norm; those are left to hooks. Convolutions are as fast with hooks.
    """
    if by_owner:
        return "the norm of a person's summed gradient is not to be had from those of single records"
    learning = [m for m in module.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    other = next((m for m in learning if type(m) is not nn.Linear), None)
    if other is not None:
        return f"a {type(other).__name__} learns, and only nn.Linear is supported"
    weights = [p for m in learning for p in m.parameters(recurse=False) if p.requires_grad]
    if len({id(p) for p in weights}) != len(weights):
        return "two layers share a parameter"
    seen = _input_ranks(module, learning, record_shape)
    if any(ranks != [2] for ranks in seen.values()):
        return "a linear layer is used on sequences, or not exactly once per record"
    return None


def _input_ranks(
    module: nn.Module, layers: Sequence[nn.Module], record_shape: tuple[int, ...]
) -> Mapping[nn.Module, list[int]]:
    """Return the ranks of the inputs that each layer gets in one pass over records of noise."""
    ranks: dict[nn.Module, list[int]] = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: ranks[layer].append(inputs[0].dim())) for layer in layers
    ]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        module(noise_records(record_shape)[0])
    for hook in hooks:
        hook.remove()
    return ranks


class _Hooks:
    """Opacus' per-record gradients, weighed and added."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self.wrapped = GradSampleModule(module, batch_first=True, loss_reduction="sum")
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._loss = loss

    def sum(self, features: Tensor, targets: Tensor, owners: Tensor | None, clip_norm: float) -> Clipped:
        _backward(self.wrapped, self._loss, features, targets)
        rows = [p.grad_sample.reshape(len(targets), -1) for p in self._parameters]  # type: ignore[attr-defined]
        norms = _norms(rows)
        dropped = _not_finite(norms)
        for row in rows:
            row[dropped] = 0.0  # a factor of 0 would not do: 0 * inf is NaN
        norms[dropped] = 0.0
        if owners is not None:
            rows, norms = _by_owner(rows, owners)
        factors = _factors(norms, clip_norm)
        total = torch.cat([_weighted(factors, row) for row in rows])
        for p in self._parameters:
            p.grad_sample = p.grad = None  # type: ignore[attr-defined]
        return Clipped(total, len(norms), int((norms <= clip_norm).sum()), dropped)


class _Ghost:
    """Norms without gradients, and the weighted sum from what the norms were made of."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self.wrapped = _FastClipping(module, batch_first=True, loss_reduction="sum")
        self._layers = [m for m in module.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._loss = loss

    def sum(self, features: Tensor, targets: Tensor, owners: Tensor | None, clip_norm: float) -> Clipped:
        _backward(self.wrapped, self._loss, features, targets)
        norms = self.wrapped.get_norm_sample()
        dropped = _not_finite(norms)
        kept = torch.ones(len(norms), dtype=torch.bool)
        kept[dropped] = False
        norms[dropped] = 0.0
        factors = _factors(norms[kept], clip_norm)
        sums: dict[int, Tensor] = {}
        for layer in self._layers:
            inputs, outputs = (t[kept] for t in layer.__dict__.pop("kept"))
            shortened = outputs.double() * factors[:, None]
            if layer.weight.requires_grad:
                sums[id(layer.weight)] = (shortened.T @ inputs.double()).reshape(-1)
            if layer.bias is not None and layer.bias.requires_grad:
                sums[id(layer.bias)] = shortened.sum(dim=0)
        for p in self._parameters:
            p.grad = None
        total = torch.cat([sums[id(p)] for p in self._parameters])
        return Clipped(total, len(norms), int((norms <= clip_norm).sum()), dropped)


def _keep(layer: nn.Linear, activations: list[Tensor], backprops: Tensor) -> dict[Tensor, Tensor]:
    """Return the norms of each record's gradients, [batch], and keep what the weighted sum is made of.

    Opacus' own sampler squares in float32: beyond 1e19 a record has norm infinity, below 1e-23 it has none.
    """
    inputs = activations[0]
    layer.__dict__["kept"] = (inputs, backprops)
    heights = backprops.double().square().sum(dim=1)
    found: dict[Tensor, Tensor] = {}
    if layer.weight.requires_grad:
        found[layer.weight] = (heights * inputs.double().square().sum(dim=1)).sqrt()
    if layer.bias is not None and layer.bias.requires_grad:
        found[layer.bias] = heights.sqrt()
    return found


class _FastClipping(GradSampleModuleFastGradientClipping):  # type: ignore[misc] # Opacus is untyped
    """Opacus' fast gradient clipping, with norms of linear layers in float64."""

    NORM_SAMPLERS: Mapping[type, Any] = {nn.Linear: _keep}


def _backward(wrapped: nn.Module, loss: Loss, features: Tensor, targets: Tensor) -> None:
    losses = per_record(loss, wrapped(features.requires_grad_(True)), targets)
    losses.sum().backward()  # type: ignore[no-untyped-call]


def _norms(rows: Sequence[Tensor]) -> Tensor:
    """Return the norm of each record over all parameters, float64 [batch]."""
    squares = [torch.cat([part.square().sum(dim=1) for _, part in _widened(row)]) for row in rows]
    return torch.stack(squares).sum(dim=0).sqrt()


def _not_finite(norms: Tensor) -> Tensor:
    """Return the places of records that are left out."""
    return torch.nonzero(~torch.isfinite(norms)).reshape(-1)


def _factors(norms: Tensor, clip_norm: float) -> Tensor:
    return (clip_norm / norms).clamp(max=1.0)  # clip / 0 is infinite, and then 1


def _by_owner(rows: Sequence[Tensor], owners: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the summed gradients of each owner, float64 [owners, …], and their norms."""
    names, places = torch.unique(owners, return_inverse=True)
    summed = [
        torch.zeros((len(names), row.shape[1]), dtype=torch.float64).index_add_(0, places, row.double()) for row in rows
    ]
    return summed, _norms(summed)


def _weighted(factors: Tensor, row: Tensor) -> Tensor:
    """Return the sum of `row` [units, …] weighed by `factors`, in float64."""
    total = torch.zeros(row.shape[1], dtype=torch.float64)
    for place, part in _widened(row):
        total += factors[place : place + len(part)] @ part
    return total


def _widened(row: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield `row` [units, …] in float64, some units at a time, each with the place of its first."""
    size = max(1, CHUNK // max(1, row.shape[1]))
    for place in range(0, len(row), size):
        yield place, row[place : place + size].double()
