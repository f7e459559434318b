"""Breast Cancer Wisconsin (Diagnostic): 569 patients, 30 measures of cell nuclei, benign or malignant.

Comes inside scikit-learn; nothing is downloaded. Wolberg, Mangasarian, Street, Street 1995, UCI ML Repository,
https://doi.org/10.24432/C5DW2B, CC BY 4.0.

Features are scaled by the ranges published in the data set's own description. Scaling by a hospital's own mean and
deviation would let one record change the gradients of all others, and no clipping would bound that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from fedge.learning.models import mlp
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
from fedge.learning.tasks.split import numbered, stratified

# Minimum and maximum of each measure as the description prints them: mean, standard error, worst.
LOW = (
    6.981, 9.71, 43.79, 143.5, 0.053, 0.019, 0.0, 0.0, 0.106, 0.05,
    0.112, 0.36, 0.757, 6.802, 0.002, 0.002, 0.0, 0.0, 0.008, 0.001,
    7.93, 12.02, 50.41, 185.2, 0.071, 0.027, 0.0, 0.0, 0.156, 0.055,
)  # fmt: skip
HIGH = (
    28.11, 39.28, 188.5, 2501.0, 0.163, 0.345, 0.427, 0.201, 0.304, 0.097,
    2.873, 4.885, 21.98, 542.2, 0.031, 0.135, 0.396, 0.053, 0.079, 0.03,
    36.04, 49.54, 251.2, 4254.0, 0.223, 1.058, 1.252, 0.291, 0.664, 0.208,
)  # fmt: skip


def task(_folder: Path | None = None) -> Task:
    """Return the task; the headline metric is accuracy on 20 % of the patients, held by the server."""
    return Task("cancer", load, lambda: mlp(30, 16, 2), cross_entropy, {"accuracy": accuracy})


def load() -> Data:
    """Return 455 training and 114 test records."""
    raw = load_breast_cancer()
    low, high = np.asarray(LOW), np.asarray(HIGH)
    # Most measures crowd near their minimum: a square root spreads them, a constant of the task like the ranges.
    scaled = 4 * np.sqrt(np.clip((raw.data - low) / (high - low), 0, 1)) - 2
    records = Records(scaled.astype(np.float32), raw.target.astype(np.int64), numbered("patient", len(raw.target)))
    return stratified(records, test_share=0.2, seed=0)
