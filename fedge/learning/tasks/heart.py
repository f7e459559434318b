"""UCI Heart Disease: four real hospitals, 740 patients with complete records, disease or none.

Files `processed.{cleveland,hungarian,switzerland,va}.data` from https://archive.ics.uci.edu/dataset/45/heart+disease,
CC BY 4.0; Janosi, Steinbrunn, Pfisterer, Detrano 1989. Features and missing values as in FLamby's Fed-Heart-Disease
(https://arxiv.org/abs/2210.04620): slope, ca and thal are left out (mostly missing), then incomplete rows; chest pain
and resting ECG become indicators. Unlike FLamby, scaling uses fixed clinical ranges: a hospital's own statistics would
break record-level privacy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedge.errors import DataError
from fedge.learning.models import linear
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
from fedge.learning.tasks.split import numbered, stratified

SITES = ("cleveland", "hungarian", "switzerland", "va")
COLUMNS = 14
# Column number: centre and half-width of the range seen in adult patients.
RANGES = {0: (55, 20), 3: (130, 40), 4: (220, 120), 7: (140, 50), 9: (1.0, 2.0)}
BINARY = (1, 5, 8)
INDICATORS = {2: (2, 3, 4), 6: (1, 2)}
WHERE = "the files are at https://archive.ics.uci.edu/dataset/45/heart+disease; name the folder with task.folder=PATH"


def task(folder: Path | None) -> Task:
    """Return the task on the four files in `folder`: logistic regression on 13 features, as FLamby's baseline."""
    return Task("heart", lambda: load(folder), lambda: linear(13, 2), cross_entropy, {"accuracy": accuracy})


def load(folder: Path | None) -> Data:
    """Return two thirds of each hospital for training, one third for the test; sites are the hospitals."""
    if folder is None:
        raise DataError(f"task heart needs a folder; {WHERE}")
    parts = [_read(folder / f"processed.{site}.data") for site in SITES]
    sites = tuple(site for site, part in zip(SITES, parts, strict=True) for _ in part)
    rows = np.concatenate(parts)
    targets = (rows[:, 13] > 0).astype(np.int64)
    records = Records(_features(rows), targets, numbered("patient", len(rows)), sites)
    strata = np.asarray([2 * SITES.index(s) + int(t) for s, t in zip(sites, targets, strict=True)], dtype=np.int64)
    return stratified(records, test_share=0.34, seed=0, strata=strata)


def _read(path: Path) -> NDArray[np.float64]:
    try:
        lines = path.read_text(encoding="ascii").split()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {WHERE}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; {WHERE}") from error
    rows = np.asarray([_row(path, number, line) for number, line in enumerate(lines, start=1)], dtype=np.float64)
    needed = [*RANGES, *BINARY, *INDICATORS, 13]
    complete = rows[np.isfinite(rows[:, needed]).all(axis=1)] if len(rows) else rows
    if len(complete) == 0:
        raise DataError(f"{path} holds no complete record; {WHERE}")
    return complete


def _row(path: Path, number: int, line: str) -> list[float]:
    cells = line.split(",")
    if len(cells) != COLUMNS:
        raise DataError(f"{path}, line {number}: {len(cells)} columns, expected {COLUMNS}; {WHERE}")
    try:
        return [float("nan") if cell == "?" else float(cell) for cell in cells]
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}; expected numbers or '?'") from error


def _features(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    scaled = [np.clip((rows[:, c] - centre) / half, -3, 3) for c, (centre, half) in RANGES.items()]
    binary = [rows[:, c] for c in BINARY]
    indicators = [rows[:, c] == value for c, values in INDICATORS.items() for value in values]
    return np.stack([*scaled, *binary, *indicators], axis=1).astype(np.float32)
