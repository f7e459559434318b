"""A task in which people own many records each, as with wearables: digits, grouped by writer.

The images are real (Alpaydin and Kaynak 1998, in scikit-learn). The file does not say who wrote which image, but its
writers came one after the other; runs of uneven length stand for them.
"""

from dataclasses import replace

import numpy as np

from fedge.learning.models import linear
from fedge.learning.task import Data, Task, accuracy, cross_entropy
from fedge.learning.tasks import digits


def by_writer(writers: int) -> Task:
    """Return digits with `writers` people in the training set, some with many times as many images as others."""

    def load() -> Data:
        data = digits.load()
        shares = np.random.default_rng(4).dirichlet(np.full(writers, 1.5))
        bounds = np.unique(np.concatenate([[0], np.cumsum(np.maximum(1, np.floor(shares * len(data.train))))]))
        owner = np.minimum(np.searchsorted(bounds, np.arange(len(data.train)), side="right") - 1, writers - 1)
        train = replace(data.train, subjects=tuple(f"writer-{i:03d}" for i in owner))
        return Data(train, data.test)

    return Task("wearables", load, lambda: linear(64, 10), cross_entropy, {"accuracy": accuracy})
