"""The pack: what is in it, what its documents say, and that public validators accept them."""

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard
from pypdf import PdfReader

from fedge.encoding import canonical, digest, parse
from fedge.reports.words import LANGUAGES, words
from fedge.running import Result
from tests.pack.conftest import call

FILES = {
    "report.json", "report.html", "report.pdf", "data_use.csv", "ropa.csv", "withdrawals.csv", "events.csv",
    "model-card.md", "ml-bom.cdx.json", "README.md", "verify.py", "manifest.json", "pack.zip",
}  # fmt: skip


LANGUAGE_FORMATS = {"en": "html", "de": "html,pdf", "es": "html,csv"}
"""One language is set as PDF: the text is the same in all, and setting takes a second."""


def pages(path: Path) -> list[str]:
    return [page.extract_text() for page in PdfReader(path).pages]


def test_everything_is_there_and_carries_the_digest(built: Path) -> None:
    folder = built / "report"
    assert {p.name for p in folder.iterdir()} == FILES
    report = (folder / "report.json").read_bytes()
    assert canonical(parse(report)) == report
    for name in ("report.html", "data_use.csv", "ropa.csv", "withdrawals.csv", "events.csv", "model-card.md",
                 "ml-bom.cdx.json", "README.md"):  # fmt: skip
        assert digest(report) in (folder / name).read_text()


def test_the_pdf_is_tagged_has_its_fonts_and_the_digest_on_each_page(built: Path) -> None:
    reader = PdfReader(built / "report" / "report.pdf")
    root = reader.trailer["/Root"].get_object()
    assert root["/MarkInfo"]["/Marked"] and root["/Lang"] == "en" and "/StructTreeRoot" in root
    wanted = digest((built / "report" / "report.json").read_bytes())
    assert all(wanted in page.extract_text().replace("\n", "") for page in reader.pages)
    fonts = [f.get_object() for p in reader.pages for f in p["/Resources"]["/Font"].values()]
    below = [f["/DescendantFonts"][0].get_object()["/FontDescriptor"] for f in fonts]
    assert fonts and all({"/FontFile2", "/FontFile3"} & set(d) for d in below)


def test_the_zip_holds_what_anybody_may_see_and_the_verifier_runs_alone(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built / "report" / "pack.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    inside = {n.removeprefix(f"pack/runs/{built.name}/").split("/")[0] for n in names if "/runs/" in n}
    assert inside == {"audit", "receipts", "config.json", "model.safetensors"}
    run = tmp_path / "pack" / "runs" / built.name
    done = subprocess.run(
        [sys.executable, "-I", tmp_path / "pack" / "verify.py", run, "--policy", built / "audit" / "policy.txt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_same_log_gives_the_same_pack_but_for_the_time(built: Path, tmp_path: Path) -> None:
    assert call("report", "build", built, "--out", tmp_path / "again", "--formats", "csv,json")[0] == 0
    one, other = (parse((f / "report.json").read_bytes()) for f in (built / "report", tmp_path / "again"))
    assert one | {"made_at": ""} == other | {"made_at": ""}
    pictures = {"report.html", "report.pdf", "model-card.md", "ml-bom.cdx.json", "pack.zip"}
    assert {p.name for p in (tmp_path / "again").iterdir()} == FILES - pictures


def test_the_model_card_is_one_that_the_hub_reads(built: Path, finished: Result) -> None:
    card = ModelCard.load(built / "report" / "model-card.md")
    assert card.data.eval_results is not None
    found = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert found["accuracy"] == pytest.approx(finished.scores["accuracy"])
    assert card.data.library_name == "fedge" and "does not prove" in card.text


def test_the_bill_of_materials_is_valid_cyclonedx(built: Path) -> None:
    text = (built / "report" / "ml-bom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    model = json.loads(text)["metadata"]["component"]
    assert digest((built / "model.safetensors").read_bytes()) == f"sha256:{model['hashes'][0]['content']}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_every_section(built: Path, tmp_path: Path, language: str) -> None:
    out = tmp_path / language
    assert (
        call("report", "build", built, "--out", out, "--language", language, "--formats", LANGUAGE_FORMATS[language])[0]
        == 0
    )
    html, say = (out / "report.html").read_text(), words(language)
    assert f'<html lang="{language}">' in html
    for key in ("annex.title", "art12.title", "ropa.title", "dpia.title", "retention.title", "verify.title",
                "glossary.title", "limits.title", "ask.intact", "verdict.attested"):  # fmt: skip
        assert say(key) in html
    if (out / "report.pdf").exists():
        assert say("limits.title") in " ".join(pages(out / "report.pdf")).replace("\n", " ")
    assert call("report", "check", out, "--run", built)[0] == 0


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


def test_the_tables_are_what_the_log_says(built: Path, finished: Result) -> None:
    folder, log = built / "report", finished.verification.entries
    uses = [e for e in log if e.event == "data_use"]
    assert [(int(r["entry"]), r["used"]) for r in rows(folder / "data_use.csv")] == [
        (e.index, e.payload["counts"]["used"]) for e in uses
    ]
    assert len(rows(folder / "events.csv")) == len(log)
    assert [r["client"] for r in rows(folder / "withdrawals.csv")] == ["hospital-1"]
    assert {r["dataset"] for r in rows(folder / "ropa.csv")} == {f"cancer/hospital-{n}" for n in (1, 2, 3)}


def test_one_client_and_a_period(built: Path, tmp_path: Path, finished: Result) -> None:
    assert call("report", "build", built, "--client", "hospital-2", "--out", tmp_path / "one")[0] == 0
    report = parse((tmp_path / "one" / "report.json").read_bytes())["runs"][0]
    assert [c["client"] for c in report["clients"]] == ["hospital-2"] and report["acts"] == []
    assert report["totals"]["updates"]["value"] == 3
    assert {r["client"] for r in rows(tmp_path / "one" / "data_use.csv")} == {"hospital-2"}
    closed = [e.payload["at"] for e in finished.verification.entries if e.event == "round_close"]
    words_ = ("report", "build", built, "--from", closed[0], "--to", closed[1], "--out", tmp_path / "period")
    assert call(*words_)[0] == 0
    report = parse((tmp_path / "period" / "report.json").read_bytes())["runs"][0]
    assert [r["round"] for r in report["rounds"]] == [1, 2] and report["run"]["closed_at"]["value"] is None
    for name in ("one", "period"):
        assert call("report", "check", tmp_path / name, "--run", built)[0] == 0


def test_several_runs_in_one_report(built: Path, people: Result, tmp_path: Path) -> None:
    code, said = call("report", "build", built, people.folder, "--out", tmp_path / "both")
    assert code == 0, said
    report = parse((tmp_path / "both" / "report.json").read_bytes())
    assert [r["name"] for r in report["runs"]] == [built.name, people.folder.name]
    assert report["signer"] is None, "two servers, and no key was given"
    code, said = call("report", "check", tmp_path / "both" / "pack.zip")
    assert code == 0, said
    assert {f"model-card-{r['name']}.md" for r in report["runs"]} <= {p.name for p in (tmp_path / "both").iterdir()}


def test_what_changed_between_two_runs(built: Path, people: Result) -> None:
    assert call("report", "diff", built, built) == (
        0,
        "0 changes, 0 of them possibly a substantial modification: people decide\n",
    )
    code, said = call("report", "diff", built, people.folder, "--format", "json")
    found = json.loads(said)
    assert code == 1
    assert {"participants", "task", "configuration"} <= {c["kind"] for c in found}
    gone = [c for c in found if c["where"] == "hospital-1"]
    assert gone == [
        {"kind": "participants", "where": "hospital-1", "what": "client", "before": "present", "after": "absent",
         "substantial": True}
    ]  # fmt: skip
