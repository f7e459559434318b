"""What cannot be trained with per-record privacy is refused, with the name of what to use instead.

Every check looks at the task's code alone, and tries it on records of noise: a refusal must not depend on real records.
"""

from __future__ import annotations

import torch
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from fedge.errors import UnsoundError
from fedge.learning.task import Task, per_record

PROBES = 4
"""How many records of noise a model is tried on."""
_REPLACEMENTS = {
    nn.LSTM: "opacus.layers.DPLSTM",
    nn.GRU: "opacus.layers.DPGRU",
    nn.RNN: "opacus.layers.DPRNN",
    nn.MultiheadAttention: "opacus.layers.DPMultiheadAttention",
}


def check_private(module: nn.Module) -> None:
    """Raise UnsoundError if `module` has a layer that mixes records, keeps statistics of them, or hides gradients."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            raise UnsoundError(
                f"layer {name!r} is {type(layer).__name__}, which mixes records or keeps un-noised statistics; "
                "use nn.GroupNorm instead"
            )
        replacement = _REPLACEMENTS.get(type(layer))
        if replacement is not None:
            raise UnsoundError(
                f"layer {name!r} is {type(layer).__name__}, of which no per-record gradient can be had; "
                f"use {replacement} instead"
            )
    faults = ModuleValidator.validate(module, strict=False)
    if faults:
        raise UnsoundError(f"the model cannot be trained with per-record privacy: {faults[0]}")


def check_apart(task: Task, module: nn.Module, record_shape: tuple[int, ...]) -> None:
    """Raise UnsoundError if a record's loss depends on the other records in its batch, or on those of batches before.

    Clipping per record bounds nothing then, whatever the shape of the loss says.
    """
    features, targets = noise_records(record_shape)
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
    _check_remembers_nothing(module, features)


def _check_remembers_nothing(module: nn.Module, features: Tensor) -> None:
    """Raise UnsoundError if a forward pass in training changes a buffer: what it keeps of records is never noised."""
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    if not before:
        return
    training = module.training
    module.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        module(features)
    module.train(training)
    changed = [name for name, now in module.named_buffers() if not torch.equal(before[name], now)]
    for name, buffer in module.named_buffers():
        buffer.copy_(before[name])
    if changed:
        raise UnsoundError(
            f"buffer {changed[0]!r} changes when the model sees records: what it keeps of them is not noised; compute "
            "it from each record alone (nn.GroupNorm or nn.LayerNorm do), or fix its value when the model is built"
        )


def check_same_base(task: Task) -> None:
    """Raise UnsoundError if two builds of the model differ in what is never sent: frozen parameters and buffers.

    Only trainable parameters travel, so every client must have the same rest, and have it from the task itself.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = _fixed(task.model())
        torch.manual_seed(2)
        second = _fixed(task.model())
    differing = [name for name, value in first.items() if not torch.equal(value, second[name])]
    if differing:
        raise UnsoundError(
            f"{differing[0]!r} is not trained, so it is never sent, and two builds of the model give it different "
            "values; let the task's model function load it from a file, or set it from a seed of its own"
        )


def _fixed(module: nn.Module) -> dict[str, Tensor]:
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
    return frozen | dict(module.named_buffers())


def noise_records(record_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return PROBES records of that shape that nobody owns, with target 0; always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((PROBES, *record_shape), generator=generator), torch.zeros(PROBES, dtype=torch.int64)
