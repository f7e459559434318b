"""What private training costs: each model with hooks and ghost clipping, against itself without privacy and Opacus.

    python -m benchmarks.training [--repeats 2] [--format json]

Milliseconds per step of SGD, all four in the same run and in turns, so that a busy machine burdens them alike. Opacus
is its own PrivacyEngine on the same batches; hooks, or its ghost clipping, whichever is faster for the model.
"""

import argparse
import json
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import opacus
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from fedge.learning.clipping import why_no_ghost
from fedge.learning.loader import Loader
from fedge.learning.models import initial, mlp, small_cnn
from fedge.learning.recipe import Method, Poisson, Recipe, RecordLevel
from fedge.learning.task import Records, Task, accuracy, cross_entropy
from fedge.learning.training import train
from fedge.privacy import noise


@dataclass(frozen=True)
class Case:
    """A model, the shape of its records, how many are in a batch on average, and how many steps are timed."""

    name: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    steps: int


def large_mlp() -> nn.Module:
    """Return 536,000 parameters in three linear layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )


CASES = (
    Case("MLP, 530 parameters", lambda: mlp(30, 16, 2), (30,), 16, 100),
    Case("MLP, 536 k parameters", large_mlp, (784,), 256, 2),
    Case("CNN, 2.6 k parameters", lambda: small_cnn(8, 8, 10), (1, 8, 8), 64, 20),
)
RATE = 0.5


def ours(case: Case, held: Records, method: Method, *, private: bool = True) -> float:
    """Return the milliseconds of a step of `train`."""
    task = Task("bench", lambda: NotImplemented, case.model, cross_entropy, {"accuracy": accuracy})
    privacy = RecordLevel(1.0, 1.0) if private else None
    recipe = Recipe(case.steps, 0.1, Poisson(RATE, float(case.batch)), privacy, clipping=method)
    loader = Loader(held, np.arange(len(held), dtype=np.int64), _everyone)
    start = initial(case.model, 1)
    began = time.perf_counter()
    train(task, start, loader, recipe, noise.seeded(1))
    return 1000 * (time.perf_counter() - began) / case.steps


def plain_opacus(case: Case, held: Records, mode: str) -> float:
    """Return the milliseconds of a step of Opacus' own engine, its data loader included."""
    data = torch.utils.data.TensorDataset(torch.from_numpy(held.features), torch.from_numpy(held.targets))
    model = case.model()
    began = time.perf_counter()
    loader = torch.utils.data.DataLoader(data, batch_size=case.batch)
    found = opacus.PrivacyEngine().make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), data_loader=loader,
        criterion=nn.CrossEntropyLoss(), noise_multiplier=1.0, max_grad_norm=1.0, grad_sample_mode=mode,
    )  # fmt: skip
    module, optimizer, loader = found[0], found[1], found[-1]
    criterion = found[2] if len(found) == 4 else nn.CrossEntropyLoss()
    done = 0
    while done < case.steps:
        for features, targets in loader:
            optimizer.zero_grad()
            criterion(module(features), targets).backward()
            optimizer.step()
            done += 1
            if done == case.steps:
                break
    return 1000 * (time.perf_counter() - began) / case.steps


def measured(case: Case, repeats: int) -> dict[str, float | None]:
    """Return the median milliseconds of a step of every way to train `case`."""
    rng = np.random.default_rng(0)
    count = round(case.batch / RATE)
    held = Records(
        rng.normal(size=(count, *case.shape)).astype(np.float32),
        rng.integers(0, 2, count),
        tuple(f"p{i}" for i in range(count)),
    )
    ways: dict[str, Callable[[], float]] = {
        "plain": lambda: ours(case, held, "auto", private=False),
        "hooks": lambda: ours(case, held, "hooks"),
        "ghost": lambda: ours(case, held, "ghost"),
        "opacus hooks": lambda: plain_opacus(case, held, "hooks"),
        "opacus ghost": lambda: plain_opacus(case, held, "ghost"),
    }
    if why_no_ghost(case.model(), case.shape, by_owner=False) is not None:
        del ways["ghost"]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):  # the first is a warm-up
        for name, way in ways.items():
            times[name].append(way())
    found: dict[str, float | None] = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    return {"ghost": None} | found


def _everyone(asked: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.ones(len(asked), np.bool_)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = {case.name: measured(case, chosen.repeats) for case in CASES}
    if chosen.format == "json":
        print(json.dumps(found, indent=2))
        return
    names = ("plain", "hooks", "ghost", "opacus hooks", "opacus ghost")
    table = Table("model", *names, "ours / plain", "ours / Opacus", title="milliseconds per step, one thread")
    for name, times in found.items():
        best, theirs = (min(t for n in pair if (t := times[n]) is not None) for pair in (names[1:3], names[3:]))
        cells = ["—" if (t := times[n]) is None else f"{t:.1f}" for n in names]
        table.add_row(name, *cells, f"{best / (times['plain'] or 1):.1f}", f"{best / theirs:.2f}")
    console = Console(width=120)
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of all of it: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
