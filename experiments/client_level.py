"""What is left of accuracy when a whole client is hidden: by a secret sample of clients, or by correlated noise?

    python -m experiments.client_level

Digits, spread evenly over 200 clients of 7 records each, softmax regression, client-level privacy at delta 1e-5, 40
rounds. Noise, clipping and memory are those of a run (`fedge.calibration`, `learning.central`); messages, ledgers and
log, which change no number, are left out.

    sampled   all clients answer in each round; a secret fifth of the answers is summed, noise is independent
    banded    a tenth is asked in each round, each client once in ten rounds; noise is correlated over them (DP-FTRL)
    none      the rounds of `sampled` without noise; still clipped
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch

from fedge import compose
from fedge.calibration import central_of, recipe_of
from fedge.config import RunConfig
from fedge.ids import ClientId
from fedge.learning import models, scoring
from fedge.learning.central import shortened
from fedge.learning.loader import Loader
from fedge.learning.models import linear
from fedge.learning.task import Records, Task, accuracy, cross_entropy
from fedge.learning.tasks.digits import load
from fedge.learning.training import train
from fedge.params import Params, add
from fedge.privacy import noise
from fedge.rounds.sampling import rested_cohort
from fedge.simulation import partition

CLIENTS, ROUNDS = 200, 40
SETTINGS = (
    "privacy=client",
    "population=iid",
    f"population.clients={CLIENTS}",
    f"rounds={ROUNDS}",
    "training.steps=5",
    "training.batch_size=8",
    "training.momentum=0.0",
)
WAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sampled": ("sampling.fraction=0.2",),
        "banded": ("sampling.fraction=0.1", "privacy.mechanism=banded"),
        "none": ("sampling.fraction=0.2",),
    }
)
TASK = Task("digits-softmax", load, lambda: linear(64, 10), cross_entropy, {"accuracy": accuracy})
NEXT_TO_NOTHING = 1e-4
"""Noise multiplier of the rounds without noise."""


def reached(config: RunConfig, *, private: bool) -> float:
    """Return the accuracy on the test set after all rounds of `config`."""
    recipe, data, rng = recipe_of(config), load(), np.random.default_rng(config.seed)
    if not private and recipe.client is not None:
        recipe = replace(recipe, client=replace(recipe.client, noise_multiplier=NEXT_TO_NOTHING))
    central = central_of(config, CLIENTS, recipe)
    if central is None or recipe.client is None:
        raise ValueError("the experiment is about client-level privacy")
    parts = partition.iid(len(data.train), CLIENTS, rng)
    held = {ClientId(f"client-{i:03d}"): data.train.take(part) for i, part in enumerate(parts)}
    params, memory, asked = models.initial(TASK.model, config.seed), dict[str, Params](), dict[ClientId, int]()
    for round_ in range(1, config.rounds + 1):
        dice = noise.seeded(config.seed, "cohort", round_)
        fraction = config.sampling.fraction if recipe.client.separation > 1 else 1.0
        chosen = rested_cohort(list(held), fraction, 2, dice, asked, round_, recipe.client.separation)
        asked |= dict.fromkeys(chosen, round_)
        updates = {
            str(name): shortened(
                train(TASK, params, _loader(held[name]), recipe, noise.seeded(config.seed, name, round_)).delta,
                recipe.client.clip_norm,
            )
            for name in chosen
        }
        said = central.release(updates, memory, params, round_)
        params, memory = add(params, said.mean), dict(said.memory)
    return scoring.score(TASK, params, data.test)["accuracy"]


def _loader(records: Records) -> Loader:
    everyone = np.arange(len(records), dtype=np.int64)
    return Loader(records, everyone, lambda asked: np.ones(len(asked), dtype=np.bool_))


def main(arguments: Sequence[str]) -> None:
    """Run every way at every epsilon with every seed and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1, 2, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--clip-norm", type=float, default=0.5)
    parser.add_argument("--ways", nargs="+", choices=sorted(WAYS), default=list(WAYS))
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of libraries, about libraries
    torch.set_num_threads(1)
    print("| | " + " | ".join(f"epsilon {e:g}" for e in chosen.epsilons) + " |")
    print("|---|" + "---|" * len(chosen.epsilons))
    for way in chosen.ways:
        cells = []
        for epsilon in chosen.epsilons if way != "none" else chosen.epsilons[:1]:
            learned = (f"training.learning_rate={chosen.learning_rate}", f"privacy.clip_norm={chosen.clip_norm}")
            scores = [
                reached(
                    compose.compose([*SETTINGS, *WAYS[way], *learned, f"privacy.epsilon={epsilon}", f"seed={seed}"]),
                    private=way != "none",
                )
                for seed in chosen.seeds
            ]
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            cells.append(f"{statistics.mean(scores):.3f} ± {spread:.3f}")
        print(f"| {way} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
