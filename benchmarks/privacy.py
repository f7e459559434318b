"""What the ledger and the accountant cost, as spends add up: part of `make bench-privacy`.

The ledger: a spend reserved and committed, durably, after 0, 100 and 1,000 others. The accountant: a run of many rounds
of *different* settings, its total asked for after every round (a run of equal rounds is one power, and costs less).
Peers: the same composed from scratch, and Opacus' RDP and PRV accountants, which keep nothing. Everything fits into a
budget of epsilon 8. The ledger's time is the wall's, the disk's included; the accountants' is the processor's.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opacus.accountants import PRVAccountant, RDPAccountant
from rich.console import Console
from rich.table import Table

from fedge.ids import Lineage
from fedge.journal import SqliteJournal
from fedge.privacy import accountant
from fedge.privacy import filter as privacy_filter
from fedge.privacy.budget import Budget
from fedge.privacy.events import SampledGaussian
from fedge.privacy.ledger import Ledger

LIMIT = 0.2
"""Seconds of the processor that the total may take in a round, after the first."""
BUDGET = 8.0
DELTA = 1e-5
AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
DATA = Lineage("data")
DEPTHS = (0, 100, 1_000)


def schedule(rounds: int) -> list[SampledGaussian]:
    """Return rounds that all differ: the noise sinks, the rate changes between three values."""
    least = accountant.noise_multiplier(BUDGET, DELTA, 0.2, 5 * rounds)
    return [SampledGaussian((0.05, 0.1, 0.2)[n % 3], least * (1.2 - 0.2 * n / rounds), 5) for n in range(rounds)]


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def ledger(depth: int, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of a reservation and of a commit after `depth` spends."""
    with tempfile.TemporaryDirectory() as folder:
        held = Ledger(SqliteJournal(Path(folder) / "ledger.db", "spends"))
        held.set_budget(DATA, Budget(BUDGET, DELTA), AT)
        job = SampledGaussian(0.1, accountant.noise_multiplier(BUDGET, DELTA, 0.1, 20 * (depth + repeats)), 20)
        for n in range(depth):
            held.commit(held.reserve(DATA, f"before-{n}", job, AT, repeatable=False, plan="run"), str(n), AT)
        reserved, committed = [], []
        for n in range(repeats):
            began = time.perf_counter()
            reservation = held.reserve(DATA, f"k{n}", job, AT, repeatable=False, plan="run")
            between = time.perf_counter()
            held.commit(reservation, str(n), AT)
            reserved.append(between - began)
            committed.append(time.perf_counter() - between)
    return {"reserve": 1000 * statistics.median(reserved), "commit": 1000 * statistics.median(committed)}


def growing(rounds: int) -> list[float]:
    """Return the seconds of the total after each round, with what was composed before kept."""
    events, taken = schedule(rounds), []
    forget()
    for n in range(rounds):
        taken.append(seconds(lambda n=n: accountant.epsilon(events[: n + 1], DELTA)))  # type: ignore[misc]
    return taken


def from_scratch(rounds: int) -> float:
    """Return the seconds of the last total alone, as after a restart."""
    events = schedule(rounds)
    forget()
    return seconds(lambda: accountant.epsilon(events, DELTA))


def forget() -> None:
    for kept in (accountant._epsilon, accountant._composed, accountant._kept, accountant._single):
        kept.cache_clear()


def peers(rounds: int) -> dict[str, float]:
    """Return the seconds of the last total by Opacus, once."""
    taken = {}
    for name, peer in (("opacus RDP", RDPAccountant()), ("opacus PRV", PRVAccountant())):
        peer.history.extend((e.noise_multiplier, e.sample_rate, e.steps) for e in schedule(rounds))
        taken[name] = seconds(lambda peer=peer: peer.get_epsilon(delta=DELTA))  # type: ignore[misc]
    return taken


def summary(taken: Sequence[float]) -> dict[str, float]:
    """Return what a round costs at the beginning, at the end, and at worst."""
    tenth = max(1, len(taken) // 10)
    return {
        "first": taken[0],
        "median_of_first_tenth": statistics.median(taken[1 : 1 + tenth]),
        "median_of_last_tenth": statistics.median(taken[-tenth:]),
        "worst_after_first": max(taken[1:]),
    }


def main() -> None:
    """Measure, print, and leave with exit code 1 if the total of a round takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--peer-rounds", type=int, default=100, help="Opacus composes anew each time: fewer suffice.")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    events = schedule(chosen.rounds)
    found: dict[str, Any] = {
        "rounds": chosen.rounds,
        "ledger_milliseconds": {str(depth): ledger(depth, 30) for depth in DEPTHS},
        "incremental_seconds": summary(growing(chosen.rounds)),
        "from_scratch_seconds": from_scratch(chosen.rounds),
        "filter_seconds": seconds(lambda: privacy_filter.epsilon(events, DELTA)),
        "peer_rounds": chosen.peer_rounds,
        "peer_seconds": peers(chosen.peer_rounds) | {"fedge, from scratch": from_scratch(chosen.peer_rounds)},
        "limit_seconds": LIMIT,
    }
    print(json.dumps(found, indent=2)) if chosen.format == "json" else show(found)
    sys.exit(0 if found["incremental_seconds"]["median_of_last_tenth"] < LIMIT else 1)


def show(found: dict[str, Any]) -> None:
    """Print the measurements as tables."""
    console = Console()
    table = Table("spends before", "reserve, ms", "commit, ms", title="the ledger, durable")
    for depth, taken in found["ledger_milliseconds"].items():
        table.add_row(depth, f"{taken['reserve']:.2f}", f"{taken['commit']:.2f}")
    console.print(table)
    table = Table("the total of a round", "seconds", title=f"{found['rounds']} rounds of different settings")
    for name, taken in found["incremental_seconds"].items():
        table.add_row(name.replace("_", " "), f"{taken:.3f}")
    table.add_row("all from scratch, once", f"{found['from_scratch_seconds']:.2f}")
    table.add_row("filter, from scratch", f"{found['filter_seconds']:.2f}")
    console.print(table)
    table = Table("the total, once", "seconds", title=f"{found['peer_rounds']} rounds of different settings")
    for name, taken in found["peer_seconds"].items():
        table.add_row(name, f"{taken:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
