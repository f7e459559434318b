"""How those who were admitted learn: by themselves, or all at once; and which engine fits a task, by a quick try.

Admitting and settling is each client's own affair on every engine: the same permissions, budgets, ledgers, entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedge.encoding import canonical
from fedge.errors import ConfigError
from fedge.learning import models
from fedge.learning.checks import noise_records
from fedge.learning.loader import Loader
from fedge.learning.recipe import Recipe
from fedge.learning.task import Records, Task
from fedge.learning.together import train_together, why_not_together
from fedge.learning.training import Learned, train
from fedge.privacy.noise import Dice, seeded
from fedge.rounds import client
from fedge.rounds.statement import Result
from fedge.rounds.work import Taken
from fedge.simulation.fleet import one_by_one

Engine = Literal["flower", "direct", "pool", "vectorised", "auto"]
TRIED = 16
"""So many clients, each with RECORDS records of noise, are trained both ways to see which is faster."""
RECORDS = 40
WORTH_IT = 1.5
"""So much faster all at once must be, for `auto` to give up the last bit's equality."""


@dataclass(frozen=True)
class Choice:
    """An engine, and why."""

    engine: Engine
    why: str


def all_at_once(taken: Sequence[Taken]) -> list[Result]:
    """Let clients with the same order learn at once; what is no training, each by itself.

    If the cohort breaks, each client learns by itself: so it is seen whose records or code it was.
    """
    found: dict[int, Result] = {}
    for numbers in _alike(taken):
        cohort = [taken[n] for n in numbers]
        recipe = cohort[0].admitted.job.recipe
        results = one_by_one(cohort) if recipe is None else _together(cohort, recipe)
        found |= dict(zip(numbers, results, strict=True))
    return [found[n] for n in range(len(taken))]


def _together(cohort: Sequence[Taken], recipe: Recipe) -> list[Result]:
    dice = [one.site.dice(one.order.work, one.order.round) for one in cohort]
    pairs = [(one.loader, own) for one, own in zip(cohort, dice, strict=True)]
    try:
        learned = train_together(cohort[0].site.task, cohort[0].model, pairs, recipe)
    except Exception:  # noqa: BLE001 - whatever it is, it is found again at the client that it belongs to
        return one_by_one(cohort)
    return [client.learn(one, _replayed(r), own) for one, r, own in zip(cohort, learned, dice, strict=True)]


def _alike(taken: Sequence[Taken]) -> list[list[int]]:
    """Return the places of clients in groups that train the same model by the same recipe."""
    groups: dict[tuple[int, str, bytes], list[int]] = {}
    for number, one in enumerate(taken):
        key = (id(one.site.task), one.order.work + one.order.model, canonical(dict(one.order.recipe)))
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _replayed(result: Learned | Exception) -> client.Train:
    """Return a training that comes to `result`, which was found with others'."""

    def training(*_asked: object) -> Learned:
        if isinstance(result, Exception):
            raise result
        return result

    return training


def check_together(task: Task, recipe: Recipe, record_shape: tuple[int, ...]) -> None:
    """Raise ConfigError if engine=vectorised cannot train this task, naming why and what can."""
    objection = why_not_together(task, recipe, record_shape)
    if objection is not None:
        raise ConfigError(f"engine=vectorised: {objection}; use engine=pool or direct, or auto, which tries first")


def choose(
    task: Task, recipe: Recipe, record_shape: tuple[int, ...], cores: int, cohort: int, now: Callable[[], float]
) -> Choice:
    """Return the engine for `cohort` clients a round: tried with clients of noise, `now` tells seconds."""
    alone: Engine = "pool" if cores > 1 and cohort >= 2 * cores else "direct"
    by = f"{cores} processes" if alone == "pool" else "one process"
    objection = why_not_together(task, recipe, record_shape)
    if objection is not None:
        return Choice(alone, f"{by}; not vectorised, as {objection}")
    if cohort < 4:
        return Choice(alone, f"{by}; a cohort of {cohort} is not worth stacking")
    ratio = _ratio(task, recipe, record_shape, now)
    if ratio < WORTH_IT * (cores if alone == "pool" else 1):
        return Choice(alone, f"{by}; {TRIED} clients at once are only {ratio:.1f} times as fast as one by one")
    return Choice("vectorised", f"{TRIED} clients at once are {ratio:.1f} times as fast as one by one")


def _ratio(task: Task, recipe: Recipe, record_shape: tuple[int, ...], now: Callable[[], float]) -> float:
    """Return how many times faster all at once is than one by one, on records that nobody owns."""
    params = models.initial(task.model, 0)

    def alone() -> None:
        for loader, dice in _nobodies(record_shape):
            train(task, params, loader, recipe, dice)

    def together() -> None:
        train_together(task, params, _nobodies(record_shape), recipe)

    taken = []
    for do in (alone, together):
        do()  # once to warm up
        began = now()
        do()
        taken.append(now() - began)
    return taken[0] / max(taken[1], 1e-9)


def _nobodies(record_shape: tuple[int, ...]) -> list[tuple[Loader, Dice]]:
    features, targets = (t.numpy() for t in noise_records(record_shape))
    repeats = -(-RECORDS // len(targets))
    records = Records(
        np.concatenate([features] * repeats), np.concatenate([targets] * repeats), tuple(map(str, range(RECORDS)))
    )
    everybody = np.arange(RECORDS, dtype=np.int64)
    yes = np.ones(RECORDS, dtype=np.bool_)
    return [(Loader(records, everybody, lambda i: yes[i]), seeded(0, "tried", n)) for n in range(TRIED)]
