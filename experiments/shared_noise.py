"""What do a few hospitals keep of their accuracy when each adds only its share of the noise?

    python -m experiments.shared_noise

Digits, 4 hospitals of 200 records, softmax regression, record-level privacy at delta 1e-5. Each run is `fedge.run`,
with its log and ledgers. Three ways to add the noise that the same epsilon demands:

    trusted   the noise of a trusted server: shares that add up to it exactly (nobody colludes, nobody drops out)
    shared    secure aggregation that tolerates one hospital colluding with the server
    local     every hospital adds all of the noise to its own update
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

import fedge
from fedge.learning.models import linear
from fedge.learning.task import Data, Task, accuracy, cross_entropy
from fedge.learning.tasks.digits import load

HOSPITALS, RECORDS = 4, 200
SETTINGS = (
    "engine=direct",
    "population=iid",
    f"population.clients={HOSPITALS}",
    "consent=all",
    "evaluation.federated=none",
    "policy.maximum_epsilon_per_round=100",
    "policy.minimum_noise_multiplier=0.1",
    "rounds=6",
    "training.steps=10",
    "training.sample_rate=0.2",
    "training.normaliser=40",
    "training.momentum=0.0",
)
WAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "trusted": ("privacy.secure_aggregation=true", "privacy.noise_at=distributed", "privacy.colluding=0"),
        "shared": ("privacy.secure_aggregation=true", "privacy.noise_at=distributed", "privacy.colluding=1"),
        "local": (),
    }
)


def small_digits() -> Data:
    """Return 800 training records, and the usual test set."""
    data = load()
    return Data(data.train.take(np.arange(HOSPITALS * RECORDS, dtype=np.int64)), data.test)


TASK = Task("digits-softmax", small_digits, lambda: linear(64, 10), cross_entropy, {"accuracy": accuracy})


def reached(way: str, epsilon: float, seed: int, learning_rate: float) -> float:
    """Return the accuracy on the test set after one run."""
    privacy = (f"privacy.epsilon={epsilon}", f"training.learning_rate={learning_rate}", *WAYS[way])
    with tempfile.TemporaryDirectory() as out:
        result = fedge.run(*SETTINGS, *privacy, f"seed={seed}", f"out={out}", task=TASK)
    return result.scores["accuracy"]


def main(arguments: Sequence[str]) -> None:
    """Run every way at every epsilon with every seed and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--learning-rate", type=float, default=1.0)
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of libraries, about libraries
    torch.set_num_threads(1)
    print("| noise | " + " | ".join(f"epsilon {e:g}" for e in chosen.epsilons) + " |")
    print("|---|" + "---|" * len(chosen.epsilons))
    for way in WAYS:
        cells = []
        for epsilon in chosen.epsilons:
            scores = [reached(way, epsilon, seed, chosen.learning_rate) for seed in chosen.seeds]
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            cells.append(f"{statistics.mean(scores):.3f} ± {spread:.3f}")
        print(f"| {way} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
