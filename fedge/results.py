"""What a run leaves for people who compute: metrics as JSON lines and CSV, one summary, the environment.

Every file is rewritten atomically or appended line by line; a crash leaves what was measured until then.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from fedge import __version__
from fedge.errors import StorageError
from fedge.files import write_atomically
from fedge.rounds.record import RoundRecord

PACKAGES = (
    "flwr",
    "torch",
    "opacus",
    "dp-accounting",
    "cryptography",
    "hydra-core",
    "numpy",
    "scikit-learn",
    "safetensors",
)


def round_line(record: RoundRecord) -> dict[str, Any]:
    """Return one round as plain JSON: scores on the public test set, who answered, what it cost."""
    parts = [_finite(asdict(p)) for p in record.participants]
    spent = [p["epsilon_total"] for p in parts if p["epsilon_total"] is not None]
    return {
        "round": record.round,
        "attempt": record.attempt,
        "scores": record.scores,
        "accepted": record.accepted,
        "void": record.void,
        "reason": record.reason,
        "epsilon_max": max(spent) if spent else None,
        "participants": parts,
        "model": record.model_out,
        "seconds": record.seconds,
        "bytes_down": record.bytes_down,
        "bytes_up": record.bytes_up,
    }


def repeated_subjects(holders: Iterable[Iterable[str]]) -> int:
    """Return how many people own more than one record at some holder: no record-level epsilon protects those."""
    return sum(sum(count > 1 for count in Counter(subjects).values()) for subjects in holders)


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON object as a line and make it durable."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check free space and permissions") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of `path`; a last line cut off by a crash is left out. Missing file: none."""
    if not path.exists():
        return []
    complete, _, _cut = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in complete.splitlines()]


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write all lines anew."""
    write_atomically(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode())


def write_csv(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write one row per round and client."""
    rows = [_row(line, participant) for line in lines for participant in line["participants"]]
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` wrote."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def environment(seed: int) -> dict[str, Any]:
    """Return the versions, the platform and the seed that a run depends on."""
    return {
        "fedge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "seed": seed,
    }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with infinite numbers as None: JSON has none, and an infinite epsilon is no guarantee at all."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _row(line: Mapping[str, Any], participant: Mapping[str, Any]) -> dict[str, Any]:
    scores = {f"test_{name}": value for name, value in line["scores"].items()}
    return {"round": line["round"], "void": line["void"], **scores, **participant}
