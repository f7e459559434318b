"""What does privacy cost four real hospitals? UCI Heart Disease, logistic regression, epsilon from none to 1.

    python -m experiments.heart_epsilon PATH

PATH holds the four `processed.*.data` files. FLamby (https://arxiv.org/abs/2210.04620) asks the same of the
same hospitals without privacy, and publishes .795 pooled and .685 for FedAvg. Its scaling uses each hospital's own mean
and deviation, which no record-level guarantee allows; ours uses fixed clinical ranges, so the numbers are not the same.

Local privacy: each hospital adds all of its noise itself, so the hospitals trust nobody, and pay for it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

import fedge

LEVELS = ("none", "8", "4", "2", "1")
SEEDS = (1, 2, 3, 4, 5)


def main(arguments: Sequence[str]) -> None:
    """Run every level with every seed and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where processed.cleveland.data and the other three lie")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of libraries, about libraries
    points = [(level, seed) for level in LEVELS for seed in chosen.seeds]
    found: dict[str, list[float]] = {level: [] for level in LEVELS}
    for level, seed in track(points, "runs", console=Console(stderr=True)):
        found[level].append(accuracy(chosen.folder, level, seed))
    print("| epsilon (record-level, add/remove, delta 1e-5) | accuracy, mean ± standard deviation over seeds |")
    print("|---|---|")
    for level, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"| {level} | {statistics.mean(values):.3f} ± {spread:.3f} |")


def accuracy(folder: Path, level: str, seed: int) -> float:
    """Return the accuracy on the pooled test records of one run at this epsilon."""
    privacy = ("privacy=none",) if level == "none" else (f"privacy.epsilon={level}",)
    with tempfile.TemporaryDirectory() as out:
        result = fedge.run(
            "task=heart", f"task.folder={folder}", "evaluation.federated=none", f"seed={seed}", f"out={out}", *privacy
        )
    return result.scores["accuracy"]


if __name__ == "__main__":
    main(sys.argv[1:])
