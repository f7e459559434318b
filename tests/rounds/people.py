"""A small simulated population whose rows a test can change: three sites, named people, one more row each."""

from dataclasses import replace

import numpy as np
from typer.testing import CliRunner

from fedge.cli.root import app
from fedge.errors import FedgeError
from fedge.learning.models import mlp
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy

ROWS = 40
PERSON = f"person-{ROWS + 3:04d}"
"""The fourth person of site-1."""
RUN = (
    "engine=direct",
    "population=sites",
    "rounds=3",
    "training.steps=4",
    "training.sample_rate=0.4",
    "consent=all",
    "evaluation.federated=none",
    "policy.minimum_records=2",
    "population.budgets={site-0: 100, site-1: 100, site-2: 100}",
)
"""A run of about a second over the sites' own records; every person has agreed, the budgets allow several runs."""


def records(seed: int = 0) -> Records:
    """Return 3 sites of ROWS people; features tell the target apart."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, 3 * ROWS).astype(np.int64)
    features = (rng.normal(size=(3 * ROWS, 6)) + targets[:, None]).astype(np.float32)
    names = tuple(f"person-{i:04d}" for i in range(3 * ROWS))
    return Records(features, targets, names, tuple(f"site-{i // ROWS}" for i in range(3 * ROWS)))


def task(train: Records) -> Task:
    """Return a task over `train`, tested on other people."""
    test = replace(records(seed=1), sites=None)
    return Task("people", lambda: Data(train, test), lambda: mlp(6, 4, 2), cross_entropy, {"accuracy": accuracy})


def without(whole: Records, person: str) -> Records:
    """Return `whole` without the rows of `person`, as if they had never been there."""
    return whole.take(np.asarray([i for i, s in enumerate(whole.subjects) if s != person], dtype=np.int64))


def changed(whole: Records, person: str) -> Records:
    """Return `whole` with one feature of `person` changed by the least amount that float32 knows."""
    features = whole.features.copy()
    row = whole.subjects.index(person)
    features[row, 0] = np.nextafter(features[row, 0], np.float32(np.inf))
    return replace(whole, features=features)


def call(*words: object) -> str:
    """Return what the command line prints; a FedgeError of the command is raised."""
    said = CliRunner().invoke(app, [str(w) for w in words])
    if isinstance(said.exception, FedgeError):
        raise said.exception
    assert said.exit_code == 0, said.output
    return said.stdout
