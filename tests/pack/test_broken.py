"""A broken bundle still gives a report: what is intact is shown, what is not is named, and nothing is PROVEN."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedge.encoding import parse
from fedge.pack.forms import HTML
from tests.pack.conftest import call


def tile(run: Path, level: str = "entries") -> Path:
    (path,) = (run / "audit" / "tile" / level).rglob("*.p/*")
    return path


def flips_a_byte(run: Path) -> None:
    data = bytearray(tile(run).read_bytes())
    data[len(data) // 2] ^= 1
    tile(run).write_bytes(data)


def cuts_the_entries(run: Path) -> None:
    tile(run).write_bytes(tile(run).read_bytes()[: -len(tile(run).read_bytes()) // 3])


def loses_the_entries(run: Path) -> None:
    shutil.rmtree(run / "audit" / "tile" / "entries")


def garbles_the_checkpoint(run: Path) -> None:
    (run / "audit" / "checkpoint").write_bytes(b"\xff\x00garbage")


def loses_the_policy(run: Path) -> None:
    (run / "audit" / "policy.txt").unlink()


def loses_everything_but_the_folder(run: Path) -> None:
    shutil.rmtree(run / "audit")
    (run / "audit").mkdir()


def changes_the_model(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"another")


def breaks_a_receipt(run: Path) -> None:
    next((run / "receipts").rglob("*.tlog-proof")).write_text("no receipt")


BREAKS: dict[Callable[[Path], None], range] = {
    flips_a_byte: range(10, 25),
    cuts_the_entries: range(5, 25),
    loses_the_entries: range(1),
    garbles_the_checkpoint: range(1),
    loses_the_policy: range(1),
    loses_everything_but_the_folder: range(1),
    changes_the_model: range(20, 40),
    breaks_a_receipt: range(20, 40),
}
"""What breaks -> how many entries of some 25 can still be shown: those that the damage has not reached."""


def grades(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "grade" in value and "entries" in value:
            yield value["grade"]
        for item in value.values():
            yield from grades(item)
    elif isinstance(value, list):
        for item in value:
            yield from grades(item)


@pytest.mark.parametrize("damage", BREAKS, ids=lambda d: d.__name__)
def test_it_has_a_report_that_says_so(packed: Path, damage: Callable[[Path], None]) -> None:
    damage(packed)
    code, said = call("report", "build", packed)
    assert (code, "does not hold; the report says so" in said) == (7, True)
    run = parse((packed / "report" / "report.json").read_bytes())["runs"][0]
    assert "PROVEN" not in set(grades(run))
    shown = run["verification"]["shown"]
    assert shown in BREAKS[damage], shown
    html = (packed / "report" / HTML).read_text()
    assert "The log does not hold." in html and '<section class="verdict bad"' in html
    if shown < 20:
        assert len(run["verification"]["damage"]) + shown >= run["verification"]["entries"]
    if shown > 1:
        assert "hospital-1" in html
    code, said = call("report", "check", packed, "--format", "json")
    found = {c["name"]: c["grade"] for c in json.loads(said[: said.rindex("}") + 1])["checks"]}
    assert code == 7 and found["report.json"] == "PROVEN" and found[HTML] == "PROVEN", (
        "the report of a broken log is true"
    )


def test_a_torn_zip(packed: Path, tmp_path: Path) -> None:
    data = bytearray((packed / "report" / "pack.zip").read_bytes())
    place = data.index(b"/tile/entries/", 0)
    data[place + 200] ^= 0xFF
    (tmp_path / "torn.zip").write_bytes(data)
    code, _ = call("report", "build", tmp_path / "torn.zip", "--out", tmp_path / "torn")
    run = parse((tmp_path / "torn" / "report.json").read_bytes())["runs"][0]
    assert code == 7
    assert any("in the ZIP are damaged" in d["reason"] for d in run["verification"]["damage"])
    (tmp_path / "torn.zip").write_bytes(data[: len(data) // 2])
    assert (
        "neither the folder of a run nor a ZIP" in call("report", "build", tmp_path / "torn.zip", "--out", tmp_path)[1]
    )
