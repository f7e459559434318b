"""The commands that read a log and make evidence of it, as a person calls them."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Called

from fedge.audit.leaves import EVENTS
from fedge.cli.root import app
from fedge.errors import AuditError, ConfigError, FedgeError, StorageError
from fedge.journal import SqliteJournal
from fedge.rounds.findings import Finding, Findings
from fedge.running import Result


def call(*words: str | Path) -> Called:
    return CliRunner().invoke(app, ["audit", *map(str, words)])


def plain(*words: str | Path) -> Any:
    called = call(*words, "--format", "json")
    assert called.exit_code == 0, called.output
    return json.loads(called.stdout)


def refused(kind: type[FedgeError], *words: str | Path) -> str:
    error = call(*words).exception
    assert isinstance(error, kind), error
    return str(error)


@pytest.fixture
def run(tmp_path: Path, finished: Result) -> Path:
    """Return a copy of a finished run, under its own name."""
    return Path(shutil.copytree(finished.folder, tmp_path / finished.folder.name))


def test_show_narrows_down(finished: Result) -> None:
    everything = plain("show", finished.folder)
    assert [e["index"] for e in everything] == list(range(finished.verification.size))
    uses = plain("show", finished.folder, "--client", "hospital-1", "--event", "data_use", "--round", "2")
    assert [(e["event"], e["client"], e["round"]) for e in uses] == [("data_use", "hospital-1", 2)]
    assert plain("show", finished.folder, "--since", "2999-01-01T00:00:00Z") == []
    assert len(plain("show", finished.folder, "--until", "2999-01-01T00:00:00Z")) == len(everything)
    assert "hospital-1" in call("show", finished.folder).stdout
    (whole,) = [e for e in everything if e["index"] == 3]
    assert json.loads(call("show", finished.folder, "--entry", "3").stdout) == whole


def test_show_names_what_it_cannot(finished: Result, tmp_path: Path) -> None:
    assert "data_use" in refused(ConfigError, "show", finished.folder, "--event", "datause")
    assert "entries 0 to" in refused(ConfigError, "show", finished.folder, "--entry", "9999")
    assert "--since" in refused(ConfigError, "show", finished.folder, "--since", "yesterday")
    assert "cannot be read" in refused(AuditError, "show", tmp_path)


def test_uses_of_a_data_set(finished: Result) -> None:
    rows = plain("uses", finished.folder, "--dataset", "cancer/hospital-1")
    assert [(r["client"], r["work"], r["round"]) for r in rows] == [("hospital-1", "train", n) for n in (1, 2, 3)]
    assert plain("uses", finished.folder, "--client", "hospital-9") == []
    assert len(plain("uses", finished.folder, finished.folder)) == 2 * len(plain("uses", finished.folder))
    assert "used data" in call("uses", finished.folder).stdout


def test_a_proof_that_stands_by_itself(run: Path, tmp_path: Path) -> None:
    policy, proof = run / "audit" / "policy.txt", tmp_path / "entry.tlog-proof"
    (use, *_) = plain("show", run, "--event", "data_use")
    assert call("prove", run, str(use["index"]), "--out", proof).exit_code == 0
    assert call("prove", run, str(use["index"])).stdout == proof.read_text()
    found = plain("receipt", proof, "--policy", policy)
    assert (found["entry"], found["payload"]["client"], found["event"]) == (use["index"], use["client"], "data_use")
    assert len(found["vouching"]) >= found["quorum"]
    assert "PROVEN" in call("receipt", proof, "--policy", policy).stdout

    extra = next(line for line in proof.read_text().splitlines() if line.startswith("extra "))
    other = tmp_path / "other.tlog-proof"
    assert call("prove", run, "0", "--out", other).exit_code == 0
    opening = next(line for line in other.read_text().splitlines() if line.startswith("extra "))
    proof.write_text(proof.read_text().replace(extra, opening))
    assert "do not lead from its entry" in refused(AuditError, "receipt", proof, "--policy", policy)
    proof.write_text(proof.read_text().replace(opening + "\n", ""))
    assert "does not hold its entry" in refused(AuditError, "receipt", proof, "--policy", policy)
    assert "entries 0 to" in refused(ConfigError, "prove", run, "9999")


def test_a_clients_own_receipt_needs_no_log(run: Path, tmp_path: Path) -> None:
    policy = shutil.copy(run / "audit" / "policy.txt", tmp_path)
    kept = shutil.copytree(run / "receipts", tmp_path / "kept")
    shutil.rmtree(run)
    for file in sorted(kept.rglob("*.tlog-proof")):
        found = plain("receipt", file, "--policy", policy)
        assert (found["signer"], found["payload"]["seq"]) == (file.parent.name, int(file.stem[-4:]))


# ---- reconcile -------------------------------------------------------------------------------------------------------


def grave(run: Path) -> list[tuple[str, str, int | None]]:
    called = call("reconcile", run, "--format", "json")
    assert isinstance(called.exception, AuditError)
    return [(d["client"], d["kind"], d["statement"]) for d in json.loads(called.stdout)["differences"]]


def test_an_honest_log_agrees(run: Path) -> None:
    found = plain("reconcile", run)
    assert (found["agrees"], found["differences"]) == (True, [])
    assert all(found["statements"].values())
    assert "holds what its clients say" in call("reconcile", run).stdout


def test_a_shorter_log_is_named_entry_by_entry(run: Path, tmp_path: Path) -> None:
    """The server shows an older state of its log, signed and vouched for in its time."""
    early = shutil.copytree(run, tmp_path / "early")
    cut(early, run)
    differences = grave(early)
    assert ("hospital-1", "forked", None) in differences, "a pinned checkpoint is longer than the log"
    assert ("hospital-1", "dropped", 4) in differences
    assert {c for c, _, _ in differences} == {"hospital-1", "hospital-2", "hospital-3"}


def cut(shown: Path, run: Path) -> None:
    """Make `shown` the log as it was after its tenth entry, with the server's own keys."""
    from fedge.audit.log import AuditLog
    from fedge.audit.trust import parse_trust
    from fedge.signing import load_private

    entries = SqliteJournal(run / "server" / "log.db", "entries").read(0, 10)
    journal = SqliteJournal(shown / "server" / "other.db", "entries")
    journal.append(entries)
    log = AuditLog(journal, f"fedge/{run.name}", load_private(run / "server" / "log.key"))
    policy = parse_trust((run / "audit" / "policy.txt").read_text())
    shutil.rmtree(shown / "audit")
    log.publish(shown / "audit", log.signed_checkpoint(), policy, lambda _: None)


def test_a_client_that_has_forgotten(run: Path) -> None:
    (run / "clients" / "hospital-2" / "state.db").unlink()
    assert grave(run)[0] == ("hospital-2", "unknown", 0)


def test_what_was_found_and_cleared(run: Path) -> None:
    home = run / "clients" / "hospital-3"
    assert plain("findings", run) == []
    Findings(SqliteJournal(home / "state.db", "findings")).keep(
        Finding(run.name, "2026-11-23T10:00:00.000Z", "log forked: …", "note", "note", "")
    )
    assert grave(run) == [("hospital-3", "found", None)]
    assert call("trust-again", home, run.name, "--because", "a test").exit_code == 0
    assert [row["kind"] for row in plain("findings", home)] == ["finding", "cleared"]
    assert "a test" in call("findings", run).stdout
    assert plain("reconcile", run)["agrees"]
    assert "nothing to clear" in refused(ConfigError, "trust-again", home, run.name, "--because", "again")


# ---- export ----------------------------------------------------------------------------------------------------------


def test_an_export_verifies_by_itself(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "public"
    policy = shutil.copy(run / "audit" / "policy.txt", tmp_path / "policy.txt")
    files = plain("export", run, out)["files"]
    assert sorted(files) == sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    private = [f for f in files if f.endswith((".db", ".key")) or f.startswith(("server", "clients"))]
    assert private == []
    words = [sys.executable, "-I", "verify.py", ".", "--policy", str(policy), "--format", "json"]
    done = subprocess.run(words, cwd=out, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["run"] == run.name
    assert "exists already" in refused(StorageError, "export", run, out)


def test_a_zip_is_the_same_each_time(run: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        assert call("export", run, tmp_path / folder / "log.zip", "--zip").exit_code == 0
    assert (tmp_path / "one" / "log.zip").read_bytes() == (tmp_path / "two" / "log.zip").read_bytes()
    assert "log/audit/checkpoint" in zipfile.ZipFile(tmp_path / "one" / "log.zip").namelist()
    assert not list(tmp_path.glob("*/*.partial"))


def test_what_does_not_hold_is_not_exported(run: Path, tmp_path: Path) -> None:
    (run / "model.safetensors").write_bytes(b"another model")
    assert "is not exported" in refused(AuditError, "export", run, tmp_path / "public")
    assert not (tmp_path / "public").exists()


# ---- schema ----------------------------------------------------------------------------------------------------------


def test_schemas_are_printed_listed_and_written(tmp_path: Path) -> None:
    assert json.loads(call("schema", "data_use").stdout)["title"] == "fedge.data_use/1"
    assert [line.split("\t")[0] for line in call("schema").stdout.splitlines()] == list(EVENTS)
    assert call("schema", "--out", tmp_path).exit_code == 0
    assert len(list(tmp_path.glob("*.schema.json"))) == len(EVENTS)
    assert "known:" in refused(ConfigError, "schema", "nothing")
