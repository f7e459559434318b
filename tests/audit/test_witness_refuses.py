"""A hostile server, an old backup, a hidden statement: the clients notice, keep the evidence, and work no more."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fedge.assemble import Assembled
from fedge.audit.checkpoint import Checkpoint, parse_body
from fedge.audit.leaves import DataUse, decode
from fedge.audit.log import published
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.note import parse, sign, verify
from fedge.encoding import b64decode, b64encode, timestamp
from fedge.errors import AuditError, ConfigError, LogConflictError
from fedge.ids import ClientId
from fedge.rounds import client
from fedge.rounds.messages import Kind, Parcel, SealAnswer, SealRequest, only_statement, read, read_enrolment
from fedge.rounds.messages import sign as signed
from fedge.rounds.site import Site
from fedge.signing import PrivateKey, load_private
from fedge.simulation.fleet import DirectFleet
from tests.audit.house import FIRST, RUN, go, opened


def log_key(house: Assembled) -> PrivateKey:
    return load_private(house.folder.server / "log.key")


def request(house: Assembled, tree: Tree, old: int = 0) -> Parcel:
    """Return a request of a server that shows `tree` as its log."""
    note = sign(Checkpoint(f"fedge/{RUN}", tree.size, tree.root()).body, f"fedge/{RUN}", log_key(house))
    proof = tree.consistency(old) if 0 < old <= tree.size else []
    now = timestamp(house.sites[FIRST].machine.clock())
    asked = SealRequest(RUN, 9, note.text, old, tuple(b64encode(h) for h in proof), {}, now)
    return Parcel((signed(asked, house.server_key),))


def said(site: Site, parcel: Parcel) -> SealAnswer:
    return read(SealAnswer, only_statement(client.answer(site, "seal", parcel)), site.witness.key.public)


def other_past(house: Assembled, size: int) -> Tree:
    """Return a log like the server's with one entry changed; longer ones go on with anything."""
    leaves = [leaf_hash(e) for e in house.book.log.entries()] + [leaf_hash(bytes([i])) for i in range(size)]
    return Tree([leaf_hash(b"changed"), *leaves[1:size]])


@pytest.mark.parametrize(("more", "how"), [(0, "forked"), (5, "was rewritten"), (-5, "shrank")])
def test_a_client_works_no_more_for_a_log_with_two_pasts(tmp_path: Path, more: int, how: str) -> None:
    house = opened(tmp_path)
    go(house, 1)
    site, size = house.sites[FIRST], house.book.log.size
    answer = said(site, request(house, other_past(house, size + more), size))
    assert answer.cosignature is None
    assert how in str(answer.refusal)

    finding = site.findings.against(RUN)
    assert finding is not None
    for note in (finding.pinned, finding.shown):  # the evidence stands by itself: the log's key has signed both
        verify(parse(note), house.book.log.vkey)
    shown = read(SealRequest, b64decode(finding.request), house.server_key.public)
    assert shown.checkpoint == finding.shown

    again = opened(tmp_path)  # the client restarts: it has not forgotten
    assert go(again, 1) == [{"hospital-1": "log_rewritten", "hospital-2": None, "hospital-3": None}]
    uses = [u for e in again.book.log.entries() if isinstance(u := decode(e)[0], DataUse) and u.client == FIRST]
    assert (uses[-1].outcome, uses[-1].reason, uses[-1].counts.used) == ("refused", "log_rewritten", "0")
    assert "has not cleared" in str(said(again.sites[FIRST], request(again, other_past(again, 30), 1)).refusal)

    again.sites[FIRST].findings.clear(RUN, "2026-11-23T10:00:00.000Z", "the operator has restored the right database")
    assert go(opened(tmp_path), 1)[0]["hospital-1"] is None
    with pytest.raises(ConfigError, match="nothing to clear"):
        again.sites[FIRST].findings.clear(RUN, "2026-11-23T10:00:00.000Z", "again")


def test_a_forged_request_makes_no_finding(tmp_path: Path) -> None:
    house = opened(tmp_path)
    go(house, 1)
    site = house.sites[FIRST]
    genuine = read(SealRequest, only_statement(request(house, other_past(house, 9))), house.server_key.public)
    with pytest.raises(AuditError):
        client.answer(site, "seal", Parcel((signed(genuine, site.key),)))
    stranger = sign(parse(genuine.checkpoint).body, f"fedge/{RUN}", site.key).text
    said(site, Parcel((signed(replace(genuine, checkpoint=stranger), house.server_key),)))
    assert site.findings.against(RUN) is None


class Hiding(DirectFleet):
    """A world in which the answers of one client never reach the log."""

    hidden: frozenset[str] = frozenset({FIRST})

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        answers = super().dispatch(kind, parcels)
        return {c: p for c, p in answers.items() if kind != "work" or c not in self.hidden}


def test_a_client_whose_statements_are_left_out_works_no_more_until_they_are_in(tmp_path: Path) -> None:
    house = opened(tmp_path)
    world = Hiding({name: partial(client.answer, site) for name, site in house.sites.items()})
    go(house, 3, world)
    answers = [decode(a.leaf_bytes)[0] for a in house.sites[FIRST].memory.answers(RUN)]
    uses = [(a.round, a.outcome, a.reason) for a in answers if isinstance(a, DataUse)]
    assert uses == [
        (1, "submitted", None),
        (2, "submitted", None),  # one answer may be lost on the way: it hands the first in again, and works
        (3, "refused", "statement_not_logged"),
    ]
    world.hidden = frozenset()
    reasons = go(house, 2, world)
    assert [r["hospital-1"] for r in reasons] == ["statement_not_logged", None], "handed in, in the log, trusted again"
    assert house.sites[FIRST].memory.unreceipted(RUN) == []


def test_one_lost_answer_is_no_offence(tmp_path: Path) -> None:
    house = opened(tmp_path)
    world = Hiding({name: partial(client.answer, site) for name, site in house.sites.items()})
    go(house, 1, world)
    world.hidden = frozenset()
    assert go(house, 2, world)[0]["hospital-1"] is None
    assert house.sites[FIRST].memory.unreceipted(RUN) == []


# ---- an old backup ---------------------------------------------------------------------------------------------------


def backup(house: Assembled, to: Path) -> None:
    """Copy what the server has, as a backup of a live database does: the file and its write-ahead log."""
    shutil.copytree(house.folder.root, to, ignore=shutil.ignore_patterns("clients", "receipts"))
    assert (to / "server" / "log.db-wal").exists()


def put_back(backup_of: Path, house: Assembled, *parts: str) -> None:
    for part in parts:
        shutil.rmtree(house.folder.root / part)
        shutil.copytree(backup_of / part, house.folder.root / part)


def test_an_old_database_beside_a_newer_published_log(tmp_path: Path) -> None:
    house = opened(tmp_path / "runs")
    go(house, 1)
    old = house.book.log.size
    backup(house, tmp_path / "backup")
    go(house, 2)
    put_back(tmp_path / "backup", house, "server")
    with pytest.raises(LogConflictError, match=rf"shows {house.book.log.size} entries .* holds {old} .*older database"):
        opened(tmp_path / "runs")


def test_everything_of_the_server_put_back_still_meets_the_clients(tmp_path: Path) -> None:
    house = opened(tmp_path / "runs")
    go(house, 1)
    old = house.book.log.size
    backup(house, tmp_path / "backup")
    go(house, 2)
    put_back(tmp_path / "backup", house, "server", "audit")
    again = opened(tmp_path / "runs")
    pinned = rf"hospital-1 has pinned {house.book.log.size} entries of log fedge/run, the server's log holds {old} "
    with pytest.raises(LogConflictError, match=pinned):
        go(again, 1)
    assert again.book.log.size == old, "it must not have gone on"


def test_a_lost_database_is_not_begun_anew(tmp_path: Path) -> None:
    house = opened(tmp_path)
    go(house, 1)
    for gone in (*house.folder.server.glob("log.db*"), house.folder.audit):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(LogConflictError, match="the server's log holds 0"):
        go(opened(tmp_path), 1)


def test_a_client_that_makes_up_a_pin_cannot_stop_a_run(tmp_path: Path) -> None:
    house = opened(tmp_path)
    go(house, 1)
    site = house.sites[FIRST]
    made_up = sign(Checkpoint(f"fedge/{RUN}", 10**6, bytes(32)).body, f"fedge/{RUN}", site.key).text
    world = Claiming({name: partial(client.answer, s) for name, s in house.sites.items()})
    world.site, world.claim = site, made_up
    again = opened(tmp_path)
    assert go(again, 1, world)[0]["hospital-2"] is None


class Claiming(DirectFleet):
    """A world in which one client says that it has pinned `claim`."""

    site: Site
    claim: str

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        answers = dict(super().dispatch(kind, parcels))
        if kind == "hello":
            honest = read_enrolment(only_statement(answers[FIRST]))
            answers[FIRST] = Parcel((signed(replace(honest, pinned=self.claim), self.site.key),))
        return answers


def test_the_quorum_counts_organisations(tmp_path: Path) -> None:
    """Three witnesses of one organisation have one vote: the model of a round is not released on it."""
    house = opened(tmp_path)
    sites = {n: replace(s, organisation="one" if n != "hospital-3" else "other") for n, s in house.sites.items()}
    world = Silent({name: partial(client.answer, site) for name, site in sites.items()})
    with pytest.raises(AuditError, match="2 witnesses vouch for the log where 2 organisations are needed"):
        go(house, 1, world)
    assert published(house.folder.audit) is None
    assert not house.folder.model.exists()
    world.silent = frozenset({"hospital-1"})  # one of each organisation is enough
    go(house, 1, world)
    note = published(house.folder.audit)
    assert note is not None
    assert parse_body(note.body).size == house.book.log.size


class Silent(DirectFleet):
    """A world in which some clients do not answer when asked to vouch."""

    silent: frozenset[str] = frozenset({"hospital-3"})

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        return {c: p for c, p in super().dispatch(kind, parcels).items() if kind != "seal" or c not in self.silent}
