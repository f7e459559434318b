"""The command line: `fedge run`, `demo`, `audit`, `budget`, `consent`, `keys`, `report`, `check`.

Every mistake of a user ends as one paragraph on stderr and the exit code of its error class; a traceback
means a fault of fedge. `FEDGE_TRACE=1` shows it for every error.
"""

from __future__ import annotations

import os
import sys
import warnings

import click
from rich.console import Console
from rich.markup import escape

from fedge.errors import FedgeError, Interrupted


def main() -> None:
    """Run the command line; the entry point of the `fedge` script."""
    warnings.simplefilter("ignore")  # of libraries, about libraries; tests turn every warning into an error
    try:
        from fedge.cli.root import app  # here, so that an interrupt while torch loads is still answered cleanly

        code = app(standalone_mode=False)
    except FedgeError as error:
        if os.environ.get("FEDGE_TRACE") == "1":
            raise
        _explain(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _explain(Interrupted("stopped at once; what was released before stands, and the run can be resumed"))
        sys.exit(Interrupted.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output (`| head`) has left; nothing is wrong
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: FedgeError) -> None:
    kind = type(error).__name__.removesuffix("Error")
    Console(stderr=True, soft_wrap=True).print(f"[bold red]{kind}:[/] {escape(str(error))}")
