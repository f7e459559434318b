"""Handwritten digits, 8x8: 1,797 images that come inside scikit-learn.

Alpaydin and Kaynak 1998, UCI ML Repository, https://doi.org/10.24432/C50P49, CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedge.learning.models import small_cnn
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
from fedge.learning.tasks.split import numbered, stratified


def task(_folder: Path | None = None) -> Task:
    """Return the task: a small CNN with GroupNorm."""
    return Task("digits", load, lambda: small_cnn(8, 8, 10), cross_entropy, {"accuracy": accuracy})


def load() -> Data:
    """Return about 1,437 training and 360 test images, [n, 1, 8, 8], ink from -1 to 1 (16 grey levels)."""
    raw = load_digits()
    images = (raw.images.astype(np.float32) / 8 - 1)[:, None]
    records = Records(images, raw.target.astype(np.int64), numbered("writer", len(raw.target)))
    return stratified(records, test_share=0.2, seed=0)
