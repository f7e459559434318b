"""What federated, private training is compared with: the same model, trained without privacy, centrally or alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedge.learning.loader import Loader
from fedge.learning.recipe import Recipe, Shuffled
from fedge.learning.scoring import score
from fedge.learning.task import Records, Task
from fedge.learning.training import train
from fedge.params import Params, add
from fedge.privacy.noise import Dice


def trained_alone(
    task: Task, start: Params, records: Records, test: Records, recipe: Recipe, dice: Dice
) -> dict[str, float]:
    """Return the scores on `test` of a model trained on `records` alone, in shuffled batches, without privacy."""
    everything = np.flatnonzero(records.usable).astype(np.int64)
    loader = Loader(records, everything, lambda asked: np.ones(len(asked), dtype=np.bool_))
    return score(task, add(start, train(task, start, loader, recipe, dice).delta), test)


def pooled(parts: Sequence[Records]) -> Records:
    """Return the records of all `parts` as one: what no hospital would allow, and a simulation can."""
    return Records(
        np.concatenate([p.features for p in parts]),
        np.concatenate([p.targets for p in parts]),
        tuple(s for p in parts for s in p.subjects),
    )


def plain_recipe(steps: int, learning_rate: float, batch_size: int) -> Recipe:
    """Return the recipe of a baseline."""
    return Recipe(steps, learning_rate, Shuffled(batch_size))
