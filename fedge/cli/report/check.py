"""`fedge report check`: make a report again from its log, and compare every figure and every file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fedge.cli.audit import STYLE
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.cli.report.reading import FOLDER, MADE_BY, bundles_of
from fedge.errors import AuditError, StorageError
from fedge.pack import check as checks
from fedge.pack.forms import REPORT, ZIP
from fedge.reports.bundle import RUNS, Bundle, opened


def check_command(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="A pack's folder or ZIP, a run, or one file of a pack.")],
    run: Annotated[list[Path] | None, typer.Option(help="A run whose log is not in the pack; may repeat.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy file that reached you by another way.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """Resolve every reference in the log, and find every number that was edited, in any form. Exit code 7 if one was.

    The report is made again from the log, and compared figure by figure; then each file, byte by byte.
    """
    with _opened(pack, run or []) as (folder, bundles, only):
        found = checks.check(folder, bundles, MADE_BY, policy, only)
    if output is Format.json:
        plain = [{"name": c.name, "grade": c.grade, "text": c.text} for c in found.checks]
        print_json({"holds": found.holds, "references": found.references, "checks": plain})
    else:
        for c in found.checks:
            mark = f"[{STYLE[c.grade]}]{c.grade:<8}[/]"
            console.print(f"{mark} {escape(c.name)}: {escape(c.text)}", soft_wrap=True)
    if not found.holds:
        failed = "; ".join(c.name for c in found.checks if c.grade == "FAILED")
        raise AuditError(f"{pack} does not hold: {failed}; see above")


@contextmanager
def _opened(pack: Path, runs: Sequence[Path]) -> Iterator[tuple[Path, list[Bundle], str | None]]:
    """Yield the folder of the report, the bundles to check it against, and which one file is meant, if one is."""
    with ExitStack() as stack:
        if pack.is_file() and pack.suffix == ".zip":
            inside = stack.enter_context(opened(pack))
            yield inside.root, [*inside.bundles, *stack.enter_context(bundles_of(runs))], None
            return
        only = pack.name if pack.is_file() else None
        folder = pack.parent if only else pack / FOLDER if (pack / FOLDER / REPORT).is_file() else pack
        if not folder.is_dir():
            raise StorageError(f"{pack} does not exist")
        yield folder, stack.enter_context(bundles_of([*runs, *_near(folder, runs)])), only


def _near(folder: Path, runs: Sequence[Path]) -> list[Path]:
    """Return where the logs of a pack's folder lie if none was named: in it, around it, or in its ZIP."""
    if runs:
        return []
    around = folder.resolve().parent
    places = ((folder / RUNS, folder), (around / "audit", around), (folder / ZIP, folder / ZIP))
    return next(([place] for mark, place in places if mark.exists()), [])
