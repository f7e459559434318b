"""The attacks of `docs/audit.md`, each mounted for real on the bundle of a real run; the name is that of its row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fedge.audit.checkpoint import cosign
from fedge.audit.leaves import ClientEnrol, ClientRetire, KeyRevoke, KeyRotate, UpdateRejected, encode
from fedge.audit.note import COSIGNATURE, Note, VerifierKey, parse
from fedge.audit.trust import Trust
from fedge.audit.verify import Verification, verify_run
from fedge.encoding import timestamp
from fedge.signing import PrivateKey
from tests.audit.forging import CLIENTS, Attack, Forger, opening

NEW, STRANGER = PrivateKey(b"n" * 32), PrivateKey(b"s" * 32)


# ---- the server rewrites, and owns the keys of server and log ----------------------------------------------------


def changes_an_entry(forger: Forger) -> Verification:
    """In the files alone: the checkpoint stays."""
    path = next((forger.bundle / "audit" / "tile" / "entries").rglob("2*"))
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    return forger.verify()


def rewrites_with_its_own_keys(forger: Forger) -> Verification:
    """A better score in an evaluation, and a checkpoint to match."""
    forger.change(forger.index_of("Evaluation"), values={"accuracy": "0.999"})
    forger.publish()
    return forger.verify()


def rewrites_and_all_witnesses_help(forger: Forger) -> Verification:
    """Only the receipts are left to speak against it."""
    forger.change(forger.index_of("Evaluation"), values={"accuracy": "0.999"})
    forger.publish(CLIENTS)
    return forger.verify()


def reorders_entries(forger: Forger) -> Verification:
    first = forger.index_of("DataUse", client="hospital-1", round=1)
    second = forger.index_of("DataUse", client="hospital-1", round=2)
    forger.entries[first], forger.entries[second] = forger.entries[second], forger.entries[first]
    forger.publish(CLIENTS)
    return forger.verify()


def truncates_the_files(forger: Forger) -> Verification:
    """The last entry is gone from the bundle; the checkpoint still counts it."""
    audit = forger.bundle / "audit"
    size = len(forger.entries)
    path = audit / f"tile/entries/000.p/{size}"
    path.write_bytes(path.read_bytes()[: -len(forger.entries[-1]) - 2])
    return forger.verify()


def truncates_the_tail(forger: Forger) -> Verification:
    """The last round never was: checkpoint rewritten and signed again by the log's own key."""
    del forger.entries[forger.index_of("RoundClose", nth=1) + 2 :]
    forger.publish()
    return forger.verify()


def shows_an_old_state(forger: Forger) -> Verification:
    """All that was once true, and cosigned then; only its age tells an auditor who comes later."""
    del forger.entries[forger.index_of("RoundClose", nth=1) + 2 :]
    forger.publish(CLIENTS)
    forger.drop_receipts()
    (forger.bundle / "model.safetensors").unlink()
    return forger.verify(not_older_than=datetime.now(UTC) + timedelta(hours=1))


def restores_an_old_database(forger: Forger) -> Verification:
    """The log of round 2 again, cosigned as it was then; the receipts of round 3 are in the clients' hands."""
    del forger.entries[forger.index_of("RoundClose", nth=1) + 2 :]
    forger.publish(CLIENTS)
    return forger.verify()


def drops_a_record(forger: Forger) -> Verification:
    """One client's last statement is left out, counts are mended, and a majority of witnesses helps."""
    del forger.entries[forger.index_of("DataUse", nth=-1, client="hospital-3")]
    forger.mend_close()
    forger.publish(["hospital-1", "hospital-2"])
    return forger.verify()


def drops_a_record_in_between(forger: Forger) -> Verification:
    """As before, from the middle of its chain, and no receipt is shown."""
    del forger.entries[forger.index_of("DataUse", client="hospital-3", round=2)]
    forger.mend_close()
    forger.publish(CLIENTS)
    forger.drop_receipts()
    return forger.verify()


def splits_the_view(forger: Forger) -> Verification:
    """Two logs of one name: hospital-2 and hospital-3 have seen the true one, the auditor is shown the other."""
    forger.change(forger.index_of("RoundClose", nth=2), aggregation="median")
    forger.publish(["hospital-1"])
    return forger.verify()


def replaces_the_trust(forger: Forger) -> Verification:
    """A whole log of its own, with keys of its own: nothing in it contradicts, but it is not the log you trust."""
    forger.log = NEW
    vkey = VerifierKey(forger.origin, 0x01, NEW.public)
    forger.change(0, log_key=vkey.text)
    forger.publish(CLIENTS, policy=_policy(forger, vkey).text)
    forger.give_receipts()
    return forger.verify()


def replays_another_run(forger: Forger) -> Verification:
    """An intact bundle, of a run that you did not ask for."""
    return forger.verify(expect_run="heart-7-20261123-093000-120")


def replays_an_entry_of_another_run(forger: Forger) -> Verification:
    """What a client has signed in another run, by the same key, stands in this log."""
    forger.change(forger.index_of("DataUse", nth=-1, client="hospital-2"), run="cancer-1-20261001-080000-000")
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


# ---- the server lies about what happened -------------------------------------------------------------------------


def backdates(forger: Forger) -> Verification:
    """The run is said to have been closed an hour before its last round."""
    last = len(forger.entries) - 1
    forger.change(last, at=timestamp(datetime.now(UTC) - timedelta(hours=1)))
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def backdates_before_a_witness(forger: Forger) -> Verification:
    """Entries that claim to be older than a checkpoint without them, dated in order among themselves."""
    long_ago = timestamp(datetime.now(UTC) - timedelta(hours=2))
    for index in range(len(forger.entries)):
        if forger.leaf(index).party == "server":
            forger.change(index, at=long_ago)
    size = forger.index_of("RoundClose", nth=1) + 2
    forger.publish(CLIENTS)
    forger.give_receipts(size=size)
    return forger.verify()


def postdates(forger: Forger) -> Verification:
    """A client's statement is dated tomorrow."""
    index = forger.index_of("DataUse", nth=-1, client="hospital-2")
    forger.change(index, at=timestamp(datetime.now(UTC) + timedelta(days=1)))
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def invents_an_update(forger: Forger) -> Verification:
    """The server says that hospital-3 submitted in a round in which it refused."""
    index = forger.index_of("DataUse", client="hospital-3", round=2)
    counts = replace(forger.leaf(index).counts, used="0")
    forger.change(index, outcome="refused", reason="no_budget", update=None, counts=counts)
    forger.mend_chains()
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def rejects_in_silence(forger: Forger) -> Verification:
    """An answer was not used, and no entry says why."""
    index = forger.index_of("RoundClose", nth=1)
    parts = forger.leaf(index).participants
    silent = (*parts[:-1], replace(parts[-1], outcome="rejected", reason="bad_update"))
    forger.change(index, participants=silent, accepted=2)
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def releases_another_model(forger: Forger) -> Verification:
    path = forger.bundle / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    return forger.verify()


def swaps_the_configuration(forger: Forger) -> Verification:
    path = forger.bundle / "config.json"
    path.write_bytes(path.read_bytes().replace(b'"rounds":3', b'"rounds":4'))
    return forger.verify()


# ---- witnesses ---------------------------------------------------------------------------------------------------


def many_witnesses_of_one_organisation(forger: Forger) -> Verification:
    """Three witnesses cosign; all of them speak for hospital-1, and that is one vote."""
    for name in CLIENTS:
        forger.change(forger.index_of("ClientEnrol", client=name), organisation="hospital-1")
    forger.entries.insert(4, encode(_enrolment(forger, "hospital-4"), forger.server))
    forger.mend_chains()
    leaves = {**forger.leaf(-1).leaves, "hospital-4": 0}
    forger.change(len(forger.entries) - 1, leaves=leaves)
    forger.change(0, quorum=2)
    witnesses = {f"{name}-witness": _witness(name, key) for name, key in forger.witnesses.items()}
    witnesses["hospital-4-witness"] = _witness("hospital-4", NEW)
    organisations = {name: "hospital-4" if "4" in name else "hospital-1" for name in witnesses}
    policy = Trust(_policy(forger).log, witnesses, organisations, 2).text
    forger.publish(CLIENTS, policy=policy)
    forger.give_receipts()
    return forger.verify(policy=False)


def one_witness_for_two_clients(forger: Forger) -> Verification:
    """hospital-2 is enrolled with the witness of hospital-1: one key would vouch for two organisations."""
    index = forger.index_of("ClientEnrol", client="hospital-1")
    forger.change(forger.index_of("ClientEnrol", client="hospital-2"), witness_key=forger.leaf(index).witness_key)
    forger.publish(CLIENTS)
    return forger.verify()


def invents_a_witness(forger: Forger) -> Verification:
    """A cosignature by a key that nobody enrolled."""
    path = forger.bundle / "audit" / "checkpoint"
    note = parse(path.read_text())
    line = cosign(note.body, "hospital-9-witness", STRANGER, datetime.now(UTC))
    path.write_text(note.with_signatures((line,)).text)
    return forger.verify()


def forges_a_cosignature(forger: Forger) -> Verification:
    """A witness's name, and its key's hash, over bytes that it never signed."""
    path = forger.bundle / "audit" / "checkpoint"
    note = parse(path.read_text())
    forged = replace(note.signatures[1], raw=note.signatures[1].raw[:8] + STRANGER.sign(b""))
    path.write_text(Note(note.body, (note.signatures[0], forged, *note.signatures[2:])).text)
    return forger.verify()


def lowers_the_quorum(forger: Forger) -> Verification:
    """The policy file in the bundle asks for one organisation, the log has promised two."""
    path = forger.bundle / "audit" / "policy.txt"
    path.write_text(path.read_text().replace("group organisations 2", "group organisations 1"))
    return verify_run(forger.bundle)


# ---- clients, and whoever stole their keys -----------------------------------------------------------------------


def speaks_without_being_enrolled(forger: Forger) -> Verification:
    index = forger.index_of("DataUse", nth=-1)
    forger.change(index, key=STRANGER, client="hospital-9")
    forger.publish(CLIENTS)
    return forger.verify()


def signs_for_another(forger: Forger) -> Verification:
    """hospital-1 states something in the name of hospital-2."""
    forger.entries[forger.index_of("DataUse", nth=-1, client="hospital-2")] = encode(
        forger.leaf(forger.index_of("DataUse", nth=-1, client="hospital-2")), forger.clients["hospital-1"]
    )
    forger.publish(CLIENTS)
    return forger.verify()


def speaks_by_a_revoked_key(forger: Forger) -> Verification:
    """The key of hospital-2 was stolen in round 2; what it signed since then is in the log."""
    start = forger.index_of("DataUse", client="hospital-2", round=2)
    leaf = forger.leaf(start)
    revoke = KeyRevoke(leaf.run, forger.leaf(-1).at, "hospital-2", leaf.key, start, "key_stolen")
    forger.entries.insert(len(forger.entries) - 1, encode(revoke, forger.server))
    forger.publish(["hospital-1", "hospital-3"], policy=_policy(forger, without="hospital-2").text)
    forger.give_receipts()
    return forger.verify()


def speaks_by_a_key_it_gave_up(forger: Forger) -> Verification:
    """hospital-2 has changed its key before its last statement; whoever has the old one goes on with it."""
    index = forger.index_of("DataUse", nth=-1, client="hospital-2")
    leaf = forger.leaf(index)
    rotate = KeyRotate(leaf.run, leaf.at, leaf.client, leaf.key, leaf.seq, leaf.previous, NEW.public.text, "owner")
    forger.entries.insert(index, encode(rotate, forger.clients["hospital-2"]))
    forger.mend_chains()
    forger.mend_close()
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def speaks_after_it_was_retired(forger: Forger) -> Verification:
    index = forger.index_of("RoundClose", nth=1)
    retire = ClientRetire(forger.leaf(0).run, forger.leaf(index).at, "hospital-3", "left_the_study")
    forger.entries.insert(index + 1, encode(retire, forger.server))
    forger.publish(["hospital-1", "hospital-2"], policy=_policy(forger, without="hospital-3").text)
    forger.give_receipts()
    return forger.verify()


def spends_more_than_its_budget(forger: Forger) -> Verification:
    """The client says so itself: its own policy was not obeyed."""
    index = forger.index_of("DataUse", nth=2, client="hospital-2", work="train")
    forger.change(index, privacy=replace(forger.leaf(index).privacy, epsilon_total="99.0"))
    forger.mend_chains()
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def refunds_its_budget(forger: Forger) -> Verification:
    index = forger.index_of("DataUse", nth=2, client="hospital-2", work="train")
    forger.change(index, privacy=replace(forger.leaf(index).privacy, epsilon_total="0.1"))
    forger.mend_chains()
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def protects_less_than_promised(forger: Forger) -> Verification:
    """An update without noise, in a run that promises to protect every record."""
    index = forger.index_of("DataUse", client="hospital-2", round=1)
    forger.change(index, privacy=replace(forger.leaf(index).privacy, unit="none"))
    forger.mend_chains()
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def uses_data_for_another_purpose(forger: Forger) -> Verification:
    index = forger.index_of("DataUse", client="hospital-2", round=1)
    forger.change(index, purpose="marketing")
    forger.mend_chains()
    forger.publish(CLIENTS)
    forger.give_receipts()
    return forger.verify()


def says_too_much_of_a_rejection(forger: Forger) -> Verification:
    """An entry that is no record of its form: a member too many would carry whatever one likes into the log."""
    leaf = UpdateRejected(opening(forger).run, forger.leaf(-1).at, "hospital-1", 3, "bad_update", None)
    data = encode(leaf, forger.server)
    forger.entries.insert(len(forger.entries) - 1, data.replace(b'"keyid"', b'"extra":"","keyid"'))
    forger.publish(CLIENTS)
    return forger.verify()


def _policy(forger: Forger, log: VerifierKey | None = None, without: str = "") -> Trust:
    names = [name for name in CLIENTS if name != without]
    keys = {f"{name}-witness": _witness(name, forger.witnesses[name]) for name in names}
    organisations = {f"{name}-witness": name for name in names}
    return Trust(log or VerifierKey(forger.origin, 0x01, forger.log.public), keys, organisations, 2)


def _witness(name: str, key: PrivateKey) -> VerifierKey:
    return VerifierKey(f"{name}-witness", COSIGNATURE, key.public)


def _enrolment(forger: Forger, name: str) -> ClientEnrol:
    return ClientEnrol(
        opening(forger).run, forger.leaf(1).at, name, STRANGER.public.text, _witness(name, NEW).text, name
    )


ATTACKS: tuple[Attack, ...] = (
    changes_an_entry, rewrites_with_its_own_keys, rewrites_and_all_witnesses_help, reorders_entries,
    truncates_the_files, truncates_the_tail, shows_an_old_state, restores_an_old_database, drops_a_record,
    drops_a_record_in_between, splits_the_view, replaces_the_trust, replays_another_run,
    replays_an_entry_of_another_run, backdates, backdates_before_a_witness, postdates, invents_an_update,
    rejects_in_silence, releases_another_model, swaps_the_configuration, many_witnesses_of_one_organisation,
    one_witness_for_two_clients, invents_a_witness, forges_a_cosignature, lowers_the_quorum,
    speaks_without_being_enrolled, signs_for_another, speaks_by_a_revoked_key, speaks_by_a_key_it_gave_up,
    speaks_after_it_was_retired, spends_more_than_its_budget, refunds_its_budget, protects_less_than_promised,
    uses_data_for_another_purpose, says_too_much_of_a_rejection,
)  # fmt: skip
