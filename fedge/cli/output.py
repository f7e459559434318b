"""How commands print: one console, one `--format`, numbers as people read them."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console


class _Output(Console):
    """A console whose reader may leave (`| head`): that is no fault, where rich exits with 1."""

    def on_broken_pipe(self) -> None:
        """Leave the answer to `cli.main`."""
        raise BrokenPipeError


console = _Output(highlight=False)


class Format(StrEnum):
    """Text for people, JSON for programs."""

    text = "text"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]


def print_json(value: Any) -> None:
    """Print `value` as indented JSON on stdout; numbers JSON does not know become null."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with `digits` decimals, `—` for none, `∞` for infinity."""
    if value is None:
        return "—"
    return f"{value:.{digits}f}" if math.isfinite(value) else "∞"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
