"""Commands that are loaded when they are called: `fedge audit verify` must not wait for torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
import typer
from typer.core import TyperGroup
from typer.main import get_command

SETTINGS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Lazy:
    """Where a command is: a function, or a Typer of several, named `attribute` in `module`; and its help in a line."""

    module: str
    attribute: str
    summary: str
    epilog: str | None = None

    def load(self, name: str) -> click.Command:
        """Import the command's module and return the command."""
        target = getattr(import_module(self.module), self.attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False, rich_markup_mode="rich")
            target.command(name, epilog=one_a_line(self.epilog), context_settings=SETTINGS)(function)
        command = get_command(target)
        command.name = name
        return command

    def line(self, name: str) -> click.Command:
        """Return what the list of commands needs to know of this one, without loading it."""
        return click.Command(name, help=self.summary)


def one_a_line(epilog: str | None) -> str | None:
    """Return `epilog` as Typer prints it line by line: it joins lines that no empty one parts."""
    return epilog and "\n\n".join(line for line in epilog.splitlines() if line.strip())


def group(commands: Mapping[str, Lazy]) -> type[TyperGroup]:
    """Return the class of a group that holds `commands`, in their order, and loads the one that is called."""

    class LazyGroup(TyperGroup):
        _listing = False

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = {name: command.line(name) for name, command in commands.items()}

        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(commands)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if self._listing or cmd_name not in commands:
                return self.commands.get(cmd_name)
            return commands[cmd_name].load(cmd_name)

        def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            self._listing = True
            super().format_help(ctx, formatter)
            self._listing = False

    return LazyGroup
