"""What a report costs: `make bench-report` (or `python -m benchmarks.reports --quick`).

Logs are written by the real AuditLog, of real statements signed anew, and read from their published files. Each size is
measured in a process of its own: the verifier holds all entries of a log in memory, and what the report takes on top of
them must not grow with it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.audit import published_run, templates
from fedge.pack.build import build
from fedge.pack.forms import FORMATS, forms
from fedge.reports.bundle import Bundle
from fedge.reports.judged import judge
from fedge.reports.report import Request

CLIENTS = 100
LONGEST, LARGEST = 10.0, 5_000_000
"""Seconds that the report of 10^5 entries may take once the log is verified, and bytes that its page may have."""
GROWTH = 64_000_000
"""Bytes by which the memory of the report of the longest log may exceed that of the shortest."""
EACH = ("json", "html", "csv", "cards", "pdf", "zip")


def measured(folder: Path) -> dict[str, float]:
    """Return what it takes to verify and report the run in `folder`; called in a process of its own."""
    found: dict[str, float] = {}
    with timed(found, "verify"):
        run = judge(Bundle(folder))
    with timed(found, "report"):
        made = forms([run], Request("2026-11-24T09:30:00.000Z", "bench"))
        found["json_bytes"] = len(made.canonical)
    before = _peak_from_here()
    for format_ in EACH:
        with timed(found, format_):
            pack = build(made, [Bundle(folder)], folder / "pack" / format_, [format_], None)
    found["memory_bytes"] = _peak() - before
    found["entries"] = run.verification.size
    found["html_bytes"] = (folder / "pack" / "html" / "report.html").stat().st_size
    found["pack_bytes"] = pack.bytes
    found["build"] = found["report"] + sum(found[f] for f in ("json", "html", "csv", "cards"))
    return found


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    into[name] = time.perf_counter() - began


def _peak_from_here() -> int:
    """Forget how much memory was used at most so far; return how much is used now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def apart(folder: Path) -> dict[str, float]:
    """Return what `measured` says in a new process."""
    ask = [sys.executable, "-m", "benchmarks.reports", "--measure", str(folder)]
    done = subprocess.run(ask, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, print, and leave with exit code 1 if a report is slower, larger or hungrier than it may be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 100 rounds")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.measure:
        print(json.dumps(measured(chosen.measure)))
        return
    torch.set_num_threads(1)
    of, rows = templates(), []
    for rounds in (10, 100) if chosen.quick else (10, 100, 1_000):
        with tempfile.TemporaryDirectory() as folder:
            published_run(of, rounds, CLIENTS, Path(folder), {})
            rows.append(apart(Path(folder)))
    last = rows[-1]
    held = {
        f"a report takes less than {LONGEST:g} s once its log is verified": last["build"] < LONGEST,
        f"its page is smaller than {LARGEST / 1e6:g} MB": last["html_bytes"] < LARGEST,
        f"its memory grows by less than {GROWTH / 1e6:g} MB": last["memory_bytes"] - rows[0]["memory_bytes"] < GROWTH,
    }
    if chosen.format == "json":
        print(json.dumps({"rows": rows, "held": held}, indent=2))
    else:
        show(rows, held)
    sys.exit(0 if all(held.values()) else 1)


def show(rows: list[dict[str, float]], held: dict[str, bool]) -> None:
    """Print the measurements as a table."""
    console = Console(width=120)
    table = Table("a log of … entries", *(f"{row['entries']:,.0f}" for row in rows))
    seconds: dict[str, Any] = {name: f"{name}, s" for name in ("verify", "report", *EACH)}
    seconds["build"] = "all but verify, pdf, zip, s"
    for name, label in seconds.items():
        table.add_row(label, *(f"{row[name]:.2f}" for row in rows))
    for name in ("json_bytes", "html_bytes", "pack_bytes", "memory_bytes"):
        table.add_row(name.replace("_bytes", ", MB"), *(f"{row[name] / 1e6:,.2f}" for row in rows))
    console.print(table)
    for promise, kept in held.items():
        console.print(f"{'held  ' if kept else 'BROKEN'} {promise}")


if __name__ == "__main__":
    assert set(EACH) == set(FORMATS)
    main()
