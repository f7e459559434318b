"""Splits that every task makes the same way: by a fixed seed, so that the public test set is always the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedge.learning.task import Data, Records


def stratified(records: Records, test_share: float, seed: int, strata: NDArray[np.int64] | None = None) -> Data:
    """Return `records` split into train and test with the same share of every stratum (the targets by default)."""
    rng = np.random.default_rng(seed)
    groups = records.targets if strata is None else strata
    test: list[int] = []
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        test.extend(int(i) for i in members[: round(test_share * len(members))])
    chosen = np.asarray(sorted(test), dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(records), dtype=np.int64), chosen)
    return Data(records.take(rest), records.take(chosen))


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    """Return identifiers `prefix-00001` … for data that name nobody."""
    return tuple(f"{prefix}-{i + 1:05d}" for i in range(count))
