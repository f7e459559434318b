"""What the commands of `fedge report` share: which bundles were named, and which report is meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fedge import __version__
from fedge.encoding import timestamp, utc_now
from fedge.errors import ConfigError
from fedge.pack.check import read_report
from fedge.pack.forms import REPORT
from fedge.reports.bundle import Bundle, opened
from fedge.reports.judged import judge
from fedge.reports.report import Request, report

MADE_BY = f"fedge {__version__}"
FOLDER = "report"
"""Where the pack of one run lies, within its folder."""


@contextmanager
def bundles_of(paths: Sequence[Path]) -> Iterator[list[Bundle]]:
    """Yield the bundles in all `paths`. Raises ConfigError if two are called the same."""
    with ExitStack() as stack:
        found = [bundle for path in paths for bundle in stack.enter_context(opened(path)).bundles]
        names = [bundle.name for bundle in found]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ConfigError(
                f"two of the runs are called {twice!r}; rename one folder, so that a figure names one log"
            )
        yield found


def report_in(path: Path) -> dict[str, Any]:
    """Return the report that `path` is, holds, or (a run without one) would have."""
    if path.is_file() and path.suffix == ".json":
        return read_report(path)
    if path.is_dir() and (path / REPORT).is_file():
        return read_report(path / REPORT)
    if (path / FOLDER / REPORT).is_file():
        return read_report(path / FOLDER / REPORT)
    with opened(path) as found:
        if (found.root / REPORT).is_file():
            return read_report(found.root / REPORT)
        return report([judge(b) for b in found.bundles], Request(timestamp(utc_now()), MADE_BY))
