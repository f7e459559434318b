"""One edited number is found, in every form; and what is not edited resolves in the log, all of it."""

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedge.cli.report.reading import MADE_BY
from fedge.encoding import canonical, digest, parse
from fedge.errors import FedgeError
from fedge.pack.check import check
from fedge.pack.forms import Forms
from fedge.pack.manifest import MANIFEST
from fedge.reports.bundle import Bundle
from fedge.signing import PrivateKey, save_private
from tests.pack.conftest import call


def checked(run: Path, *options: Any) -> dict[str, Any]:
    code, said = call("report", "check", run / "report", "--format", "json", *options)
    found: dict[str, Any] = json.loads(said[: said.rindex("}") + 1])
    assert code == (0 if found["holds"] else 7)
    return found


def grades(found: dict[str, Any]) -> dict[str, str]:
    return {c["name"]: c["grade"] for c in found["checks"]}


def test_a_pack_holds_and_all_references_resolve(built: Path) -> None:
    found = checked(built)
    assert found["holds"] and found["references"] > 100
    report = json.loads((built / "report" / "report.json").read_text())
    assert report["signer"]["whose"] == "server"
    assert {name for name, grade in grades(found).items() if grade != "PROVEN"} == set()
    assert set(grades(found)) >= {
        "report.html",
        "report.pdf",
        "data_use.csv",
        "ropa.csv",
        "withdrawals.csv",
        "pack.zip",
    }


def test_the_zip_holds_by_itself_in_another_place(built: Path, tmp_path: Path) -> None:
    shutil.copy(built / "report" / "pack.zip", tmp_path / "sent.zip")
    code, said = call("report", "check", tmp_path / "sent.zip", "--policy", built / "audit" / "policy.txt")
    assert code == 0, said
    assert "by your policy" in said


def test_a_folder_in_another_place_is_checked_against_the_logs_in_its_zip(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "report", tmp_path / "sent")
    code, said = call("report", "check", tmp_path / "sent")
    assert code == 0, said


def test_other_words_of_another_version_are_no_forgery_but_other_numbers_are(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later fedge may say the same in other words: then the signed digest speaks, and the figures are compared."""
    page = packed / "report" / "report.html"
    monkeypatch.setattr(Forms, "parts", lambda forms: {"report.html": lambda: [b"in other words"]})
    assert grades(checked(packed))["report.html"] == "FAILED"
    monkeypatch.setattr("fedge.cli.report.check.MADE_BY", "fedge 99.0")
    assert grades(checked(packed))["report.html"] == "MISSING"
    page.write_text(page.read_text(encoding="utf-8").replace("0.9", "0.8", 1), encoding="utf-8")
    assert grades(checked(packed))["report.html"] == "FAILED"


def test_nobody_but_the_server_can_say_that_another_version_wrote_a_form(packed: Path) -> None:
    """An edited form, an older maker claimed, a manifest made anew: without the server's signature it is a forgery."""
    folder = packed / "report"
    plain = parse((folder / "report.json").read_bytes()) | {"made_by": "fedge 0.0.9", "signer": None}
    (folder / "report.json").write_bytes(canonical(plain))
    for name in ("report.html", "verify.py"):
        (folder / name).write_bytes((folder / name).read_bytes().replace(b"0", b"1", 1))
    names = [path for path in folder.iterdir() if path.name not in {"report.json", MANIFEST, "pack.zip"}]
    files = {path.name: digest(path.read_bytes()) for path in names}
    said = {"schema": "fedge.report_manifest/1", "report": digest(canonical(plain)), "files": files}
    (folder / MANIFEST).write_bytes(canonical(said))
    found = checked(packed)
    assert not found["holds"]
    assert (grades(found)["report.html"], grades(found)["verify.py"]) == ("FAILED", "FAILED")


# ---- one number, in each form ---------------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield path and value of everything in a report that is a number, a text or a truth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from places(item, (*path, n))
    elif value is not None:
        yield path, value


def edited(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    digit = re.search(r"\d", value)
    if digit is None:
        return value + "x"
    return value[: digit.start()] + str((int(digit[0]) + 1) % 10) + value[digit.end() :]


ASKED = {"made_at", "made_by", "language", "schema", "policy", "scope", "signer"}
"""What was asked for is no figure; that it was not edited, the signature says."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_edited_figure_of_the_json_is_named(built: Path, data: st.DataObject) -> None:
    report = parse((built / "report" / "report.json").read_bytes())
    figures = [(p, v) for p, v in places(report) if p[0] not in ASKED and p[2:] != ("name",)]
    path, value = data.draw(st.sampled_from(figures))
    holder = report
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = edited(value)
    folder = built.parent / "json-edited"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_bytes(canonical(report))
    found = check(folder, [Bundle(built)], MADE_BY)
    assert not found.holds
    failed = {c.name: c.text for c in found.checks if c.grade == "FAILED"}
    assert "report.json" in failed
    assert str(path[-1]) in failed["report.json"] or "entries" in failed.get("references", "")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), junk=st.sampled_from([None, 0, "x", [], {}, [1], {"a": 1}, "=1"]))
def test_a_report_of_the_wrong_shape_is_an_answer_and_no_crash(built: Path, data: st.DataObject, junk: Any) -> None:
    report = parse((built / "report" / "report.json").read_bytes())
    path = data.draw(st.sampled_from([p for p, _ in places(report)]).flatmap(lambda p: st.sampled_from(prefixes(p))))
    holder = report
    for step in path[:-1]:
        holder = holder[step]
    if holder[path[-1]] == junk:
        return
    holder[path[-1]] = junk
    folder = built.parent / "json-junk"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_bytes(canonical(report))
    try:
        found = check(folder, [Bundle(built)], MADE_BY)
    except FedgeError:
        return
    assert not found.holds or path[0] in ASKED


def prefixes(path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [path[:n] for n in range(1, len(path) + 1)]


@pytest.mark.parametrize("name", ["report.html", "data_use.csv", "withdrawals.csv", "ropa.csv", "events.csv"])
def test_an_edited_number_in_a_text_is_found_by_the_line(packed: Path, name: str) -> None:
    path = packed / "report" / name
    text = path.read_bytes().decode()
    numbers = list(re.finditer(r"(?<=[>,\s\"])\d+(?:\.\d+)?(?=[<,\s])", text))
    assert numbers
    spot = numbers[len(numbers) // 2]
    path.write_bytes((text[: spot.start()] + edited(spot[0]) + text[spot.end() :]).encode())
    found = checked(packed)
    assert {n for n, g in grades(found).items() if g == "FAILED"} == {name, "pack.zip"}
    assert "first difference" in next(c["text"] for c in found["checks"] if c["name"] == name)


def test_an_edited_pdf_model_card_bill_of_materials_and_verifier_are_found(packed: Path) -> None:
    for name in ("report.pdf", "model-card.md", "ml-bom.cdx.json", "verify.py", "README.md"):
        path = packed / "report" / name
        before = path.read_bytes()
        path.write_bytes(before.replace(b"1", b"2", 1))
        assert grades(checked(packed))[name] == "FAILED"
        code, said = call("report", "check", path)
        assert (code, name in said) == (7, True)
        path.write_bytes(before)
    assert checked(packed)["holds"]


def test_an_edited_number_is_found_where_the_editor_signs_anew(packed: Path, tmp_path: Path) -> None:
    """Whoever holds the server's key can sign a false report; the log still says what is true."""
    folder = packed / "report"
    report = parse((folder / "report.json").read_bytes())
    report["runs"][0]["totals"]["withdrawals"]["value"] = 0
    (folder / "report.json").write_bytes(canonical(report))
    found = checked(packed)
    assert grades(found)["report.json"] == "FAILED"
    (says,) = [c["text"] for c in found["checks"] if c["name"] == "report.json"]
    assert "totals.withdrawals.value: the report says 0, the log says 1" in says


def test_a_reference_to_an_entry_that_is_not_there_is_found(packed: Path) -> None:
    report = parse((packed / "report" / "report.json").read_bytes())
    report["runs"][0]["totals"]["withdrawals"]["entries"] = "99999"
    (packed / "report" / "report.json").write_bytes(canonical(report))
    assert grades(checked(packed))["references"] == "FAILED"


def test_an_edited_member_of_the_zip_is_found(packed: Path) -> None:
    old, new = packed / "report" / "pack.zip", packed / "report" / "new.zip"
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        for member in source.infolist():
            data = source.read(member)
            target.writestr(
                member.filename, data.replace(b"submitted", b"refused", 1) if "data_use" in member.filename else data
            )
    new.replace(old)
    assert grades(checked(packed))["pack.zip"] == "FAILED"
    code, said = call("report", "check", old)
    assert (code, "data_use.csv" in said) == (7, True)


def test_a_changed_log_is_found(packed: Path) -> None:
    (tile,) = (packed / "audit" / "tile" / "entries").rglob("*.p/*")
    tile.write_bytes(tile.read_bytes()[:-40] + b"0" * 40)
    found = checked(packed)
    assert grades(found)[f"log of {packed.name}"] == "FAILED"
    assert grades(found)["report.json"] == "FAILED"


# ---- who signs ------------------------------------------------------------------------------------------------------


def test_without_a_key_it_says_that_nobody_signed(packed: Path) -> None:
    shutil.rmtree(packed / "server")
    code, said = call("report", "build", packed)
    assert (code, "not signed" in said) == (0, True)
    found = checked(packed)
    assert found["holds"] and grades(found)["signature"] == "MISSING"


def test_with_a_key_of_ones_own(packed: Path, tmp_path: Path) -> None:
    save_private(PrivateKey(b"k" * 32), tmp_path / "own.key")
    assert call("report", "build", packed, "--key", tmp_path / "own.key")[0] == 0
    found = checked(packed)
    assert found["holds"] and grades(found)["signature"] == "DECLARED"


@pytest.mark.parametrize("change", ["signature", "digest", "gone", "garbage"])
def test_a_manifest_that_does_not_hold(packed: Path, change: str) -> None:
    path = packed / "report" / MANIFEST
    said = parse(path.read_bytes())
    if change == "signature":
        said["signatures"][0]["sig"] = said["signatures"][0]["sig"][:-8] + "AAAAAA=="
        path.write_bytes(canonical(said))
    elif change == "digest":
        path.write_bytes(path.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    elif change == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\x00garbage")
    assert grades(checked(packed))["signature"] == ("MISSING" if change == "gone" else "FAILED")


def test_bad_input_is_one_sentence(packed: Path, tmp_path: Path) -> None:
    for words, code, why in (
        (["report", "check", tmp_path / "nothing"], 4, "does not exist"),
        (["report", "check", packed / "report" / "report.html", "--run", packed / "receipts"], 4, "holds no run"),
        (["report", "build", packed, "--client", "hospital-9"], 2, "known: hospital-1"),
        (["report", "build", packed, "--from", "soon"], 2, "--from"),
        (["report", "build", packed, "--from", "1h", "--to", "2h"], 2, "later than"),
        (["report", "build", packed, "--language", "fr"], 2, "known: en, de, es"),
        (["report", "build", packed, "--formats", "docx"], 2, "docx"),
        (["report", "build", packed, packed], 2, "two of the runs"),
        (["report", "build", packed, "--policy", tmp_path / "no.txt"], 4, "policy"),
        (["report", "build", packed / "report" / "pack.zip"], 2, "--out"),
    ):
        found, said = call(*words)
        assert found == code and why in said, (words, said)
    (packed / "report" / "report.json").write_text("{}")
    assert call("report", "check", packed)[0] == 7
    (packed / "report" / "report.json").unlink()
    assert "cannot read" in call("report", "check", packed / "report")[1]
