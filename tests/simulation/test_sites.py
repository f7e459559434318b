"""Populations that are made when they are asked for, and share their files: what a run is does not depend on that."""

import gc
import hashlib
import shutil
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedge.assemble import Hooks
from fedge.audit import leaves
from fedge.audit.verify import verify_run
from fedge.check import check_house
from fedge.cli.clients import client_folders, one_client
from fedge.errors import ConfigError, Interrupted, StorageError
from fedge.ids import ClientId
from fedge.packed import PackedJournal
from fedge.privacy.ledger import Ledger
from fedge.reconcile import reconcile
from fedge.rounds import coordinator
from fedge.rounds.folder import PACKS, RunFolder
from fedge.running import Result, Watch, resume, run
from fedge.simulation import sites
from tests.rounds.house import FEW, house

MANY = (
    *FEW,
    "population=iid",
    "population.clients=12",
    "population.packed=true",
    "population.organisations=2",
    "sampling.fraction=0.25",
    "rounds=3",
)
"""Twelve clients who share files, three of them a round."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(*MANY, f"out={tmp_path_factory.mktemp('packed')}")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(*MANY, "population.packed=false", f"out={tmp_path_factory.mktemp('unpacked')}")


def model(result: Result) -> str:
    return hashlib.sha256(result.model.read_bytes()).hexdigest()


def spends(result: Result) -> dict[str, int]:
    """Return how many spends each client's ledger holds."""
    folders = client_folders(result.folder)
    ledgers = {name: Ledger(folder.journal("spends")) for name, folder in folders.items()}
    return {n: sum(len(held.spent(lin)) for lin in held.lineages()) for n, held in ledgers.items()}


def test_packed_or_not_the_run_is_the_same(packed: Result, unpacked: Result) -> None:
    assert model(packed) == model(unpacked)
    assert packed.verification.holds
    assert {n: count for n, count in spends(unpacked).items() if count} == {
        n: c for n, c in spends(packed).items() if c
    }


def test_a_packed_run_keeps_all_promises_and_agrees_with_its_log(packed: Result) -> None:
    assert [p for p in check_house(packed.folder) if not p.kept] == []
    found = reconcile(packed.folder, client_folders(packed.folder))
    assert found.agrees
    assert sum(found.statements.values()) == 9


def test_packed_clients_have_no_files_of_their_own(packed: Result) -> None:
    names = {p.name for p in RunFolder(packed.folder).clients.iterdir()}
    assert not {n for n in names if n.startswith("client")}
    assert "population.key" in names
    assert not RunFolder(packed.folder).receipts.exists()


def test_only_who_was_asked_has_a_ledger(packed: Result) -> None:
    """Or was a witness of the first entries, one for each organisation."""
    asked = {e.signer for e in verify_run(packed.folder).entries if e.event == "data_use"}
    opened = set(client_folders(packed.folder))
    assert asked <= opened
    assert len(opened - asked) <= 2
    assert len(opened) < 12


def test_commands_find_a_packed_client(packed: Result, tmp_path: Path) -> None:
    run_folder = shutil.copytree(packed.folder, tmp_path / packed.folder.name)
    name = next(iter(client_folders(run_folder)))
    folder = one_client(run_folder / "clients" / name)
    assert len(folder.journal("people").read()) > 10
    with pytest.raises(ConfigError):
        one_client(run_folder / "clients" / "nobody")


def test_few_open_clients_are_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packed: Result) -> None:
    """Clients that were put away come back from their journals, and nothing is lost with them."""
    monkeypatch.setattr(sites, "OPEN", 1)
    again = run(*MANY, f"out={tmp_path}")
    assert model(again) == model(packed)
    assert spends(again) == spends(packed)


def test_a_packed_run_resumes_exactly(tmp_path: Path, packed: Result) -> None:
    def stop_after_one(_record: object) -> None:
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        run(*MANY, f"out={tmp_path}", watch=Watch(on_round=stop_after_one))
    (folder,) = tmp_path.iterdir()
    assert model(resume(folder)) == model(packed)
    assert [p for p in check_house(folder) if not p.kept] == []


def test_a_few_organisations_are_a_quorum(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of clients that belong to two organisations, not all are asked to vouch for each round."""
    here = house(tmp_path, *MANY[len(FEW) :])
    sealed: list[int] = []
    dispatch = sites.Sites.together

    def counting(self: sites.Sites, names: object) -> object:
        sealed.append(len(list(names)))  # type: ignore[call-overload]
        return dispatch(self, names)  # type: ignore[arg-type]

    monkeypatch.setattr(sites.Sites, "together", counting)
    here.rounds()
    assert sealed.count(12) == 1, "all clients are asked once, who they are"
    assert max(n for n in sealed if n != 12) <= 3 + 2
    assert verify_run(tmp_path).checks


def test_long_lists_are_spread_over_entries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(coordinator, "ROLL", 2)
    result = run(*MANY, "rounds=2", "sampling.fraction=0.5", f"out={tmp_path}")
    assert result.verification.holds
    entries = result.verification.entries
    assert [len(e.payload["participants"]) for e in entries if e.event == "round_roll"] == [2, 2] * 2
    assert [len(e.payload["participants"]) for e in entries if e.event == "round_close"] == [2] * 2
    assert sum(len(e.payload["leaves"]) for e in entries if e.event in {"run_roll", "run_close"}) == 12


def test_an_entry_has_room_for_the_longest_names() -> None:
    parts = tuple(leaves.Participant("x" * 60 + f"{i:04d}", "refused", "a" * 40) for i in range(leaves.ROLL))
    roll = leaves.RoundRoll("run", "2026-11-23T09:30:00.000Z", 1, parts)
    assert len(leaves.encode(roll, leaves.PrivateKey(b"\x01" * 32))) < leaves.MAX_LEAF_BYTES


# ---- what is durable, when --------------------------------------------------------------------------------------


def test_all_spends_of_a_round_are_durable_before_anybody_learns(tmp_path: Path) -> None:
    """Seen from outside, by another connection, at the moment when the first client begins to learn."""
    seen: list[dict[str, int]] = []

    def reached(step: str) -> None:
        if step == "reserved" and not seen:
            seen.append(durable_spends(tmp_path / "clients"))

    here = house(tmp_path, *MANY[len(FEW) :], "sampling.fraction=0.5", hooks=Hooks(client=lambda _c: reached))
    record = here.rounds(1)[0]
    assert seen[0] == {str(p.client): 1 for p in record.participants}


def durable_spends(home: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for file in home.glob("pack-*.db"):
        with sqlite3.connect(file) as db:
            rows = db.execute("SELECT owner, entry FROM journal WHERE name = 'spends'").fetchall()
        db.close()
        for owner, entry in rows:
            found[owner] = found.get(owner, 0) + (b'"kind":"reserve"' in entry)
    return {owner: count for owner, count in found.items() if count}


def test_a_client_that_breaks_takes_nobody_with_it(tmp_path: Path) -> None:
    def reached(name: ClientId) -> object:
        def at(step: str) -> None:
            if name == "client-01" and step == "kept":
                raise ValueError("broken")

        return at

    hooks = Hooks(client=reached)  # type: ignore[arg-type]
    here = house(tmp_path, *MANY[len(FEW) :], "sampling.fraction=1.0", hooks=hooks)
    outcomes = {str(p.client): p.outcome for p in here.rounds(1)[0].participants}
    assert outcomes.pop("client-01") == "silent"
    assert set(outcomes.values()) == {"accepted"}
    broken = here.site(ClientId("client-01"))
    assert broken.memory.count(here.assembled.plan.run) == 0, "what it had begun to write is taken back"
    assert len(broken.ledger.unfinished()) == 1, "what it has spent is not"
    assert "broken" in broken.faults.read_text()


def test_a_pack_that_cannot_be_written_makes_its_clients_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = house(tmp_path, *MANY[len(FEW) :], "sampling.fraction=1.0")
    failing = next(iter(here.assembled.sites.together(here.assembled.sites))).clients
    plain = PackedJournal.transaction

    @contextmanager
    def full(self: PackedJournal) -> Iterator[None]:
        outermost = not self._db.in_transaction
        with plain(self):
            yield
            if outermost and self._path.name == PACK and armed:
                raise StorageError("no space left")

    PACK, armed = here.assembled.sites._folder(failing[0]).pack._path.name, []  # type: ignore[attr-defined]
    monkeypatch.setattr(PackedJournal, "transaction", full)
    here.coordinated(lambda c: (c.open(), armed.append(1)))  # type: ignore[func-returns-value]
    record = here.rounds(1)[0]
    silent = {p.client for p in record.participants if p.outcome == "silent"}
    assert silent == set(failing)
    armed.clear()
    assert here.rounds(1)[0].accepted == 12, "with space again they are as they were"


def test_packs_are_few(packed: Result) -> None:
    assert len(list(RunFolder(packed.folder).clients.glob("pack-*.db"))) <= PACKS


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the server nor at the clients: 20 of 60 a round, of whom at most 8 are open."""
    monkeypatch.setattr(sites, "OPEN", 8)
    settings = ("rounds=24", "population.clients=60", "sampling.fraction=0.33", "privacy.unit=none", "training.steps=1")
    more = ("policy.require_privacy=false", "policy.minimum_records=1", "population.evaluation_share=0")
    here = house(tmp_path, *MANY[len(FEW) :], *settings, *more)
    held: list[int] = []

    def body(run: coordinator.Coordinator) -> None:
        tracemalloc.start()
        for record in run.rounds():
            if record.round % 12 == 0:
                leaves.decode.cache_clear()  # keeps the newest 2,048 entries, whatever the length of a run
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()

    here.coordinated(body)
    first, last = held
    assert last - first < 12 * 20 * 1_000, "a statement may cost a kilobyte at most, it has four itself"
