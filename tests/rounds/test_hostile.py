"""A client that lies: its answer is rejected with the reason, the reason is in the log, and the round goes on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedge.assemble import config_bytes
from fedge.audit.leaves import DataUse, RoundClose, UpdateRejected, decode, encode
from fedge.audit.verify import verify_run
from fedge.errors import AuditError, FedgeError, RoundError
from fedge.params import digest as digest_of
from fedge.reports.words import REASONS
from fedge.rounds.messages import Kind, Parcel
from fedge.signing import PrivateKey
from tests.rounds.house import ONE, THREE, TWO, Answer, House, SilentError, house, last

Twist = Callable[[House, Parcel], Parcel]


def restated(here: House, parcel: Parcel, key: PrivateKey | None = None, **changes: Any) -> tuple[bytes, ...]:
    """Return the client's statement with `changes`, signed by the client itself (or by `key`)."""
    return (*parcel.statements[:-1], encode(replace(last(parcel), **changes), key or here.site(ONE).key))


def own(here: House, parcel: Parcel, tensors: dict[str, Any]) -> Parcel:
    """Return an answer whose tensors the client really signed for."""
    return Parcel(restated(here, parcel, update=digest_of(tensors)), tensors)


def scaled(parcel: Parcel, factor: float) -> dict[str, Any]:
    return {name: (array * factor).astype(array.dtype) for name, array in parcel.tensors.items()}


BAD_UPDATE: dict[str, Twist] = {
    "other tensors": lambda _, p: Parcel(p.statements, scaled(p, 100)),
    "another digest": lambda here, p: Parcel(restated(here, p, update="sha256:" + "0" * 64), p.tensors),
    "no digest": lambda here, p: Parcel(restated(here, p, update=None), p.tensors),
    "no tensors": lambda _, p: Parcel(p.statements, {}),
    "NaN": lambda here, p: own(here, p, scaled(p, float("nan"))),
    "infinite": lambda here, p: own(here, p, scaled(p, float("inf"))),
    "an extra tensor": lambda here, p: own(here, p, {**p.tensors, "more": np.zeros(3, np.float32)}),
    "a tensor less": lambda here, p: own(here, p, dict(list(p.tensors.items())[1:])),
    "another shape": lambda here, p: own(here, p, {n: a[..., None] for n, a in p.tensors.items()}),
    "another type": lambda here, p: own(here, p, {n: a.astype(np.float64) for n, a in p.tensors.items()}),
    "a false size": lambda here, p: own(here, p, {**p.tensors, "fedge.public_size": np.asarray([-5.0])}),
    "a size of NaN": lambda here, p: own(here, p, {**p.tensors, "fedge.public_size": np.asarray([np.nan])}),
}
BAD_STATEMENT: dict[str, Twist] = {
    "another key": lambda here, p: Parcel(restated(here, p, PrivateKey(b"\x05" * 32)), p.tensors),
    "another client's key": lambda here, p: Parcel(restated(here, p, here.site(TWO).key), p.tensors),
    "a gap": lambda here, p: Parcel(restated(here, p, seq=last(p).seq + 1), p.tensors),
    "another past": lambda here, p: Parcel(restated(here, p, previous="sha256:" + "1" * 64), p.tensors),
    "another run": lambda here, p: Parcel(restated(here, p, run="other"), p.tensors),
    "another name": lambda here, p: Parcel(restated(here, p, client="hospital-2"), p.tensors),
    "another order": lambda here, p: Parcel(restated(here, p, order="sha256:" + "1" * 64), p.tensors),
    "garbage": lambda _, p: Parcel((b"garbage",), p.tensors),
    "nothing": lambda _, p: Parcel((), p.tensors),
    "too much": lambda _, p: Parcel(p.statements * 1001, p.tensors),
    "the server's words": lambda here, p: Parcel((here.assembled.book.log.entries()[0],), p.tensors),
}


def lying(here: House, twist: Twist, from_round: int = 1) -> Callable[[Answer], Answer]:
    """Return what makes a client answer work with `twist` from `from_round` on."""

    def wrap(honest: Answer) -> Answer:
        def answer(kind: Kind, parcel: Parcel) -> Parcel:
            true = honest(kind, parcel)
            return twist(here, true) if kind == "work" and last(true).round >= from_round else true

        return answer

    return wrap


LIES = [*(("bad_update", n) for n in BAD_UPDATE), *(("bad_statement", n) for n in BAD_STATEMENT)]


@pytest.mark.parametrize(
    ("reason", "lie", "engine"),
    [*((r, n, "direct") for r, n in LIES), *((r, n, "flower") for r, n in LIES if n in {"NaN", "garbage"})],
)
def test_a_lie_is_rejected_and_the_round_goes_on(tmp_path: Path, reason: str, lie: str, engine: str) -> None:
    here = house(tmp_path, f"engine={engine}")
    here.wrapped[ONE] = lying(here, (BAD_UPDATE | BAD_STATEMENT)[lie])
    (record,) = here.rounds(1)
    assert {p.client: (p.outcome, p.reason) for p in record.participants} == {
        ONE: ("rejected", reason),
        TWO: ("accepted", None),
        THREE: ("accepted", None),
    }
    assert not record.void
    (rejected,) = [leaf for leaf in here.leaves() if isinstance(leaf, UpdateRejected)]
    assert (rejected.client, rejected.reason) == (ONE, reason)
    logged = [leaf for leaf in here.leaves() if isinstance(leaf, DataUse) and leaf.client == ONE]
    assert len(logged) == (reason == "bad_update")  # a true signature is evidence, whatever it comes with
    assert reason in REASONS


def test_the_new_model_is_made_of_the_honest_updates_alone(tmp_path: Path) -> None:
    here = house(tmp_path / "hostile")
    here.wrapped[ONE] = lying(here, BAD_UPDATE["other tensors"])
    without = house(tmp_path / "without")
    without.wrapped[ONE] = silent
    assert here.rounds(1)[0].model_out == without.rounds(1)[0].model_out


def silent(honest: Answer) -> Answer:
    def answer(kind: Kind, parcel: Parcel) -> Parcel:
        if kind == "work":
            raise SilentError
        return honest(kind, parcel)

    return answer


def test_a_silent_client_is_named(tmp_path: Path) -> None:
    here = house(tmp_path)
    here.wrapped[ONE] = silent
    for record in here.rounds(2):
        assert [(p.client, p.outcome) for p in record.participants if p.outcome != "accepted"] == [(ONE, "silent")]
        assert not record.void


def test_a_round_of_lies_is_void_and_keeps_the_model(tmp_path: Path) -> None:
    here = house(tmp_path)
    here.wrapped |= dict.fromkeys((ONE, TWO), silent)
    (record,) = here.rounds(1)
    assert (record.void, record.reason, record.accepted) == (True, "too_few_updates", 1)
    assert record.model_out == record.model_in == digest_of(here.model)
    (closing,) = [leaf for leaf in here.leaves() if isinstance(leaf, RoundClose)]
    assert (closing.void, closing.reason) == (True, "too_few_updates")


def test_a_run_goes_on_after_a_void_round(tmp_path: Path) -> None:
    here = house(tmp_path)
    here.wrapped |= dict.fromkeys((ONE, TWO), until_round_two)
    first, second = here.rounds(2)
    assert (first.void, second.void) == (True, False)
    assert second.model_in == first.model_out != second.model_out


def until_round_two(honest: Answer) -> Answer:
    asked = 0

    def answer(kind: Kind, parcel: Parcel) -> Parcel:
        nonlocal asked
        asked += kind == "work"
        if kind == "work" and asked == 1:
            raise SilentError
        return honest(kind, parcel)

    return answer


def test_too_few_clients_end_the_run_before_it_begins(tmp_path: Path) -> None:
    here = house(tmp_path, "sampling.minimum_clients=4")
    with pytest.raises(RoundError, match="at least 4 are needed"):
        here.rounds()


# ---- witnesses --------------------------------------------------------------------------------------------------


def no_seal(honest: Answer) -> Answer:
    def answer(kind: Kind, parcel: Parcel) -> Parcel:
        if kind == "seal":
            raise SilentError
        return honest(kind, parcel)

    return answer


def test_a_minority_of_witnesses_stops_nothing(tmp_path: Path) -> None:
    here = house(tmp_path)
    here.wrapped[THREE] = no_seal
    assert len(here.rounds(2)) == 2


def test_without_a_quorum_nothing_is_released_and_each_witness_is_named(tmp_path: Path) -> None:
    """Order of effect 3: the round is in the log, and its model is with nobody."""
    here = house(tmp_path)
    here.wrapped |= {TWO: no_seal, THREE: no_seal}
    with pytest.raises(AuditError, match=r"2 organisations are needed.*hospital-1: cosigned.*hospital-2: silent"):
        here.rounds()
    assert not (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / "audit" / "checkpoint").exists()


def test_a_broken_seal_counts_for_nothing(tmp_path: Path) -> None:
    here = house(tmp_path)

    def broken(honest: Answer) -> Answer:
        return lambda kind, parcel: Parcel((b"garbage",)) if kind == "seal" else honest(kind, parcel)

    here.wrapped |= {TWO: broken, THREE: broken}
    with pytest.raises(AuditError, match="not released"):
        here.rounds()


def test_a_seal_of_the_round_after_makes_up_for_it(tmp_path: Path) -> None:
    """The witnesses are back: the same entries are sealed on restart, and the run goes on to the same end."""
    here = house(tmp_path)
    here.wrapped |= {TWO: no_seal, THREE: no_seal}
    with pytest.raises(AuditError):
        here.rounds()
    again = house(tmp_path)
    assert [r.round for r in again.rounds()] == [1, 2, 3]
    undisturbed = house(tmp_path / "other").rounds()
    assert undisturbed[-1].model_out == again.assembled.book.closed.model_out  # type: ignore[union-attr]


# ---- a client whose task fails ----------------------------------------------------------------------------------


def test_a_task_that_raises_is_an_outcome_and_its_traceback_stays_at_home(tmp_path: Path) -> None:
    here = house(tmp_path)
    site = here.site(ONE)

    def secret_failure(*_: Any) -> Any:
        raise ZeroDivisionError("patient p-0001 weighs 0 kg")

    here.assembled.sites[ONE] = replace(site, task=replace(site.task, loss=secret_failure))
    (record,) = here.rounds(1)
    part = next(p for p in record.participants if p.client == ONE)
    assert (part.outcome, part.reason) == ("failed", "task_error")
    assert record.accepted == 2
    assert "weighs 0 kg" in site.faults.read_text()
    assert not any(b"weighs" in entry for entry in here.assembled.book.log.entries())
    assert len(site.ledger.spent(site.training.lineage)) == 1  # records were read: it is spent


def test_a_loss_that_mixes_records_fails_as_unsound(tmp_path: Path) -> None:
    here = house(tmp_path)
    site = here.site(ONE)
    mixing = replace(site.task, loss=lambda outputs, targets: (outputs.sum(1) * targets).mean())
    here.assembled.sites[ONE] = replace(site, task=mixing)
    part = next(p for p in here.rounds(1)[0].participants if p.client == ONE)
    assert (part.outcome, part.reason) == ("failed", "unsound")
    assert "unsound" in REASONS


# ---- what the log is after all that -----------------------------------------------------------------------------


def test_a_log_with_lies_in_it_still_holds(tmp_path: Path) -> None:
    here = house(tmp_path)
    here.wrapped[ONE] = lying(here, BAD_UPDATE["NaN"], from_round=2)

    def whole(coordinator: Any) -> None:
        list(coordinator.rounds())
        coordinator.close(None)

    (tmp_path / "config.json").write_bytes(config_bytes(here.assembled.config))
    here.coordinated(whole)
    found = verify_run(tmp_path)
    assert found.holds, found.checks


def test_statements_of_before_are_not_handed_in_twice(tmp_path: Path) -> None:
    """A client without a receipt hands its statements in again; the log takes each once."""
    here = house(tmp_path)
    here.wrapped[ONE] = no_seal
    here.rounds()
    said = [leaf for leaf in here.leaves() if isinstance(leaf, DataUse) and leaf.client == ONE]
    assert [use.seq for use in said] == [0, 1, 2]


def test_decoding_a_hostile_statement_raises_nothing_but_our_own() -> None:
    for data in (b"", b"{}", b"null", b"[]", b'{"payload":"","payloadType":"x","signatures":[]}', bytes(range(256))):
        with pytest.raises(FedgeError):
            decode(data)
