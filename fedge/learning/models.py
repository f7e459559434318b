"""Compact models as plain functions, and the way between a torch module and named arrays.

No BatchNorm anywhere: its statistics mix the records of a batch. GroupNorm does the same work record by record
(Wu and He 2018, https://arxiv.org/abs/1803.08494).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedge.params import Params
from fedge.privacy.noise import Dice


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: how it splits a sum among several changes the last bits, and so the model.

    The same seed gives the same model whatever the machine's number of cores; work is shared out over clients instead.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_torch(dice: Dice) -> None:
    """Seed torch's generator on the processor from `dice`: for dropout and the like.

    `torch.manual_seed` also keeps a stack trace for each kind of accelerator: a millisecond for every client.
    """
    torch.default_generator.manual_seed(int.from_bytes(dice.draw(7), "big"))


def linear(features: int, classes: int) -> nn.Module:
    """Softmax regression on flattened input."""
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))


def mlp(features: int, hidden: int, classes: int) -> nn.Module:
    """One hidden layer with ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def small_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """Two convolutions with GroupNorm on one-channel `side` x `side` images; `side` a multiple of 4."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.GroupNorm(4, channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.GroupNorm(4, 2 * channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * (side // 4) ** 2, classes),
    )


def initial(build: object, seed: int) -> dict[str, NDArray[np.floating]]:
    """Return the parameters of a new model, drawn from `seed` alone; torch's own generator is left as it was."""
    if not callable(build):
        raise TypeError("a model is given as a function that builds it")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return to_params(build())


def to_params(module: nn.Module) -> dict[str, NDArray[np.floating]]:
    """Return the trainable parameters of `module` as arrays, sorted by name."""
    return {name: p.detach().numpy().copy() for name, p in sorted(module.named_parameters()) if p.requires_grad}


def load_params(module: nn.Module, params: Params) -> nn.Module:
    """Set the parameters of `module` to `params` and return it."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(params[name])))
    return module
