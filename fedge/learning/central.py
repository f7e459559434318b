"""The server's mechanism for client-level privacy: clipped updates in, one noisy mean of the round out.

    answers → secret coins → clip again → sum on a grid → (carry bands over) + discrete Gaussian → fixed normaliser

The unit is a client with all it holds. The server is trusted with single updates; what it releases is not: the model
and everybody's log. Since the log names who answered, a sample of clients is secret only if it is a sample of the
*answers*: all that can be reached are asked, and a coin that nobody else sees decides whose answers count (McMahan et
al. 2018, https://arxiv.org/abs/1710.06963, with that amendment). Where only some are asked, nothing is sampled, and the
noise is correlated instead (`privacy.factorisation`).

Each answer is clipped here again, whatever its client has done, and rounded to the grid by itself, so sums are exact
whole numbers whose sensitivity is proved and whose order does not matter. A sum of nobody is a step like any other.

With bands c a client's update v adds round(c[j] v) to what is released j rounds later. Released is s = C X + Z, from
which, and from nothing else, y[t] = s[t] - Σ c[j] y[t - j] is computed, the update that the model is moved by. What
later rounds still get and the y of earlier ones are the mechanism's memory: in the server's state, so that a resumed
run goes on bit for bit. It is as secret as the updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedge import params as parameters
from fedge.learning.aggregation import Memory
from fedge.learning.clipping import FLOAT32_MARGIN
from fedge.learning.mechanism import FINENESS, clipped_to, followed, sum_multiplier
from fedge.learning.recipe import ClientLevel, Recipe
from fedge.params import Params
from fedge.privacy.factorisation import norm
from fedge.privacy.noise import Dice

SLOT = "central"
"""Under which name the memory lies beside that of the aggregation."""
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Released:
    """The noisy mean of a round, and what the mechanism remembers: `{SLOT: …}`."""

    mean: Params
    memory: Memory


@dataclass(frozen=True)
class Central:
    """Client-level privacy at the server. `expected` clients are in a sum: the fixed, public normaliser."""

    level: ClientLevel
    expected: float
    dice: Callable[[int], Dice]

    def recipe(self, recipe: Recipe, memory: Memory) -> Recipe:
        """Return `recipe` as the coming round orders it: with the clip norm of now."""
        return replace(recipe, client=replace(self.level, clip_norm=self._clip(memory)))

    def release(self, updates: Mapping[str, Params], memory: Memory, like: Params, round_: int) -> Released:
        """Return the noisy mean of the `updates`, by client, and the memory for the next round."""
        level, dice, clip = self.level, self.dice(round_), self._clip(memory)
        coins = dice.bernoulli(len(updates), level.sample_rate) if level.sample_rate < 1 else np.ones(len(updates))
        chosen = [parameters.flat(updates[c]) for c, coin in zip(sorted(updates), coins, strict=True) if coin]
        size = sum(array.size for array in like.values())
        grid = self._multiplier * norm(level.bands) * clip / FINENESS
        total = on_grid(chosen, level.bands, clipped_to(clip, grid, size * len(level.bands)), grid, size)
        carried, before = self._kept(memory, "carried", size), self._kept(memory, "released", size)
        noisy = total[0] + dice.discrete_gaussian((size,), FINENESS, 1.0)
        if len(carried):
            noisy += carried[0]
        step = noisy * grid - sum((c * y for c, y in zip(level.bands[1:], before, strict=True)), np.zeros(size))
        kept = {
            "clip_norm": np.asarray([self._next_clip(chosen, clip, dice)]),
            "carried": total[1:] + np.concatenate([carried[1:], np.zeros((min(1, len(carried)), size))]),
            "released": np.concatenate([step[None], before])[: len(before)],
        }
        return Released(parameters.shaped(step / self.expected, like), {SLOT: kept})

    @property
    def _multiplier(self) -> float:
        """The multiplier of the sum's noise: a little more where units within the clip norm are counted, too."""
        level = self.level
        if level.adaptive is None:
            return level.noise_multiplier
        return sum_multiplier(level.noise_multiplier, level.adaptive.count_noise)

    def _clip(self, memory: Memory) -> float:
        return float(memory[SLOT]["clip_norm"][0]) if SLOT in memory else self.level.clip_norm

    def _next_clip(self, chosen: Sequence[Vector], clip: float, dice: Dice) -> float:
        """Return the next round's clip norm. Who was shortened to it is as long as it; no client need say so."""
        adaptive = self.level.adaptive
        if adaptive is None:
            return clip
        within = sum(bool(np.linalg.norm(v) <= clip * FLOAT32_MARGIN) for v in chosen)
        return followed(clip, adaptive, within, len(chosen), self.expected, dice)

    def _kept(self, memory: Memory, name: str, size: int) -> NDArray[np.float64]:
        rows = len(self.level.bands) - 1
        return np.asarray(memory[SLOT][name], dtype=np.float64) if SLOT in memory else np.zeros((rows, size))


def shortened(update: Params, clip_norm: float) -> Params:
    """Return `update`, shortened to L2 norm `clip_norm` if it is longer; nothing in place of one that is not finite.

    To say that it broke would be an answer about the client's records that no noise hides.
    """
    length = parameters.norm(update)
    if not math.isfinite(length):
        return {name: np.zeros_like(value) for name, value in update.items()}
    if not length > clip_norm:
        return update
    return {
        name: (value.astype(np.float64) * (clip_norm / length)).astype(value.dtype) for name, value in update.items()
    }


def on_grid(vectors: Sequence[Vector], bands: Sequence[float], clip_norm: float, grid: float, size: int) -> Vector:
    """Return what clipped `vectors` add to this round and the following ones, in whole steps of `grid`.

    Shape [bands, size]. One vector's part is at most norm(bands) * clip_norm / grid + sqrt(bands * size) / 2 long.
    """
    total, weights = np.zeros((len(bands), size)), np.asarray(bands)[:, None]
    for vector in vectors:
        length = float(np.linalg.norm(vector))
        total += np.rint(weights * (vector * min(1.0, clip_norm / length) if length > 0 else vector) / grid)
    return total
