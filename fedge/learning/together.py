"""Many clients' training at once: their parameters stacked, one forward and backward pass for the whole cohort.

    each client:  batch → read → |                                                  | → noise → step
    all at once:                 | stack, pad → gradients (torch.func) → clip → sum |

What makes a client's result its own stays its own: its batches, its noise and the clip norm that follows its data come
from its own dice in the very order of `training.train`, so they are the same draws; and its own loader reads, so every
batch asks its permissions. Only the arithmetic in the middle is shared. It adds in another order than one client alone
would, so models agree to within the rounding of float32 (TOLERANCE), and never to the last bit.

Clients differ in how many records a batch has: short ones are padded, and what is padded is taken out before anything
is added up. For small models this is tens of times as fast; for convolutions on a processor it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedge.learning.checks import PROBES, check_apart, check_private, noise_records
from fedge.learning.clipping import Clipped
from fedge.learning.loader import Loader
from fedge.learning.mechanism import Mechanism
from fedge.learning.models import load_params, one_thread
from fedge.learning.recipe import Poisson, Recipe
from fedge.learning.task import Task, per_record
from fedge.learning.training import Learned, batches
from fedge.params import Params
from fedge.privacy.noise import Dice

TOLERANCE = 1e-4
"""Stated bound of the difference to training one by one: in each parameter, in units of the largest change of any."""
AT_ONCE = 2**25
"""So many numbers of gradients exist at a time; larger cohorts are taken in parts."""
Stacked = dict[str, Tensor]


@dataclass
class _Client:
    """One client while all train: its own source of batches and noise, or what made it give up."""

    loader: Loader
    dice: Dice
    mechanism: Mechanism | None = None
    fault: Exception | None = None


def why_not_together(task: Task, recipe: Recipe, record_shape: tuple[int, ...]) -> str | None:
    """Return why cohorts of this task cannot be trained at once, None if they can; tried on records of noise."""
    if recipe.privacy is not None and recipe.privacy.unit == "subject":
        return "records of one person are clipped together, whose number differs"
    module = task.model()
    module.train()
    noisy = next((m for m in module.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0), None)
    if noisy is not None:
        return f"{type(noisy).__name__} draws from a generator that clients would share"
    features, targets = noise_records(record_shape)
    stacked = {n: p.detach()[None].repeat(2, *[1] * p.dim()) for n, p in module.named_parameters() if p.requires_grad}
    mask = torch.ones((2, PROBES), dtype=torch.bool)
    batch = (features[None].repeat(2, *[1] * features.dim()), targets[None].repeat(2, 1), mask)
    try:
        _sums(task, module, stacked, *batch)
        if recipe.privacy is not None:
            _rows(task, module, stacked, *batch)
    except Exception as error:  # noqa: BLE001 - a model is the user's code and may do anything
        said = str(error).split(". ")[0].splitlines()[0][:200] if str(error) else "no reason given"
        return f"its model or loss cannot be mapped over clients ({type(error).__name__}: {said})"
    return None


def train_together(
    task: Task, params: Params, clients: Sequence[tuple[Loader, Dice]], recipe: Recipe
) -> list[Learned | Exception]:
    """Return for each client what `training.train` would, or raise; in the order of `clients`.

    Raises UnsoundError for a model or a loss that cannot be trained privately, whatever the model raises otherwise.
    """
    if not clients:
        return []
    with one_thread(), torch.random.fork_rng(devices=[]):
        all_of_them = [_Client(loader, dice) for loader, dice in clients]
        for one in all_of_them:
            one.dice.draw(7)  # what seeds torch's generator for a client alone; here nothing asks it
        module = load_params(task.model(), params)
        module.train()
        if recipe.privacy is not None:
            check_private(module)
            check_apart(task, module, clients[0][0].record_shape)
        dimension = sum(p.numel() for p in module.parameters() if p.requires_grad)
        size = max(1, AT_ONCE // (dimension * _most_records(recipe, clients)))
        found: list[Learned | Exception] = []
        for place in range(0, len(all_of_them), size):
            found += _trained(task, module, params, all_of_them[place : place + size], recipe, dimension)
    return found


def _most_records(recipe: Recipe, clients: Sequence[tuple[Loader, Dice]]) -> int:
    """Return about how many records' gradients a step holds for a client: one sum, unless each is clipped."""
    if recipe.privacy is None or not isinstance(recipe.batching, Poisson):
        return 1
    largest = max(len(loader.eligible) for loader, _ in clients)
    return 1 + int(2 * recipe.batching.sample_rate * largest)


def _trained(
    task: Task, module: nn.Module, start: Params, clients: Sequence[_Client], recipe: Recipe, dimension: int
) -> list[Learned | Exception]:
    """Take all steps of a part of the cohort."""
    batching = recipe.batching
    if recipe.privacy is not None and isinstance(batching, Poisson):
        for one in clients:
            one.mechanism = Mechanism(recipe.privacy, batching.normaliser, dimension, recipe.steps, one.dice)
    sources = [batches(one.loader, recipe, one.dice) for one in clients]
    begun = {n: p.detach()[None] for n, p in module.named_parameters() if p.requires_grad}
    stacked = {name: p.repeat(len(clients), *[1] * (p.dim() - 1)) for name, p in begun.items()}
    velocity: Stacked = {}
    for _ in range(recipe.steps):
        read = [_read(one, source) for one, source in zip(clients, sources, strict=True)]
        features, targets, mask = _padded([(f, t) for _, f, t in read], clients[0].loader)
        if recipe.privacy is not None:
            rows = _rows(task, module, stacked, features, targets, mask)
            gradients, moves = _released(clients, [places for places, _, _ in read], rows, mask, stacked)
        else:
            gradients, moves = _means(task, module, stacked, (features, targets, mask), recipe)
        for name, gradient in gradients.items():
            gradients[name] = gradient + recipe.proximal_mu * (stacked[name] - begun[name])
        _step(stacked, gradients, velocity, moves, recipe)
    return [_learned(one, number, stacked, start) for number, one in enumerate(clients)]


def _read(one: _Client, source: Iterator[NDArray[np.int64]]) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """Return the next batch of a client, as its loader reads it; of one that has given up, nothing."""
    try:
        if one.fault is None:
            return one.loader.read(next(source))
    except Exception as error:  # noqa: BLE001 - it is one client's fault; the others go on
        one.fault = error
    nobody = np.zeros(0, dtype=np.int64)
    return nobody, torch.zeros((0, *one.loader.record_shape)), torch.zeros(0, dtype=torch.int64)


def _padded(read: Sequence[tuple[Tensor, Tensor]], like: Loader) -> tuple[Tensor, Tensor, Tensor]:
    """Return features [clients, most, …], targets [clients, most], and which of them are really there.

    A short batch is filled up with its own first record: zeros may be what a model cannot bear.
    """
    most = max(1, *(len(targets) for _, targets in read)) if read else 1
    features = torch.zeros((len(read), most, *like.record_shape))
    targets = torch.zeros((len(read), most), dtype=torch.int64)
    mask = torch.zeros((len(read), most), dtype=torch.bool)
    for number, (some, theirs) in enumerate(read):
        count = len(theirs)
        if count:
            features[number, :count], features[number, count:] = some, some[0]
            targets[number, :count], targets[number, count:] = theirs, theirs[0]
            mask[number, :count] = True
    return features, targets, mask


def _losses(task: Task, module: nn.Module, params: Mapping[str, Tensor], features: Tensor, targets: Tensor) -> Tensor:
    return per_record(task.loss, functional_call(module, dict(params), (features,)), targets)


def _sums(task: Task, module: nn.Module, stacked: Stacked, features: Tensor, targets: Tensor, mask: Tensor) -> Stacked:
    """Return the gradient of each client's summed loss."""
    leaves = {name: value.detach().requires_grad_(True) for name, value in stacked.items()}
    losses = vmap(lambda p, x, y: _losses(task, module, p, x, y))(leaves, features, targets)
    total = torch.where(mask, losses, torch.zeros_like(losses)).sum()
    found = torch.autograd.grad(total, list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def _means(
    task: Task, module: nn.Module, stacked: Stacked, batch: tuple[Tensor, Tensor, Tensor], recipe: Recipe
) -> tuple[Stacked, Tensor]:
    """Return each client's mean gradient, and which clients take a step: with an empty batch there is nothing to do."""
    counts = batch[2].sum(dim=1)
    moves = (counts > 0) | (recipe.proximal_mu != 0)
    normaliser = recipe.batching.normaliser if isinstance(recipe.batching, Poisson) else None
    divisors = counts.clamp(min=1).float() if normaliser is None else torch.full((len(counts),), normaliser)
    sums = _sums(task, module, stacked, *batch)
    some = counts > 0
    means = {n: torch.where(_wide(some, g), g / _wide(divisors, g), torch.zeros_like(g)) for n, g in sums.items()}
    return means, moves


def _rows(task: Task, module: nn.Module, stacked: Stacked, features: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Return the gradient of every record, [clients, most, parameters]; of what is padded, zero."""

    def alone(params: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return _losses(task, module, params, x[None], y[None])[0]

    per_client = vmap(grad(alone), in_dims=(None, 0, 0))
    found = vmap(per_client)(stacked, features, targets)
    rows = torch.cat([found[name].flatten(start_dim=2) for name in stacked], dim=2)
    rows[~mask] = 0.0
    return rows


def _released(
    clients: Sequence[_Client],
    places: Sequence[NDArray[np.int64]],
    rows: Tensor,
    mask: Tensor,
    stacked: Stacked,
) -> tuple[Stacked, Tensor]:
    """Return each client's noisy mean gradient: clipped per record, summed in float64, noised by its own dice."""
    norms = torch.stack([part.double().square().sum(dim=1) for part in rows]).sqrt()
    lost = mask & ~torch.isfinite(norms)
    rows[lost], norms[lost] = 0.0, 0.0
    mechanisms = [one.mechanism for one in clients if one.mechanism is not None]
    limits = torch.tensor([m.clip_norm for m in mechanisms], dtype=torch.float64)[:, None]
    factors = (limits / norms).clamp(max=1.0)
    within = ((norms <= limits) & mask).sum(dim=1)
    noisy = torch.empty((len(clients), rows.shape[2]))
    for number, (one, mechanism) in enumerate(zip(clients, mechanisms, strict=True)):
        dropped = torch.nonzero(lost[number, : len(places[number])]).reshape(-1)
        one.loader.drop(places[number][dropped.numpy()])
        total = factors[number] @ rows[number].double()
        clipped = Clipped(total, len(places[number]), int(within[number]), dropped)
        noisy[number] = torch.from_numpy(mechanism.release(clipped)).float()
    ends = np.cumsum([value[0].numel() for value in stacked.values()])[:-1]
    parts = torch.tensor_split(noisy, [int(end) for end in ends], dim=1)
    shaped = {n: part.reshape(stacked[n].shape) for n, part in zip(stacked, parts, strict=True)}
    return shaped, torch.ones(len(clients), dtype=torch.bool)


def _step(stacked: Stacked, gradients: Stacked, velocity: Stacked, moves: Tensor, recipe: Recipe) -> None:
    """Step as torch's SGD does, each client by itself; who has nothing to do stays where it is."""
    for name, value in stacked.items():
        change = gradients[name] + recipe.weight_decay * value
        if recipe.momentum:
            change = change if name not in velocity else recipe.momentum * velocity[name] + change
            before = velocity.get(name, torch.zeros_like(change))
            velocity[name] = torch.where(_wide(moves, change), change, before)
        stacked[name] = torch.where(_wide(moves, value), value - recipe.learning_rate * change, value)


def _learned(one: _Client, number: int, stacked: Stacked, start: Params) -> Learned | Exception:
    if one.fault is not None:
        return one.fault
    ended = {name: value[number].detach().numpy() for name, value in sorted(stacked.items())}
    return Learned({n: (a - start[n]).astype(start[n].dtype) for n, a in ended.items()}, one.loader.touched)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a client, so that it goes with `like` [clients, …]."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
