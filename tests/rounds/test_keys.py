"""The life of keys, in real runs: changed while a run goes on, revoked, retired, protected; and never shown."""

import os
import shutil
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fedge.audit.leaves import DataUse, KeyRotate, decode, encode
from fedge.audit.verify import Entry, Verification, verify_run
from fedge.check import check_house
from fedge.cli.root import app
from fedge.encoding import digest
from fedge.errors import AuditError, ConfigError, FedgeError, StorageError
from fedge.rounds.book import Chain
from fedge.rounds.folder import ClientFolder
from fedge.rounds.keys import ClientKey, ask_for_change, next_key
from fedge.rounds.messages import Parcel, WorkOrder
from fedge.rounds.tally import tally
from fedge.running import Result, Watch, resume, run
from fedge.signing import PASSPHRASE, PrivateKey, generate, load_private, protect_private, save_private
from tests.conftest import SMALL

KEY, NEW, THIRD = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3))


class Stop(Exception):
    """The server's process ends between two rounds."""


def started(out: Path, then: Callable[[Path], None], *, stop: bool) -> Path:
    """Run until round 1 is released, do `then` with the run's folder, and stop or go on; return the folder."""

    def on_round(record: object) -> None:
        if getattr(record, "round", 0) == 1:
            then(next(out.iterdir()))
            if stop:
                raise Stop

    try:
        run(*SMALL, "engine=direct", "sampling.minimum_clients=1", f"out={out}", watch=Watch(on_round=on_round))
    except Stop:
        assert stop
    return next(out.iterdir())


def command(*words: str | Path, **options: object) -> str:
    done = CliRunner().invoke(app, ["keys", *map(str, words)], **options)  # type: ignore[arg-type]
    if done.exception is not None:
        raise done.exception
    return done.output


def of(found: Verification, client: str) -> list[Entry]:
    return [e for e in found.entries if e.signer == client]


def said(found: Verification, name: str) -> str:
    return next(c.text for c in found.checks if c.name == name)


# ---- rotate ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run in which hospital-1 and hospital-2 changed their keys after round 1, while it went on."""
    out = tmp_path_factory.mktemp("rotated")

    def change(folder: Path) -> None:
        for name in ("hospital-1", "hospital-2"):
            command("rotate", folder / "clients" / name)

    return started(out, change, stop=False)


def test_a_key_changes_while_the_run_goes_on(rotated: Path) -> None:
    found = verify_run(rotated)
    assert found.holds, found.failures
    assert said(found, "key life").startswith("2 keys changed, 0 revoked")
    entries = of(found, "hospital-1")
    events = [e.event for e in entries]
    assert events == ["data_use", "key_rotate", "withdrawal_effective", "data_use", "data_use", "data_use"]
    old, new = entries[0].payload["key"], load_private(ClientFolder(rotated / "clients" / "hospital-1").key).public
    assert [e.payload["key"] for e in entries] == [old, old, *[new.key_id] * 4]
    assert entries[1].payload["new_key"] == new.text
    assert not next_key(ClientFolder(rotated / "clients" / "hospital-1").key).exists()
    assert [p.text for p in check_house(rotated) if not p.kept] == []


def test_a_change_of_keys_changes_nothing_else(rotated: Path, finished: Result) -> None:
    assert (rotated / "model.safetensors").read_bytes() == finished.model.read_bytes()
    assert len(list((rotated / "receipts").rglob("*.tlog-proof"))) == 15


@pytest.mark.parametrize("step", ["stated", "switched"])
def test_a_crash_in_the_exchange_is_completed(tmp_path: Path, step: str) -> None:
    """Killed after the old key has stated the change, or after the new one lies in its place but the old asks still."""
    path = tmp_path / "client.key"
    save_private(KEY, path)
    fresh = ask_for_change(path, os.urandom)
    if step == "switched":
        pem = next_key(path).read_bytes()
        ClientKey(path).switch()
        next_key(path).write_bytes(pem)
        next_key(path).chmod(0o600)
    keys = ClientKey(path)
    assert (keys.wanted() == fresh) == (step == "stated")
    if step == "stated":
        keys.switch()
    assert keys.current == ClientKey(path).current == fresh
    assert keys.wanted() is None
    assert not next_key(path).exists()


def test_a_change_is_asked_for_once(tmp_path: Path) -> None:
    save_private(KEY, tmp_path / "client.key")
    ask_for_change(tmp_path / "client.key", os.urandom)
    with pytest.raises(StorageError, match="there is a key already"):
        ask_for_change(tmp_path / "client.key", os.urandom)


# ---- what the server takes in ------------------------------------------------------------------------------------


@pytest.fixture
def answer(finished: Result) -> DataUse:
    """Return a real statement, as an answer to `order_for` it, to be stated anew under keys of our own."""
    entries = [decode(e.raw)[0] for e in finished.verification.entries]
    found = next(e for e in entries if isinstance(e, DataUse) and e.work == "evaluate")
    return replace(found, order=order_for(found).substance)


def order_for(answer: DataUse) -> WorkOrder:
    return WorkOrder(
        work="evaluate", run=answer.run, round=answer.round, attempt=1, client=answer.client, task="cancer",
        task_digest="", purpose=answer.purpose, model=answer.model_in, recipe={}, rounds_planned=3, cohort=3,
        config_digest="", issued="", expires="",
    )  # fmt: skip


def judged(answer: DataUse, chain: Chain, *statements: bytes) -> str:
    """Return what the server makes of these statements: the client's outcome and reason."""
    part = tally(order_for(answer), Parcel(statements), chain, {"correct": np.zeros(1)}).part
    return f"{part.outcome} {part.reason}"


def stated(answer: DataUse, key: PrivateKey, seq: int, previous: bytes | None, **members: Any) -> bytes:
    before = None if previous is None else digest(previous)
    own = {"key": key.public.key_id, "outcome": "failed", "reason": "task_error"} | members
    return encode(replace(answer, seq=seq, previous=before, **own), key)


def changed(answer: DataUse, old: PrivateKey, new: PrivateKey, seq: int, previous: bytes | None) -> bytes:
    before = None if previous is None else digest(previous)
    leaf = KeyRotate(answer.run, answer.at, answer.client, old.public.key_id, seq, before, new.public.text, "owner")
    return encode(leaf, old)


def test_after_a_change_the_new_key_speaks(answer: DataUse) -> None:
    mine, chain = answer, Chain(KEY.public, 0)
    change = changed(mine, KEY, NEW, 0, None)
    assert judged(mine, chain, change, stated(mine, NEW, 1, change)) == "failed task_error"
    assert judged(mine, chain, stated(mine, KEY, 0, None)) == "failed task_error"


def test_the_server_refuses_a_key_that_does_not_hold(answer: DataUse) -> None:
    mine, chain = answer, Chain(KEY.public, 0)
    change = changed(mine, KEY, NEW, 0, None)
    rejected, after_change = "rejected bad_statement", Chain(KEY.public, 0)
    after_change.change_key(NEW.public, 1)
    assert judged(mine, chain, change, stated(mine, KEY, 1, change)) == rejected  # the old one, after the change
    assert judged(mine, chain, stated(mine, NEW, 0, None)) == rejected  # the new one, before it
    assert judged(mine, after_change, stated(mine, KEY, 0, None)) == rejected  # changed before
    named = encode(replace(decode(stated(mine, KEY, 0, None))[0], key=NEW.public.key_id), KEY)
    assert judged(mine, chain, named) == rejected  # names another than it is signed by
    back = changed(mine, NEW, KEY, 1, change)
    assert judged(mine, chain, change, back, stated(mine, KEY, 2, back)) == rejected  # goes back to the old one
    assert judged(mine, chain, change, changed(mine, NEW, THIRD, 1, change)) == rejected  # no answer at all


def test_the_server_refuses_another_statement_in_the_place_of_a_logged_one(answer: DataUse) -> None:
    mine = answer
    first = stated(mine, KEY, 0, None)
    chain = Chain(KEY.public, 0)
    chain.grow(7, first)
    assert judged(mine, chain, first) == "failed task_error"
    other = stated(mine, KEY, 0, None, purpose="public-health")
    assert judged(mine, chain, other, stated(mine, KEY, 1, other)) == "rejected bad_statement"


# ---- revoke and retire -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose server stopped after round 1; copy it before going on."""
    return started(tmp_path_factory.mktemp("stopped"), lambda _: None, stop=True)


def copied(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / stopped.name))


def test_a_revoked_key_and_a_retired_client_speak_no_more(stopped: Path, tmp_path: Path) -> None:
    for words in (["revoke", "hospital-3", "--reason", "key_stolen"], ["retire", "hospital-3", "--reason", "left"]):
        place = copied(stopped, tmp_path / words[0])
        command(words[0], place, *words[1:])
        found = resume(place).verification
        assert found.holds, found.failures
        assert [e.payload["round"] for e in of(found, "hospital-3")] == [1]
        assert found.cosigned_by == ("hospital-1", "hospital-2")
        assert "hospital-3-witness" not in (place / "audit" / "policy.txt").read_text()
        assert "0 keys changed" in said(found, "key life")


def test_a_revocation_may_reach_back(stopped: Path, tmp_path: Path) -> None:
    """What the thief has signed counts as nothing, and the auditor is told so."""
    place = copied(stopped, tmp_path)
    theft = next(e.index for e in verify_run(place).entries if e.signer == "hospital-3")
    command("revoke", place, "hospital-3", "--reason", "key_stolen", "--from", str(theft))
    found = resume(place).verification
    assert f"entry {theft}: hospital-3 speaks by key" in found.failures


def test_the_quorum_cannot_be_lowered_by_sending_witnesses_away(stopped: Path, tmp_path: Path) -> None:
    place = copied(stopped, tmp_path)
    command("retire", place, "hospital-3", "--reason", "left")
    assert "no round can be released any more" in command("retire", place, "hospital-2", "--reason", "left")
    with pytest.raises(FedgeError, match="1 witnesses vouch for the log where 2 organisations are needed"):
        resume(place)


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        (["retire", "hospital-9", "--reason", "left"], ConfigError, "it knows hospital-1, hospital-2, hospital-3"),
        (["revoke", "hospital-1", "--reason", "Stolen!"], AuditError, "is not a code"),
        (["revoke", "hospital-1", "--reason", "x", "--key", "ab"], ConfigError, "never had this key"),
    ],
)
def test_a_mistake_is_named(
    stopped: Path, tmp_path: Path, words: list[str], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        command(words[0], copied(stopped, tmp_path), *words[1:])


def test_a_closed_log_takes_no_entry(tmp_path: Path, finished: Result) -> None:
    place = Path(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
    with pytest.raises(AuditError, match="a closed log takes no entry"):
        command("revoke", place, "hospital-1", "--reason", "key_stolen")
    with pytest.raises(ConfigError, match="not the folder of a run with the server's keys"):
        command("revoke", tmp_path, "hospital-1", "--reason", "key_stolen")


# ---- passphrases -------------------------------------------------------------------------------------------------


def test_a_protected_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    path = tmp_path / "client.key"
    save_private(KEY, path, "correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_private(path, "correct horse") == KEY
    with pytest.raises(StorageError, match=PASSPHRASE):
        load_private(path)
    with pytest.raises(StorageError, match="does not open"):
        load_private(path, "wrong horse")
    protect_private(path, "correct horse", None)
    assert load_private(path) == load_private(path, "not needed") == KEY
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_run_goes_on_with_protected_keys(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = copied(stopped, tmp_path)
    command("passphrase", place, input="battery staple\nbattery staple\n")
    assert all(b"ENCRYPTED" in p.read_bytes() for p in place.rglob("client.key"))
    with pytest.raises(StorageError, match="protected by a passphrase"):
        resume(place)
    monkeypatch.setenv(PASSPHRASE, "battery staple")
    command("rotate", place / "clients" / "hospital-1")
    result = resume(place)
    assert result.verification.holds, result.verification.failures
    assert said(result.verification, "key life").startswith("1 keys changed")
    assert b"ENCRYPTED" in (place / "clients" / "hospital-1" / "client.key").read_bytes()
    command("passphrase", place / "clients" / "hospital-1", "--remove")
    monkeypatch.delenv(PASSPHRASE)
    assert "signs what the client states" in command("show", place / "clients" / "hospital-1")


# ---- private keys are never shown --------------------------------------------------------------------------------


def test_no_private_key_and_no_passphrase_is_in_what_a_run_shows(rotated: Path) -> None:
    secrets = [load_private(p).seed for p in rotated.rglob("*.key") if p.stem != "pseudonym"]
    assert len(secrets) == 8
    public = [p for p in rotated.rglob("*") if p.is_file() and not p.name.endswith(".key")]
    assert len(public) > 20
    for path in public:
        data = path.read_bytes()
        assert not any(seed in data or seed.hex().encode() in data for seed in secrets), path


def test_no_error_and_no_repr_quotes_a_key(tmp_path: Path) -> None:
    key, path = generate(os.urandom), tmp_path / "client.key"
    save_private(key, path, "battery staple")
    pem = path.read_text().split("\n")[1]
    for attempt in (None, "wrong horse"):
        with pytest.raises(StorageError) as caught:
            load_private(path, attempt)
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert pem not in text
        assert key.seed.hex() not in text
    shown = repr(key) + repr(ClientKey(path, "battery staple")) + str(key)
    assert key.seed.hex() not in shown
    assert repr(key.seed) not in shown
    assert "battery" not in shown


def test_show_prints_public_keys_only(rotated: Path) -> None:
    shown = command("show", rotated) + command("show", rotated, "--format", "json")
    for path in (p for p in rotated.rglob("*.key") if p.stem != "pseudonym"):
        key = load_private(path)
        assert key.public.text in shown
        assert key.public.key_id in shown
        assert path.read_text().split("\n")[1] not in shown


def test_show_names_the_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no key file"):
        command("show", tmp_path)
