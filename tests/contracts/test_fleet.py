"""What the coordinator may rely on, of every fleet: answers by name, and silence for everything that is broken."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from fedge.errors import RoundError, StorageError
from fedge.flower import wire
from fedge.flower.apps import client_app
from fedge.flower.fleet import FlowerFleet
from fedge.flower.grid import InProcessGrid
from fedge.ids import ClientId
from fedge.params import digest
from fedge.rounds.messages import Enrolment, Fleet, Hello, Kind, Parcel, sign
from fedge.signing import PrivateKey
from fedge.simulation import fleet as simulation
from fedge.simulation.fleet import DirectFleet
from fedge.simulation.pool import Board, PoolFleet
from fedge.simulation.sites import Group

Answer = Callable[[Kind, Parcel], Parcel]
Make = Callable[[Mapping[ClientId, Answer]], Fleet]
A, B, C = ClientId("a"), ClientId("b"), ClientId("c")
SERVER = PrivateKey(b"\x09" * 32)
HELLO = Parcel((sign(Hello("run", "key", "key", "2026-11-23T09:30:00.000Z"), SERVER),))


def enrolled(name: str) -> Parcel:
    key = PrivateKey(name.encode().ljust(32, b"."))
    return Parcel((sign(Enrolment(name, key.public.text, "witness", name, None), key),))


def client(name: str, work: Answer | None = None) -> Answer:
    """Return a client that enrols as `name`, and answers everything else with `work` (its own name by default)."""

    def answer(kind: Kind, parcel: Parcel) -> Parcel:
        if kind == "hello":
            return enrolled(name)
        return work(kind, parcel) if work else Parcel((f"{name}: {kind}".encode(),), parcel.tensors)

    return answer


def over_flower(answers: Mapping[ClientId, Answer]) -> Fleet:
    return FlowerFleet(InProcessGrid({n: client_app(a) for n, a in enumerate(answers.values(), start=2)}), HELLO)


def backwards_over_flower(answers: Mapping[ClientId, Answer]) -> Fleet:
    """The same, with node numbers that run against the names."""
    return over_flower(dict(reversed(answers.items())))


FLEETS: Mapping[str, Make] = {"direct": DirectFleet, "flower": over_flower, "flower backwards": backwards_over_flower}


class Held(dict[ClientId, ClientId]):
    """Sites of which nothing is known but their names; each is a group of its own."""

    def together(self, names: Iterable[ClientId]) -> list[Group]:
        return [Group((name,), nullcontext) for name in sorted(names)]

    def forget(self, names: Iterable[ClientId]) -> None:
        pass


def in_phases(answers: Mapping[ClientId, Answer], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A cohort fleet whose clients answer at once when they take up work."""
    said = SimpleNamespace(
        answer=lambda site, kind, parcel: answers[site](kind, parcel),
        take_up=lambda site, parcel: answers[site]("work", parcel),
    )
    monkeypatch.setattr(simulation, "client", said)
    held: Any = Held({name: name for name in answers})
    return simulation.CohortFleet(held)


@pytest.fixture(params=[*FLEETS, "cohort", "pool"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    with ExitStack() as stack:

        def pooled(answers: Mapping[ClientId, Answer]) -> Fleet:
            def own(names: Sequence[ClientId]) -> Fleet:
                return DirectFleet({name: answers[name] for name in names})

            return stack.enter_context(PoolFleet(list(answers), own, 2))

        others = {"cohort": lambda answers: in_phases(answers, monkeypatch), "pool": pooled}
        yield (dict(FLEETS) | others)[request.param]


def everyone(make: Make, **others: Answer) -> Fleet:
    return make({ClientId(n): others.get(n, client(n)) for n in (A, B, C)})


def test_the_roster_is_all_clients_by_name(make: Make) -> None:
    assert sorted(everyone(make).roster()) == [A, B, C]


@pytest.mark.parametrize("kind", ["work", "seal"])
def test_each_client_answers_its_own_parcel(make: Make, kind: Kind) -> None:
    parcels = {name: Parcel((), {"x": np.full(3, n, np.float32)}) for n, name in enumerate((A, B, C))}
    answers = everyone(make).dispatch(kind, parcels)
    assert {n: p.statements for n, p in answers.items()} == {n: (f"{n}: {kind}".encode(),) for n in (A, B, C)}
    for name, parcel in parcels.items():
        assert digest(answers[name].tensors) == digest(parcel.tensors)


def test_only_those_who_were_asked_answer(make: Make) -> None:
    fleet = everyone(make)
    assert set(fleet.dispatch("work", {B: Parcel()})) == {B}
    assert dict(fleet.dispatch("work", {})) == {}


def test_a_client_that_is_not_there_is_silent(make: Make) -> None:
    answers = everyone(make).dispatch("work", {A: Parcel(), ClientId("nobody"): Parcel()})
    assert set(answers) == {A}


@pytest.mark.parametrize(
    "fault",
    [RoundError("ours"), StorageError("no space left"), ValueError("theirs"), OSError(28, "no space"), MemoryError()],
    ids=lambda fault: type(fault).__name__,
)
def test_a_client_that_raises_is_silent_and_the_others_are_heard(make: Make, fault: Exception) -> None:
    def broken(_kind: Kind, _parcel: Parcel) -> Parcel:
        raise fault

    answers = everyone(make, b=client("b", broken)).dispatch("work", {n: Parcel() for n in (A, B, C)})
    assert set(answers) == {A, C}


def test_the_order_of_questions_and_answers_does_not_matter(make: Make) -> None:
    forwards = everyone(make).dispatch("work", {n: Parcel() for n in (A, B, C)})
    backwards = everyone(make).dispatch("work", {n: Parcel() for n in (C, B, A)})
    assert forwards == backwards


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3, 4)])
def test_tensors_arrive_as_they_were_sent(make: Make, shape: tuple[int, ...], dtype: str) -> None:
    sent = {"w.0": np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape), "b": np.asarray([np.pi], dtype)}
    got = everyone(make).dispatch("work", {A: Parcel((), sent)})[A].tensors
    assert {n: (a.shape, a.dtype) for n, a in got.items()} == {n: (a.shape, a.dtype) for n, a in sent.items()}
    for name, array in sent.items():
        np.testing.assert_array_equal(got[name], array)


def test_statements_arrive_as_they_were_sent(make: Make) -> None:
    def echo(_kind: Kind, parcel: Parcel) -> Parcel:
        return parcel

    sent = (b"", b"\x00\xff", "é".encode(), b"a" * 100_000)
    assert everyone(make, a=client("a", echo)).dispatch("work", {A: Parcel(sent)})[A].statements == sent


# ---- what only a carrier can do wrong ---------------------------------------------------------------------------


def hello_of(parcel: Parcel) -> Answer:
    return lambda kind, _parcel: parcel if kind == "hello" else Parcel((b"mine",))


@pytest.mark.parametrize(
    "introduction",
    [Parcel(), Parcel((b"garbage",)), Parcel(enrolled("b").statements * 2), enrolled("../b"), HELLO],
    ids=["nothing", "garbage", "twice", "no name", "another message"],
)
def test_a_node_that_does_not_introduce_itself_is_not_there(introduction: Parcel) -> None:
    fleet = over_flower({A: client("a"), B: hello_of(introduction), C: client("c")})
    assert list(fleet.roster()) == [A, C]


def test_a_second_node_cannot_take_over_a_name() -> None:
    fleet = over_flower({A: client("a"), B: client("a", lambda _k, _p: Parcel((b"thief",)))})
    assert list(fleet.roster()) == [A]
    assert fleet.dispatch("work", {A: Parcel()})[A].statements == (b"a: work",)


def test_a_server_that_knows_names_from_its_log_can_ask_at_once() -> None:
    """After a restart nobody has asked for the roster yet."""
    assert set(everyone(over_flower).dispatch("seal", {n: Parcel() for n in (A, B, C)})) == {A, B, C}


def test_a_message_of_another_form_counts_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    for record in (
        RecordDict(),
        RecordDict({"arrays": ConfigRecord(), "statements": ConfigRecord({"statements": [b"x"]})}),
        RecordDict({"metrics": MetricRecord({"loss": 0.1})}),
    ):

        def twisted(_parcel: Parcel, record: Any = record) -> RecordDict:
            return record

        fleet = everyone(over_flower)
        fleet.roster()
        with monkeypatch.context() as patch:
            patch.setattr(wire, "to_record", twisted)
            assert dict(fleet.dispatch("work", {A: Parcel()})) == {}
        with pytest.raises(RoundError):
            wire.from_record(record)


def test_a_process_of_the_pool_that_dies_is_named_with_what_to_do() -> None:
    """The others live on, and nobody waits for the dead one."""

    def dying(_kind: Kind, _parcel: Parcel) -> Parcel:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    answers = {A: client("a", dying), B: client("b"), C: client("c")}
    pool = PoolFleet([A, B, C], lambda own: DirectFleet({n: answers[n] for n in own}), 2)
    with pool as fleet, pytest.raises(RoundError, match=r"has died \(exit code -9\).*lower `workers`.*resume="):
        fleet.dispatch("work", {A: Parcel()})


def test_a_model_too_large_for_the_board_travels_all_the_same() -> None:
    board = Board(64)
    assert board.post({"w": np.zeros(100)}) is None
    posted = board.post({"w": np.arange(4.0), "b": np.zeros((0, 2), np.float32)})
    assert posted is not None
    assert digest(board.read(posted)) == digest({"w": np.arange(4.0), "b": np.zeros((0, 2), np.float32)})
