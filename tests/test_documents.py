"""What the documents promise is so: the README program runs, commands named exist, links lead somewhere."""

import re
from pathlib import Path

import click
import pytest
import typer.main

from fedge.cli.root import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of `language` in a document."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for word, text in fenced if word == language]


def test_the_readme_program_is_short_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    exec(compile(program.replace("task=iris", '"rounds=2", "training.steps=5", task=iris'), "README.md", "exec"), {})
    assert "accuracy" in capsys.readouterr().out
    assert list(tmp_path.glob("runs/iris-*/report.html"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_command_named_exists(path: Path) -> None:
    known = commands(typer.main.get_command(app))
    named = re.findall(r"^(?:\$ )?fedge ((?:[a-z-]+ ?)+)", "\n".join(blocks(path, "")), re.MULTILINE)
    unknown = [words for words in named if not any(words.startswith(name) for name in known)]
    assert unknown == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert missing == []


def commands(command: click.Command, prefix: str = "") -> set[str]:
    """Return the full names of all leaf commands below `command`."""
    if not isinstance(command, click.Group):
        return {prefix.strip()}
    context = click.Context(command)
    below = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {full for name, sub in below.items() if sub is not None for full in commands(sub, f"{prefix} {name}")}
