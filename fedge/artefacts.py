"""Plots for the researcher, as SVG files beside the metrics; the report draws its own from the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from fedge.assemble import Assembled
from fedge.files import write_atomically
from fedge.learning.task import Records
from fedge.reports import plots
from fedge.rounds.folder import RunFolder

DRAWN = 40
"""So many clients are drawn at most: more lines, or bars, nobody can tell apart."""


def write_plots(folder: RunFolder, lines: Sequence[Mapping[str, Any]], assembled: Assembled) -> None:
    """Write score, loss and epsilon by round, and each client's labels, to `plots/`.

    Label counts are exact: they exist only because this process simulates the clients, and are in no log or report.
    """
    headline = assembled.task.headline
    labels = {str(name): _labels(assembled.sites.training(name)) for name in islice(assembled.sites, DRAWN)}
    drawings = {
        headline: plots.lines({headline: _scores(lines, headline)}, headline, "round", headline),
        "loss": plots.lines({"loss": _scores(lines, "loss")}, "Loss on the public test set", "round", "loss"),
        "epsilon": plots.lines(_epsilons(lines), "Epsilon spent by each client", "round", "epsilon"),
        "labels": plots.bars(labels, "Labels held by each client", "records"),
    }
    for name, drawing in drawings.items():
        if svg := plots.standalone(drawing):
            write_atomically(folder.root / "plots" / f"{name}.svg", svg.encode())


def _scores(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(line["round"], line["scores"][name]) for line in lines if name in line["scores"]]


def _epsilons(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    spent: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for part in line["participants"]:
            if part["epsilon_total"] is not None and (part["client"] in spent or len(spent) < DRAWN):
                spent.setdefault(part["client"], []).append((line["round"], part["epsilon_total"]))
    return spent


def _labels(records: Records) -> dict[str, float]:
    return {str(label): float(count) for label, count in sorted(Counter(records.targets.tolist()).items())}
