"""Light commands load light: the list of commands and the verifier wait for neither torch nor Flower."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fedge.cli import audit
from fedge.cli.lazy import Lazy
from fedge.cli.root import COMMANDS, app

HEAVY = {"torch", "flwr", "opacus", "scipy", "hydra", "sklearn"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["audit", "verify", "--help"]])
def test_loads_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from fedge.cli.root import app\n"
        f"result = CliRunner().invoke(app, {words!r}); assert result.exit_code == 0, result.output\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "command"), [*COMMANDS.items(), *audit.COMMANDS.items()])
def test_the_line_in_the_list_is_what_the_command_says(name: str, command: Lazy) -> None:
    said = (command.load(name).help or "").replace("\n", " ")
    assert said.startswith(command.summary.rstrip("."))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_offers_to_install_completion(name: str) -> None:
    said = CliRunner().invoke(app, [name, "--help"]).output
    assert "--help" in said
    assert "--install-completion" not in said


def test_a_near_name_is_suggested() -> None:
    result = CliRunner().invoke(app, ["rn"])
    assert result.exit_code == 2
    assert "Did you mean 'run'?" in result.output
