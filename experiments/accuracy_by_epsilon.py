"""What does an epsilon cost in accuracy? cancer, heart and digits, drawn for the documentation.

    python -m experiments.accuracy_by_epsilon OUT [--heart PATH]

OUT gets one SVG a task and a table, `accuracy_by_epsilon.md`. PATH holds the four `processed.*.data` files of UCI
Heart Disease; without it that task is left out. Each point is the mean over seeds of whole runs as configured in conf/;
epsilon is record-level, add/remove, for the whole run, with all noise added by each client alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

import fedge
from fedge.reports import plots

LEVELS = (0.5, 1.0, 2.0, 4.0, 8.0)
Scores = Mapping[float | None, Sequence[float]]


def main(arguments: Sequence[str]) -> None:
    """Run every task at every level with every seed; write a plot a task and one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the plots and the table go")
    parser.add_argument("--heart", type=Path, help="where processed.cleveland.data and the other three lie")
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of libraries, about libraries
    tasks = {"cancer": ["task=cancer"], "digits": ["task=digits"]}
    if chosen.heart is not None:
        tasks["heart"] = ["task=heart", f"task.folder={chosen.heart}"]
    points = [(name, level, seed) for name in tasks for level in (None, *LEVELS) for seed in chosen.seeds]
    found: dict[str, dict[float | None, list[float]]] = {name: {} for name in tasks}
    for name, level, seed in track(points, "runs", console=Console(stderr=True)):
        found[name].setdefault(level, []).append(accuracy(tasks[name], level, seed))
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, scores in found.items():
        (chosen.out / f"accuracy_by_epsilon_{name}.svg").write_text(drawn(name, scores), encoding="utf-8")
    (chosen.out / "accuracy_by_epsilon.md").write_text(table(found), encoding="utf-8")


def accuracy(task: Sequence[str], level: float | None, seed: int) -> float:
    """Return the accuracy on the public test set of one run at this epsilon, None for no privacy."""
    privacy = ["privacy=none"] if level is None else [f"privacy.epsilon={level}"]
    quick = ["evaluation.federated=none", "engine=direct", "policy.maximum_epsilon_per_round=100"]
    with tempfile.TemporaryDirectory() as out:
        return fedge.run(*task, *privacy, *quick, f"seed={seed}", f"out={out}").scores["accuracy"]


def drawn(name: str, scores: Scores) -> str:
    """Return the plot of one task as an SVG file."""
    points = [(level, statistics.mean(values)) for level, values in scores.items() if level is not None]
    figure = plots.lines(
        {name: points},
        f"{name}: accuracy by epsilon",
        "epsilon of the whole run (record-level, add/remove, delta 1e-5); dashed: no privacy",
        "accuracy",
        {"no privacy": statistics.mean(scores[None])},
        (0.0, 1.0),
    )
    return plots.standalone(figure) or ""


def table(found: Mapping[str, Scores]) -> str:
    """Return all tasks as a Markdown table: mean ± standard deviation over seeds."""
    head = " | ".join(f"epsilon {level:g}" for level in LEVELS)
    lines = [f"| task | no privacy | {head} |", "|---" * (len(LEVELS) + 2) + "|"]
    for name, scores in found.items():
        cells = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v) if len(v) > 1 else 0:.3f}" for v in scores.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
