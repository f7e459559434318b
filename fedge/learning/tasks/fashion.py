"""Fashion-MNIST, or any data set in the same four idx files: 28x28 grey images of ten classes.

Files `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, plain or `.gz`, from https://github.com/zalandoresearch/fashion-mnist
(MIT); Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747. MNIST has the same form.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedge.errors import DataError
from fedge.learning.models import small_cnn
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
from fedge.learning.tasks.split import numbered

WHERE = "the files are at https://github.com/zalandoresearch/fashion-mnist; name the folder with task.folder=PATH"
IMAGES, LABELS = 0x00000803, 0x00000801


def task(folder: Path | None) -> Task:
    """Return the task on the four files in `folder`: a small CNN with GroupNorm."""
    return Task("fashion", lambda: load(folder), lambda: small_cnn(28, 8, 10), cross_entropy, {"accuracy": accuracy})


def load(folder: Path | None) -> Data:
    """Return the 60,000 training and 10,000 test images, [n, 1, 28, 28], ink from -1 to 1."""
    if folder is None:
        raise DataError(f"task fashion needs a folder; {WHERE}")
    return Data(_records(folder, "train"), _records(folder, "t10k"))


def _records(folder: Path, part: str) -> Records:
    images = read_idx(folder, f"{part}-images-idx3-ubyte", IMAGES)
    labels = read_idx(folder, f"{part}-labels-idx1-ubyte", LABELS)
    if len(images) != len(labels):
        raise DataError(f"{folder}: {len(images)} {part} images but {len(labels)} labels; {WHERE}")
    scaled = images[:, None].astype(np.float32) / 127.5 - 1
    return Records(scaled, labels.astype(np.int64), numbered(part, len(labels)))


def read_idx(folder: Path, name: str, magic: int) -> NDArray[np.uint8]:
    """Return the array in idx file `name` (or `name.gz`); raise DataError for anything but exactly that.

    Format: http://yann.lecun.com/exdb/mnist/ (magic number, sizes as big-endian 32-bit integers, bytes).
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder / name}[.gz] is missing; {WHERE}")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; {WHERE}") from error
    dimensions = magic & 0xFF
    head = 4 + 4 * dimensions
    if len(data) < head or struct.unpack(">I", data[:4])[0] != magic:
        raise DataError(f"{path} is not an idx file of {dimensions} dimensions; {WHERE}")
    shape = struct.unpack(f">{dimensions}I", data[4:head])
    if len(data) != head + math.prod(shape):
        raise DataError(f"{path} says {shape} but holds {len(data) - head} bytes: it is cut off or damaged; {WHERE}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
