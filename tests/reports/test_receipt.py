"""A person's receipt says what the client's index says, in plain words, and each use in it can be proved offline."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from fedge.cli.clients import stores_of
from fedge.consent import dpv
from fedge.errors import ConfigError, FedgeError, PermissionRecordError
from fedge.ids import SubjectId
from fedge.rounds import lineage
from fedge.rounds.erasure import Stores
from fedge.rounds.folder import ClientFolder
from fedge.running import run
from tests.rounds.people import PERSON, RUN, call, records, task

PAGE = "how-my-data-was-used.html"


def site(copied: Path) -> tuple[Stores, SubjectId]:
    stores = stores_of(ClientFolder(copied / "clients" / "site-1"))
    found = stores.subjects.find(PERSON)
    assert found is not None
    return stores, found


class Page(HTMLParser):
    """What is on a page: its text, and every tag that could bring something from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.foreign = "", []  # type: ignore[var-annotated]
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "img", "link", "iframe"} or any(name.startswith("on") for name, _ in attrs):
            self.foreign.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_use_is_on_the_page_and_proved(copied: Path, tmp_path: Path) -> None:
    stores, person = site(copied)
    out = tmp_path / "receipt"
    call("receipt", copied, "-c", "site-1", "-s", PERSON, "--identifier", "--out", out)
    used = [u for u in lineage.uses(stores.memory, stores.approvals, copied.name, person) if u.read]
    proofs = sorted((out / "proofs").iterdir())
    assert len(proofs) == len(used) > 0
    page = Page((out / PAGE).read_text())
    assert page.foreign == []
    assert f"read for {len(used)} of the 3 tasks" in page.text and "admitted" in page.text
    assert person in page.text and PERSON not in page.text
    for proof, use in zip(proofs, used, strict=True):
        assert proof.name in page.text
        said = json.loads(call("audit", "receipt", proof, "--policy", out / "policy.txt", "--format", "json"))
        assert said["payload"]["round"] == use.leaf.round and said["payload"]["client"] == "site-1"
        assert len(said["vouching"]) >= said["quorum"], "the proof is under a checkpoint that witnesses vouch for"


def test_a_forged_proof_is_seen(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "receipt"
    call("receipt", copied, "-c", "site-1", "-s", PERSON, "--identifier", "--out", out)
    one, other = sorted((out / "proofs").iterdir())[:2]
    lines = one.read_text().split("\n")
    lines[1] = other.read_text().split("\n")[1]  # another entry in the place of the proved one
    one.write_text("\n".join(lines))
    with pytest.raises(FedgeError, match="do not lead"):
        call("audit", "receipt", one, "--policy", out / "policy.txt")


def test_the_consent_record_is_beside_it(copied: Path, tmp_path: Path) -> None:
    filled = dpv.template() | {
        "language": "en",
        "notice": {"id": "https://h.example/notice/1", "location": "https://h.example/notice/1"},
        "data_types": ["pd:MedicalHealth"],
        "controllers": ["https://h.example"],
        "recipients": [],
        "storage_location": "loc:DE",
        "retention": "P10Y",
        "jurisdiction": "loc:DE",
        "withdrawal_method": "https://h.example/withdraw",
        "parties": [
            {
                "id": "https://h.example",
                "name": "Hospital",
                "type": "dpv:DataController",
                "address": "Street 1",
                "contact": "mailto:a@h.example",
            }
        ],
    }
    (tmp_path / "controller.yaml").write_text(yaml.safe_dump(filled))
    _, person = site(copied)
    out = tmp_path / "receipt"
    call("receipt", copied, "-c", "site-1", "-s", person, "--out", out, "--profile", tmp_path / "controller.yaml")
    record = json.loads((out / "consent-record.jsonld").read_text())
    assert person in json.dumps(record) and record["@type"] == "dpv:ConsentRecord"
    assert "consent-record.jsonld" in (out / PAGE).read_text()


def test_somebody_whose_records_were_never_read(copied: Path, tmp_path: Path) -> None:
    stores, _ = site(copied)
    (stranger,) = stores.subjects.enrol(["<b>somebody</b>"])
    out = tmp_path / "receipt"
    call("receipt", copied, "-c", "site-1", "-s", stranger, "--out", out)
    assert "Your records were not read in this run." in Page((out / PAGE).read_text()).text
    assert not (out / "proofs").exists()


def test_bad_input(copied: Path, tmp_path: Path) -> None:
    _, person = site(copied)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        call("receipt", copied, "-c", "site-1", "-s", person, "--out", tmp_path / "full")
    with pytest.raises(PermissionRecordError, match="fedge consent list"):
        call("receipt", copied, "-c", "site-1", "-s", "p-0", "--out", tmp_path / "new")
    with pytest.raises(ConfigError, match="name it with --client"):
        call("audit", "uses", copied, "--subject", person)
    assert not (tmp_path / "new").exists()


def test_uses_since_a_withdrawal_are_none(tmp_path: Path) -> None:
    """A run goes on after one person has withdrawn: theirs are no uses since, everybody else's are."""
    result = run(*RUN, "consent.withdrawals=[{round: 3, client: site-1}]", f"out={tmp_path}", task=task(records()))
    stores = stores_of(ClientFolder(result.folder / "clients" / "site-1"))
    (withdrawal,) = stores.permissions.withdrawals()
    options = ("audit", "uses", result.folder, "--client", "site-1", "--subject", withdrawal.subject)
    assert len(json.loads(call(*options, "--format", "json"))) > 0
    assert json.loads(call(*options, "--since", withdrawal.recorded_at, "--format", "json")) == []
    assert "0 orders answered, 0 of them used data" in call(*options, "--since", withdrawal.recorded_at)
    others = ("audit", "uses", result.folder, "--client", "site-1", "--since", withdrawal.recorded_at)
    assert len(json.loads(call(*others, "--format", "json"))) == 1, "round 3 used the others' data"
    by_path = ("audit", "uses", result.folder, "--client", result.folder / "clients" / "site-1", *options[5:])
    assert len(json.loads(call(*by_path, "--format", "json"))) > 0, "a client named by its folder is no false zero"
