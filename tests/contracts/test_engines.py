"""The same run on every engine: who is asked, what is drawn, what is spent, what is logged, and the model.

Clock, keys and processor time stand still, so that runs can be compared to the last byte of their logs.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from fedge import params as parameters
from fedge.assemble import Hooks, assemble
from fedge.audit.leaves import DataUse, RoundClose, decode
from fedge.carrying import carry
from fedge.cli.clients import client_folders
from fedge.compose import compose
from fedge.consent.store import PermissionStore
from fedge.errors import ConfigError
from fedge.ids import ClientId, RunId
from fedge.learning import models
from fedge.learning.loader import OnRead
from fedge.learning.recipe import Recipe, Shuffled
from fedge.learning.task import Task
from fedge.learning.tasks import builtin
from fedge.learning.together import TOLERANCE
from fedge.privacy.ledger import Ledger, Reservation
from fedge.privacy.noise import seeded
from fedge.rounds.folder import RunFolder
from fedge.running import Watch, resume, run
from fedge.simulation.engines import choose
from tests.rounds.house import FEW, Clock, withdrawal

MANY = (
    *FEW, "population=iid", "population.clients=9", "population.packed=true", "sampling.fraction=0.5", "rounds=2",
    "consent=mixed", "training.momentum=0.5", "strategy.proximal_mu=0.1",
)  # fmt: skip
EXACT = ("flower", "pool")
"""Engines on which everything is as on engine=direct, to the last bit."""


class Ran:
    """What a run has left behind."""

    def __init__(
        self,
        root: Path,
        engine: str,
        *more: str,
        workers: int | None = None,
        task: Task | None = None,
        on_read: Callable[[ClientId], OnRead] | None = None,
        here: list[Any] | None = None,
    ) -> None:
        count = workers or (2 if engine == "pool" else 1)
        config = compose([*MANY, f"out={root}", *more, f"engine={engine}", f"workers={count}"])
        task = task or builtin(config.task.name)
        self.read: dict[ClientId, list[list[int]]] = {}
        hooks = Hooks(random_bytes=still, cpu_seconds=lambda: 0.0, on_read=on_read or self._noting)
        if here is not None:
            here.append(self)
        self.assembled = assembled = assemble(config, task, RunId("cancer-7-test"), RunFolder(root), hooks, Clock())
        # The configuration, and with it the first entry, names the engine; all that follows must not.
        opening = replace(assembled.plan.opening, config_digest="sha256:" + "0" * 64)
        coordinator = assembled.coordinator
        plan = replace(assembled.plan, opening=opening)

        def body(fleet: object) -> None:
            one = replace(coordinator(fleet), plan=plan)  # type: ignore[arg-type]
            self.records = list(one.rounds())
            one.close(None)

        carry(assembled, body)
        self.root = assembled.book.log.root(assembled.book.log.size).hex()
        self.leaves = [decode(entry)[0] for entry in assembled.book.log.entries()]
        folders = client_folders(root)
        ledgers = {n: Ledger(f.journal("spends")) for n, f in folders.items()}
        self.ledgers = {n: held.head().text for n, held in ledgers.items()}
        self.spent = {n: held.unfinished() or _spent(held) for n, held in ledgers.items()}
        self.first = models.initial(task.model, config.seed)
        self.model = parameters.load(root / "model.safetensors")
        self.permissions = {n: PermissionStore(f.journal("permissions")).snapshot_digest() for n, f in folders.items()}

    def _noting(self, name: ClientId) -> OnRead:
        return lambda indices: self.read.setdefault(name, []).append(indices.tolist())

    @property
    def models(self) -> list[str]:
        return [leaf.model_out for leaf in self.leaves if isinstance(leaf, RoundClose)]

    @property
    def uses(self) -> list[DataUse]:
        return [leaf for leaf in self.leaves if isinstance(leaf, DataUse)]


def _spent(ledger: Ledger) -> list[Reservation]:
    return [s for lineage in ledger.lineages() for s in ledger._spends.get(lineage, ())]


def still(party: str) -> Callable[[int], bytes]:
    """Return random bytes that are the same in every run: a stream for each party."""
    numbers = itertools.count()
    return lambda count: seeded(1, "still", party, next(numbers)).draw(count)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("direct"), "direct")


@pytest.mark.parametrize("engine", EXACT)
def test_the_same_to_the_last_bit(tmp_path: Path, engine: str, direct: Ran) -> None:
    other = Ran(tmp_path, engine)
    assert [r.participants for r in other.records] == [r.participants for r in direct.records]
    assert other.models == direct.models
    assert other.ledgers == direct.ledgers
    assert other.permissions == direct.permissions
    assert other.root == direct.root, "the logs differ"
    assert sum(use.outcome == "submitted" for use in direct.uses) == 10


# ---- all at once: the same facts, and models that differ by the rounding of float32 ------------------------------


@pytest.fixture(scope="module")
def vectorised(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("vectorised"), "vectorised")


def test_all_at_once_everything_but_the_numbers_is_the_same(direct: Ran, vectorised: Ran) -> None:
    assert vectorised.permissions == direct.permissions
    assert [r.participants for r in vectorised.records] == [r.participants for r in direct.records]
    assert list(map(facts, vectorised.uses)) == list(map(facts, direct.uses))
    assert vectorised.read == direct.read, "batches differ"
    assert spends(vectorised) == spends(direct)
    assert [type(leaf) for leaf in vectorised.leaves] == [type(leaf) for leaf in direct.leaves]


def facts(use: DataUse) -> DataUse:
    """Return what a client states but for what depends on the last bits of a model."""
    blank = "sha256:" + "0" * 64
    privacy = replace(use.privacy, ledger_head=None)
    return replace(use, previous=None, model_in=blank, update=blank, order=blank, privacy=privacy)


def spends(ran: Ran) -> dict[str, list[object]]:
    return {name: [(s.event, s.plan, s.repeatable) for s in found] for name, found in ran.spent.items()}


def test_all_at_once_the_models_agree_to_within_the_tolerance(direct: Ran, vectorised: Ran) -> None:
    moved = max(float(np.abs(value - direct.first[name]).max()) for name, value in direct.model.items())
    for name, value in direct.model.items():
        np.testing.assert_allclose(vectorised.model[name], value, rtol=0, atol=TOLERANCE * moved)


def test_on_two_processes_all_at_once_agrees_too(tmp_path: Path, vectorised: Ran) -> None:
    other = Ran(tmp_path, "vectorised", workers=2)
    assert list(map(facts, other.uses)) == list(map(facts, vectorised.uses))
    for name, value in vectorised.model.items():
        np.testing.assert_allclose(other.model[name], value, rtol=0, atol=1e-5)


def test_a_withdrawal_between_two_batches_keeps_records_out_of_all_later_ones(tmp_path: Path) -> None:
    """Consent before touch, of a cohort: whoever withdraws while all train is in no batch from then on."""
    here: list[Ran] = []
    batches_read: list[tuple[str, list[int]]] = []
    gone: list[tuple[str, int]] = []

    def on_read(name: ClientId) -> Callable[[NDArray[np.int64]], None]:
        def note(indices: NDArray[np.int64]) -> None:
            batches_read.append((name, indices.tolist()))
            if not gone and len(indices):
                site = here[0].assembled.sites[name]
                gone.append((name, int(indices[0])))
                person = site.training.records.subjects[indices[0]]
                site.permissions.append([withdrawal(person, site.machine.clock())])

        return note

    ran = Ran(tmp_path, "vectorised", "rounds=1", "training.steps=6", on_read=on_read, here=here)
    ((name, index),) = gone
    assert sum(index in indices for who, indices in batches_read if who == name) == 1
    (use,) = [use for use in ran.uses if use.client == name]
    assert (use.outcome, use.reason) == ("skipped", "withdrawn_in_flight")


def test_one_client_that_breaks_while_all_read_fails_alone(tmp_path: Path, vectorised: Ran) -> None:
    unlucky = vectorised.uses[0].client

    def on_read(name: ClientId) -> Callable[[NDArray[np.int64]], None]:
        def broken(_indices: NDArray[np.int64]) -> None:
            if name == unlucky:
                raise ValueError("a broken disk")

        return broken

    ran = Ran(tmp_path, "vectorised", "rounds=1", on_read=on_read)
    outcomes = {use.client: (use.outcome, use.reason) for use in ran.uses}
    assert outcomes.pop(unlucky) == ("failed", "task_error")
    assert set(outcomes.values()) == {("submitted", None)}


def test_if_the_cohort_breaks_each_learns_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: Ran
) -> None:
    def broken(*_asked: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fedge.simulation.engines.train_together", broken)
    assert Ran(tmp_path, "vectorised").models == direct.models


def test_what_cannot_be_taken_at_once_is_refused_with_the_reason_and_auto_does_not_take_it(tmp_path: Path) -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(30, 2))

    task = replace(builtin("cancer"), model=model)
    with pytest.raises(ConfigError, match=r"Dropout.*use engine=pool or direct, or auto"):
        Ran(tmp_path / "a", "vectorised", task=task)
    choice = choose(task, Recipe(1, 0.1, Shuffled(4)), (30,), 1, 100, lambda: 0.0)
    assert choice.engine == "direct"
    assert "Dropout" in choice.why


def test_auto_says_what_it_chose_and_a_resumed_run_keeps_it(tmp_path: Path) -> None:
    said: list[str] = []
    result = run(*MANY, "engine=auto", "rounds=1", f"out={tmp_path}", watch=Watch(on_step=said.append))
    assert any(line.startswith("engine=auto takes ") for line in said)
    kept = result.folder / "server" / "engine.json"
    kept.write_text('{"engine": "direct", "why": "because it was so"}')
    said.clear()
    resume(result.folder, watch=Watch(on_step=said.append))
    assert "engine=auto takes direct: because it was so" in said


@pytest.mark.parametrize(("slow", "engine"), [(0.0, "direct"), (9.0, "vectorised")])
def test_auto_takes_what_was_faster(slow: float, engine: str) -> None:
    """By a clock that a test holds: one by one takes `slow` seconds, all at once takes one."""
    times = iter([0.0, slow, 10.0, 11.0])
    task = builtin("cancer")
    assert choose(task, Recipe(1, 0.1, Shuffled(4)), (30,), 1, 100, lambda: next(times)).engine == engine
