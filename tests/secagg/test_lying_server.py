"""A server that lies in a session: the real client refuses, says why to its owner alone, and gives nothing away."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedge.audit.leaves import encode
from fedge.encoding import b64decode, b64encode
from fedge.errors import AuditError, FedgeError, RoundError, SignatureError
from fedge.ids import ClientId
from fedge.params import digest as digest_of
from fedge.rounds import client
from fedge.rounds.messages import Parcel, sign
from fedge.rounds.secure.messages import (
    Confirmation,
    LogEntry,
    Shares,
    UnmaskRequest,
)
from fedge.rounds.secure.peers import advertisement
from fedge.secagg.keys import Secrets
from tests.rounds.house import last
from tests.secagg.sessions import FIVE, SHARED, Stage, new_session

ONE, TWO, THREE, FOUR, FIFTH = FIVE


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def steps(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path, *SHARED, "training.steps=3")
    introduction = stage.opened()
    for name in FIVE:
        stage.say(name, introduction)
    return stage


# ---- keys -------------------------------------------------------------------------------------------------------


def own_keys(stage: Stage, name: ClientId, key: Any) -> str:
    """Return an advertisement that the server has made in the name of a client."""
    made = Secrets(stage.session.name, b"the server knows these secrets!!")
    return b64encode(sign(advertisement(name, stage.session.name, made, stage.session.members[name].pinned), key))


def test_keys_of_the_servers_own_making_are_refused(stage: Stage) -> None:
    honest = stage.opened()
    swapped = list(honest.advertisements)
    swapped[1] = own_keys(stage, TWO, stage.here.assembled.server_key)
    with pytest.raises(SignatureError):
        stage.say(ONE, replace(honest, advertisements=tuple(swapped)))


def test_one_clients_keys_under_another_ones_name_are_refused(stage: Stage) -> None:
    honest = stage.opened()
    swapped = list(honest.advertisements)
    swapped[1] = own_keys(stage, TWO, stage.here.site(THREE).key)  # a colluding client lends its key
    with pytest.raises(SignatureError):
        stage.say(ONE, replace(honest, advertisements=tuple(swapped)))


def test_an_enrolment_that_is_not_in_the_pinned_log_is_refused(stage: Stage) -> None:
    honest = stage.opened()
    book = stage.here.assembled.book
    index = book.chain(TWO).named[0]
    enrol = book.enrolled[TWO]
    forged = encode(replace(enrol, key=stage.here.assembled.server_key.public.text), stage.here.assembled.server_key)
    proofs = [e for e in honest.enrolments if e.index != index]
    hashes = next(e for e in honest.enrolments if e.index == index).hashes
    proofs.append(LogEntry(index, b64encode(forged), hashes))
    with pytest.raises(AuditError, match="is not in the tree"):
        stage.say(ONE, replace(honest, enrolments=tuple(proofs)))


def test_a_client_that_is_in_no_log_is_refused(stage: Stage) -> None:
    honest = stage.opened()
    made = Secrets(stage.session.name, b"x" * 32)
    ghost = advertisement("hospital-9", stage.session.name, made, honest.size)
    extra = b64encode(sign(ghost, stage.here.assembled.server_key))
    with pytest.raises(RoundError, match="whose enrolment it does not prove"):
        stage.say(ONE, replace(honest, advertisements=(*honest.advertisements, extra)))


def test_another_log_than_the_pinned_one_is_refused(stage: Stage) -> None:
    honest = stage.opened()
    with pytest.raises(RoundError, match="not what this client has pinned"):
        stage.say(ONE, replace(honest, size=honest.size - 1))


def test_an_introduction_without_oneself_is_refused(stage: Stage) -> None:
    honest = stage.opened()
    with pytest.raises(RoundError, match="own keys are not among"):
        stage.say(ONE, replace(honest, advertisements=honest.advertisements[1:]))


def test_too_small_a_session_is_refused(stage: Stage) -> None:
    honest = stage.opened()
    with pytest.raises(RoundError, match="2 clients are in the session"):
        stage.say(ONE, replace(honest, advertisements=honest.advertisements[:2]))


def test_two_different_introductions_get_one_answer(stage: Stage) -> None:
    honest = stage.opened()
    first = stage.say(ONE, replace(honest, advertisements=honest.advertisements[:4]))
    with pytest.raises(RoundError, match="asks for something else"):
        stage.say(ONE, honest)
    assert stage.say(ONE, replace(honest, advertisements=honest.advertisements[:4])) == first


def test_keys_of_another_session_are_refused(stage: Stage, tmp_path: Path) -> None:
    honest = stage.opened()
    old = Secrets("sha256:" + "0" * 64, b"s" * 32)
    replayed = b64encode(sign(advertisement(TWO, old.session, old, honest.size), stage.here.site(TWO).key))
    swapped = (honest.advertisements[0], replayed, *honest.advertisements[2:])
    with pytest.raises(RoundError, match="of another session"):
        stage.say(ONE, replace(honest, advertisements=swapped))


# ---- shares and masks -------------------------------------------------------------------------------------------


def test_a_share_that_was_tampered_with_is_noticed_before_anything_is_computed(stage: Stage) -> None:
    sealed = stage.sealed()
    request = stage.mask_request(ONE, sealed)
    changed = bytearray(b64decode(request.shares[TWO]))
    changed[5] ^= 1
    with pytest.raises(RoundError, match=f"tampered with on its way \\(from {TWO} to {ONE}\\)"):
        stage.say(ONE, replace(request, shares={**request.shares, TWO: b64encode(bytes(changed))}), model=True)
    assert stage.here.read.get(ONE) is None
    assert stage.here.site(ONE).ledger.spent(stage.here.site(ONE).training.lineage) == ()


def test_a_share_meant_for_another_is_noticed(stage: Stage) -> None:
    sealed = stage.sealed()
    request = stage.mask_request(ONE, sealed)
    with pytest.raises(RoundError, match="tampered"):
        stage.say(ONE, replace(request, shares={**request.shares, TWO: sealed[TWO].shares[THREE]}), model=True)


def test_too_few_participants_are_refused(stage: Stage) -> None:
    sealed = stage.sealed()
    with pytest.raises(RoundError, match="2 clients would be in the sum, at least 4"):
        stage.say(ONE, stage.mask_request(ONE, sealed, (ONE, TWO)), model=True)


def test_a_second_set_of_participants_is_refused(stage: Stage) -> None:
    """Masked once with five, and once with four: the difference of the two would show a mask."""
    sealed = stage.sealed()
    first = stage.say(ONE, stage.mask_request(ONE, sealed), model=True)
    with pytest.raises(RoundError, match="asks for mask again"):
        stage.say(ONE, stage.mask_request(ONE, sealed, FIVE[:4]), model=True)
    assert stage.say(ONE, stage.mask_request(ONE, sealed), model=True).tensors.keys() == first.tensors.keys()


def test_the_order_outside_of_its_session_is_refused(stage: Stage) -> None:
    """The noise of an update under masks may be a share only: it never travels alone."""
    parcel = Parcel((sign(stage.orders[ONE], stage.here.assembled.server_key),), stage.here.model)
    with pytest.raises(RoundError, match="answered only in a session"):
        client.answer(stage.here.site(ONE), "work", parcel)


def test_another_model_than_ordered_is_refused(stage: Stage) -> None:
    sealed = stage.sealed()
    other = {name: array + 1 for name, array in stage.here.model.items()}
    with pytest.raises(RoundError, match="not the one that the order names"):
        stage.say(ONE, stage.mask_request(ONE, sealed), other)


# ---- unmasking --------------------------------------------------------------------------------------------------


def test_unequal_views_of_who_is_in_the_sum_are_refused(stage: Stage) -> None:
    stage.masked()
    views = {ONE: FIVE, TWO: FIVE, THREE: FIVE[:4], FOUR: FIVE[:4]}
    words = {c: stage.say(c, stage.confirm(view)).statements[0] for c, view in views.items()}
    request = UnmaskRequest(stage.session.run, stage.session.name, tuple(b64encode(w) for w in words.values()))
    with pytest.raises(RoundError, match="shows its clients different rounds"):
        stage.say(ONE, request)


def test_a_minority_that_was_told_of_the_same_sum_is_not_enough(stage: Stage) -> None:
    stage.masked()
    words = [stage.say(c, stage.confirm(FIVE)).statements[0] for c in FIVE[:3]]
    request = UnmaskRequest(stage.session.run, stage.session.name, tuple(b64encode(w) for w in words))
    with pytest.raises(RoundError, match="3 clients have confirmed the sum, 4 have to"):
        stage.say(ONE, request)


def test_confirmations_count_once(stage: Stage) -> None:
    stage.masked()
    words = [stage.say(c, stage.confirm(FIVE)).statements[0] for c in FIVE[:2]]
    request = UnmaskRequest(stage.session.run, stage.session.name, tuple(b64encode(w) for w in words * 3))
    with pytest.raises(RoundError, match="2 clients have confirmed"):
        stage.say(ONE, request)


def test_forged_confirmations_are_refused(stage: Stage) -> None:
    stage.masked()
    stage.say(ONE, stage.confirm(FIVE))
    forged = [sign(Confirmation(stage.session.name, c, FIVE, FIVE), stage.here.assembled.server_key) for c in FIVE]
    request = UnmaskRequest(stage.session.run, stage.session.name, tuple(b64encode(w) for w in forged))
    with pytest.raises(SignatureError):
        stage.say(ONE, request)


def test_both_shares_of_one_client_are_never_given(stage: Stage) -> None:
    """First the server says that all five are in the sum, then that the fifth has dropped out."""
    request = stage.confirmed()
    given = stage.session.word(Shares, ONE, stage.say(ONE, request).statements[0])
    assert set(given.self_masks) == set(FIVE)
    assert given.mask_keys == {}
    for message in (stage.confirm(FIVE[:4]), stage.confirm(FIVE)):
        with pytest.raises(RoundError):
            stage.say(ONE, message)
    assert stage.here.site(ONE).sessions.of(stage.session.run).secret == ""  # type: ignore[union-attr]


def test_a_second_sum_is_not_confirmed(stage: Stage) -> None:
    stage.masked()
    stage.say(ONE, stage.confirm(FIVE))
    with pytest.raises(RoundError, match="asks for survivors again"):
        stage.say(ONE, stage.confirm(FIVE[:4]))


def test_a_sum_of_too_few_is_not_confirmed(stage: Stage) -> None:
    stage.masked()
    with pytest.raises(RoundError, match="1 clients would be in the sum"):
        stage.say(ONE, stage.confirm((ONE,)))


def test_who_has_sent_nothing_confirms_nothing(stage: Stage) -> None:
    sealed = stage.sealed()
    with pytest.raises(RoundError, match="ahead of itself"):
        stage.say(ONE, stage.confirm(FIVE))
    del sealed


def test_the_same_update_is_never_in_two_different_sums(stage: Stage) -> None:
    """An aborted attempt is begun anew with one client less: the difference of the sums would be its update."""
    stage.say(ONE, stage.confirmed())
    stage.here.assembled.book.resumed += 1
    again = new_session(stage.here)
    stage.session = again
    assert {o.attempt for o in again.orders.values()} == {2}
    stage.masked()
    with pytest.raises(RoundError, match="in the sum of an earlier attempt with other clients"):
        stage.say(ONE, stage.confirm(FIVE[:4]))
    stage.say(ONE, stage.confirm(FIVE))


# ---- replay -----------------------------------------------------------------------------------------------------


def test_a_round_that_is_past_is_not_replayed(stage: Stage) -> None:
    here = stage.here
    here.rounds(2)
    said = last(stage.say(ONE, stage.orders[ONE]))
    assert (said.outcome, said.reason) == ("refused", "replayed_order")


def test_messages_of_a_session_that_was_replaced_are_refused(stage: Stage) -> None:
    introduction = stage.opened()
    other = new_session(stage.here, round_=2)
    stage.say(ONE, other.orders[ONE])
    with pytest.raises(RoundError, match="another has taken its place"):
        stage.say(ONE, introduction)


def test_messages_signed_by_somebody_else_are_refused(stage: Stage) -> None:
    introduction = stage.opened()
    with pytest.raises(SignatureError):
        client.answer(stage.here.site(ONE), "secure", Parcel((sign(introduction, stage.here.site(TWO).key),)))


TERMS: dict[str, Callable[[Any], Any]] = {
    "a ring that wraps": lambda terms: replace(terms, bits=8),
    "nobody left": lambda terms: replace(terms, colluding=5),
    "steps without noise": lambda terms: replace(terms, steps=2, norm=None),
    "noise without steps": lambda terms: replace(terms, noise="distributed"),
}


@pytest.mark.parametrize("name", TERMS)
def test_unsound_terms_are_refused_in_a_statement(stage: Stage, name: str) -> None:
    order = replace(stage.orders[ONE], terms=TERMS[name](stage.orders[ONE].terms))
    said = last(stage.say(ONE, order))
    assert (said.outcome, said.reason) == ("refused", "unsound_terms")


def test_the_owner_decides_how_many_may_collude(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "policy.minimum_colluding=2")
    said = last(stage.say(ONE, stage.orders[ONE]))
    assert (said.outcome, said.reason) == ("refused", "too_few_colluders_covered")


# ---- steps ------------------------------------------------------------------------------------------------------


def test_a_self_mask_is_revealed_for_one_attempt_only(steps: Stage) -> None:
    """Two sums of the same step, with and without one client, would show its update."""
    steps.say(ONE, steps.step(1, 1), model=True)
    steps.say(ONE, steps.reveal(1, 1))
    with pytest.raises(RoundError, match="does not follow"):
        steps.say(ONE, steps.step(1, 2, FIVE[:4]), model=True)


def test_after_another_attempt_the_first_stays_hidden(steps: Stage) -> None:
    steps.say(ONE, steps.step(1, 1), model=True)
    steps.say(ONE, steps.step(1, 2, FIVE[:4]), model=True)
    with pytest.raises(RoundError, match="for the latest attempt"):
        steps.say(ONE, steps.reveal(1, 1))
    steps.say(ONE, steps.reveal(1, 2))


def test_a_step_with_less_noise_than_promised_is_refused(steps: Stage) -> None:
    with pytest.raises(RoundError, match="2 clients would be in the sum, at least 3"):
        steps.say(ONE, steps.step(1, 1, FIVE[:2]), model=True)


@pytest.mark.parametrize(("step", "attempt"), [(2, 1), (0, 1), (4, 1), (1, 0)])
def test_steps_come_in_order(steps: Stage, step: int, attempt: int) -> None:
    with pytest.raises(RoundError, match=r"no such step|does not follow"):
        steps.say(ONE, steps.step(step, attempt), model=True)


def test_who_was_left_out_does_not_come_back(steps: Stage) -> None:
    steps.say(ONE, steps.step(1, 1), model=True)
    steps.say(ONE, steps.step(1, 2, FIVE[:3]), model=True)
    steps.say(ONE, steps.reveal(1, 2))
    with pytest.raises(RoundError, match="are not clients of this session"):
        steps.say(ONE, steps.step(2, 1), model=True)


def test_the_same_step_gets_the_same_bytes_and_spends_nothing(steps: Stage) -> None:
    first = steps.say(ONE, steps.step(1, 1), model=True)
    again = steps.say(ONE, steps.step(1, 1), model=True)
    assert first.statements == again.statements
    assert digest_of(first.tensors) == digest_of(again.tensors)
    assert len(steps.here.site(ONE).ledger.spent(steps.here.site(ONE).training.lineage)) == 1


def test_hostile_words_raise_nothing_but_our_own(stage: Stage) -> None:
    for data in (b"", b"{}", b"null", b'{"payload":"","payloadType":"x","signatures":[]}', bytes(range(256))):
        with pytest.raises(FedgeError):
            client.answer(stage.here.site(ONE), "secure", Parcel((data,)))
