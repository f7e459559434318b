"""`fedge consent` at the desk of a hospital: what it prints, its exit codes, and what is on disk afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from fedge.cli.consent import app
from fedge.cli.consent.bring import arrivals
from fedge.consent.store import PermissionStore
from fedge.errors import ConfigError, FedgeError, PermissionRecordError, StorageError
from fedge.journal import SqliteJournal
from fedge.rounds.folder import ClientFolder
from tests.consent.cases import r4
from tests.consent.test_dpv import PROFILE

SECRET = bytes(32)
ANNA = "p-0123456789abcdef"


@pytest.fixture
def client(tmp_path: Path) -> Path:
    folder = tmp_path / "hospital-1"
    folder.mkdir()
    (folder / "ledger.db").touch()
    ClientFolder(folder).secret.write_bytes(SECRET)
    return folder


def fedge(*words: object) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], env={"COLUMNS": "200"})


def ok(*words: object) -> str:
    result = fedge(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def fails(kind: type[FedgeError], *words: object) -> str:
    result = fedge(*words)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return str(result.exception)


def checked(client: Path, *words: object) -> tuple[int, dict[str, Any]]:
    result = fedge("check", client, *words, "--format", "json")
    return result.exit_code, json.loads(result.output)


def test_withdrawing_is_as_easy_as_giving(client: Path) -> None:
    assert "admitted for health-research" in ok("grant", client, "anna", "--identifier", "-p", "HRESCH")
    assert checked(client, "anna", "--identifier")[0] == 0
    assert "withdrawn for health-research" in ok("withdraw", client, "anna", "--identifier", "-p", "HRESCH")
    code, found = checked(client, "anna", "--identifier")
    assert (code, found["reason"], found["event"]["act"]) == (5, "withdrawn", "withdraw")
    given, taken = ({o.name for o in _command(name).params} for name in ("grant", "withdraw"))
    assert given == taken


def _command(name: str) -> Any:
    from typer.main import get_command

    return get_command(app).commands[name]  # type: ignore[attr-defined]


def test_check_as_of_a_day_says_which_event_decided(client: Path) -> None:
    ok("grant", client, ANNA, "-p", "HRESCH", "--until", "2030-01-01", "--condition", "NCU")
    assert checked(client, ANNA)[1]["unmet"] == "NCU"
    assert checked(client, ANNA, "--fact", "non_commercial")[0] == 0
    assert checked(client, ANNA, "--fact", "non_commercial", "--at", "2020-01-01")[1]["reason"] == "no_consent"
    assert checked(client, ANNA, "--fact", "non_commercial", "--at", "2030-01-02")[1]["reason"] == "expired"
    text = fedge("check", client, ANNA).output
    assert "not permitted" in text
    assert "(NCU)" in text
    assert "decided by" in text
    fails(PermissionRecordError, "check", client, ANNA, "-p", "world-domination")
    fails(ConfigError, "check", client, ANNA, "--at", "yesterday")


def test_a_permit_for_all_and_its_end(client: Path) -> None:
    ok("grant", client, "*", "-p", "HRESCH", "--record", "HDAB-17", "--basis", "eu-gdpr:A9-2-j")
    assert checked(client, ANNA)[0] == 0
    ok("grant", client, ANNA, "-p", "any-use", "--kind", "opt_out")
    assert checked(client, ANNA)[1]["reason"] == "opt_out"
    ok("withdraw", client, ANNA, "--kind", "opt_out")
    assert checked(client, ANNA)[0] == 0
    ok("revoke", client, "*")
    assert checked(client, ANNA)[1]["reason"] == "revoked"


def test_mistakes_are_explained(client: Path) -> None:
    assert "name one" in fails(ConfigError, "grant", client, ANNA)
    assert "unknown purpose" in fails(PermissionRecordError, "grant", client, ANNA, "-p", "bogus")
    assert "expected one of" in fails(PermissionRecordError, "grant", client, ANNA, "-p", "care", "--kind", "wish")
    assert "no permission record" in fails(PermissionRecordError, "history", client, "p-nobody")
    assert "time zone" in fails(
        ConfigError, "grant", client, ANNA, "-p", "care", "--from", "2026-01-01", "--zone", "Mars"
    )
    fails(ConfigError, "list", client.parent / "nowhere")


def test_import_detects_the_form_and_reports(client: Path, tmp_path: Path) -> None:
    path = tmp_path / "Consent.ndjson"
    path.write_text(
        f"{json.dumps(r4(patient={'reference': 'Patient/anna'}))}\n{json.dumps(r4(id='c2', modifierExtension=[]))}\n"
    )
    dry = json.loads(ok("import", client, path, "--dry-run", "--format", "json"))
    assert (dry["accepted"], dry["taken"], dry["dry_run"]) == (2, False, True)
    assert "2 events added" in (said := ok("import", client, path))
    assert "modifier_extension" in said
    assert "2 known already" in ok("import", client, path)
    assert ok("history", client, "anna", "--identifier").count("Consent/c1") == 1


def test_import_of_a_table_with_a_mapping(client: Path, tmp_path: Path) -> None:
    path = tmp_path / "forms.csv"
    path.write_text("patient,answer\nanna,yes\nbert,perhaps\n,yes\n")
    words = (
        "import",
        client,
        path,
        "--map",
        "patient=subject",
        "--map",
        "answer=act",
        "--set",
        "purposes=HRESCH",
        "--identifiers",
    )
    assert "nothing was taken" in fails(PermissionRecordError, *words)
    assert "the others were taken" in fails(PermissionRecordError, *words, "--accept-valid")
    assert checked(client, "anna", "--identifier")[0] == 0
    assert checked(client, "bert", "--identifier")[1]["reason"] == "unreadable"
    assert "expected NAME=VALUE" in fails(ConfigError, "import", client, path, "--map", "patient")
    assert "no column" in fails(PermissionRecordError, "import", client, path, "--map", "nobody=subject")


def test_what_goes_out_comes_in_again(client: Path, tmp_path: Path) -> None:
    ok("grant", client, ANNA, "-p", "HRESCH")
    ok("withdraw", client, ANNA)
    lines = ok("export", client)
    (tmp_path / "out.jsonl").write_text(lines)
    other = tmp_path / "hospital-2"
    other.mkdir()
    (other / "ledger.db").touch()
    ok("import", other, tmp_path / "out.jsonl")
    assert ok("export", other) == lines
    digests = {
        PermissionStore(SqliteJournal(ClientFolder(c).consent, "permissions")).snapshot_digest()
        for c in (client, other)
    }
    assert len(digests) == 1
    assert ok("export", client, "--as", "csv", "--subject", ANNA).count("\n") == 3


def test_a_consent_record_needs_a_profile(client: Path, tmp_path: Path) -> None:
    ok("grant", client, ANNA, "-p", "HRESCH")
    profile = tmp_path / "controller.yaml"
    ok("export", client, "--template", "--out", profile)
    assert "retention" in fails(PermissionRecordError, "export", client, "--as", "dpv", "--profile", profile)
    assert "--template" in fails(ConfigError, "export", client, "--as", "dpv")
    profile.write_text(yaml.safe_dump(PROFILE))
    record = json.loads(ok("export", client, "--as", "dpv", "--profile", profile))
    assert record["dpv:hasDataSubject"]["dpv:hasIdentifier"] == ANNA
    fails(StorageError, "export", client, "--as", "dpv", "--profile", tmp_path / "nowhere")


def test_lists_and_counts(client: Path) -> None:
    ok("grant", client, ANNA, "-p", "HRESCH")
    ok("refuse", client, "p-bert")
    assert ok("list", client).splitlines() == sorted([f"{ANNA}\tadmitted", "p-bert\trefused"])
    assert json.loads(ok("show", client, "--format", "json"))["people"] == {"admitted": 1, "refused": 1}
    assert json.loads(ok("show", client, ANNA, "--format", "json"))["now"] == "admitted"


def test_watching_takes_files_that_stand_still(tmp_path: Path) -> None:
    """Driven by the test: each wait is one look of the watcher, so nothing sleeps."""
    first, growing = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("1")
    (tmp_path / ".hidden").write_text("x")
    turns = iter(
        [
            lambda: growing.write_text("1"),  # appears: not yet taken, it may still be written
            lambda: growing.write_text("12"),  # grows: still not
            lambda: None,  # stands still: now
            lambda: first.write_text("changed"),
            lambda: None,
        ]
    )
    seen: list[tuple[int, str]] = []
    looked = 0

    def wait() -> bool:
        nonlocal looked
        looked += 1
        turn = next(turns, None)
        if turn is not None:
            turn()
        return turn is not None

    for path in arrivals(tmp_path, wait):
        seen.append((looked, path.name))
    assert seen == [(0, "a.jsonl"), (3, "b.jsonl"), (5, "a.jsonl")]
    with pytest.raises(StorageError, match="to watch"):
        next(arrivals(tmp_path / "nowhere", wait))


def test_one_bad_file_does_not_stop_the_watch(client: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.jsonl").write_text("{}\n")
    (inbox / "b.ndjson").write_text(json.dumps(r4(patient={"reference": "Patient/anna"})) + "\n")
    (inbox / "c.csv").write_bytes(b"\xff\xfe\xff")
    said = ok("watch", client, inbox, "--once")
    assert "b.ndjson: 1 events added" in said.replace("\n", "")
    assert checked(client, "anna", "--identifier")[0] == 0
