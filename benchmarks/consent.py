"""Permission of a million records, judged at once and one after the other: `make bench-consent`.

The peer is the plain fold of `fedge.consent.decision`, which is also the oracle: both must give the same answers. The
history holds what a hospital's does: grants, refusals, withdrawals, lapsed consents, opt-outs, and a permit for all.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
from rich.console import Console
from rich.table import Table

from fedge.consent.decision import decide
from fedge.consent.events import PermissionEvent
from fedge.consent.grants import NOTHING, Permissions, fold
from fedge.consent.request import Request
from fedge.encoding import timestamp

LIMIT_SECONDS = 1.0
"""A million records must be judged in less."""
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LONG_AGO, LAPSED, RECENTLY = (timestamp(NOW - timedelta(days=days)) for days in (500, 30, 60))
REPEATS = 3
"""The quickest of as many first questions counts: what is slower, the machine was busy elsewhere."""
WANTED = Request("health-research")


def events(people: int, seed: int) -> list[PermissionEvent]:
    """Return the histories of `people`: one event each, and a second one of every tenth."""
    found = [PermissionEvent("grant", "permit", "*", ("HRESCH",), LONG_AGO, LONG_AGO, record="HDAB-17")]
    for number, chance in enumerate(np.random.default_rng(seed).random(people)):
        name = f"p-{number:016x}"
        if chance < 0.05:
            found.append(PermissionEvent("refuse", "consent", name, ("any-use",), RECENTLY, RECENTLY))
        elif chance < 0.10:
            found.append(PermissionEvent("grant", "consent", name, ("HRESCH",), LONG_AGO, LONG_AGO, LAPSED))
        elif chance < 0.15:
            found.append(PermissionEvent("grant", "opt_out", name, ("any-use",), RECENTLY, RECENTLY))
        elif chance < 0.95:
            found.append(PermissionEvent("grant", "consent", name, ("HRESCH",), LONG_AGO, LONG_AGO))
        if 0.50 < chance < 0.60:
            found.append(PermissionEvent("withdraw", "consent", name, ("HRESCH",), RECENTLY, RECENTLY))
    return found


def _seconds(state: Permissions, subjects: tuple[str, ...]) -> float:
    began = time.perf_counter()
    state.judge(subjects, WANTED, NOW)
    return time.perf_counter() - began


def measured(people: int, seed: int) -> dict[str, float | bool]:
    """Return seconds of each way, and whether they agree."""
    history = events(people, seed)
    subjects = tuple(f"p-{number:016x}" for number in range(people))
    began = time.perf_counter()
    state = fold(NOTHING, history)
    folded = time.perf_counter()
    first = state.judge(subjects, WANTED, NOW)
    asked = min(_seconds(state, subjects[:1] + subjects[1:]) for _ in range(REPEATS))
    state.judge(subjects, WANTED, NOW)
    again = _seconds(state, subjects)
    own: dict[str, list[PermissionEvent]] = {}
    for event in history:
        own.setdefault(event.subject, []).append(event)
    everyone, now = own.pop("*"), timestamp(NOW)
    begun = time.perf_counter()
    plain = [decide(own.get(subject, ()), everyone, WANTED, now).reason for subject in subjects]
    return {
        "fold": folded - began,
        "judge": asked,
        "judge_again": again,
        "plain_fold": time.perf_counter() - begun,
        "same_answers": first.codes.tolist() == plain,
    }


def main() -> None:
    """Measure, print, and leave with exit code 1 if the answers differ or a million records take too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    chosen = parser.parse_args()
    found = measured(chosen.people, chosen.seed)
    if chosen.format == "json":
        print(json.dumps(found, indent=2))
    else:
        table = Table("way", "seconds", title=f"{chosen.people} records")
        for name, value in found.items():
            table.add_row(name.replace("_", " "), str(value) if name == "same_answers" else f"{value:.3f}")
        Console().print(table)
    slow = found["judge"] * 1_000_000 / chosen.people > LIMIT_SECONDS
    sys.exit(1 if slow or not found["same_answers"] else 0)


if __name__ == "__main__":
    main()
