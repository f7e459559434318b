"""Exact unlearning: redo a run from its last state that a person's records had no part in, without the person.

The redone rounds use the seeds, cohorts and dice of the first ones, so in a seeded simulation the result is, byte for
byte, the model of a run that never had the person (and, of everybody else, what is permitted *today*). That rests on
where the redoing starts. Under Poisson sampling each record in the pool has its own coin, drawn in the pool's order;
one record less gives all that follow another coin. So the last unaffected state is not the one before the first batch
that held the person: it is the one before the first *pool* that did. From there on the pool is that of a run which
never had them, hence the same coins, the same batches, the same noise.

Nothing is free: everybody else's records are used again, together with another set, so each redone round is a new
release and a new spend in every ledger. Whether the budgets allow it is asked before anything begins.

Only exact unlearning is offered. Going on without the person leaves what was learned of them in the model; subtracting
their updates leaves traces and costs accuracy: neither can be shown to have removed anybody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fedge import compose, results
from fedge.assemble import owner_of
from fedge.audit.parts import Continues
from fedge.audit.verify import Entry, Verification, verify_run
from fedge.calibration import recipe_of
from fedge.carrying import kept_engine
from fedge.config import RunConfig
from fedge.consent.request import Request
from fedge.encoding import utc_now
from fedge.errors import AuditError, BudgetError, ConfigError, PermissionRecordError
from fedge.ids import Lineage
from fedge.learning.recipe import event
from fedge.learning.task import Task
from fedge.privacy.accountant import STATEMENT
from fedge.privacy.ledger import Ledger
from fedge.rounds import lineage
from fedge.rounds.erasure import Stores
from fedge.rounds.folder import RunFolder, client_folder
from fedge.rounds.state import State, StateStore
from fedge.running import Result, Watch, shipped, start


@dataclass(frozen=True)
class Cost:
    """What redoing rounds costs one data set: its epsilon now, afterwards, and what its owner allows."""

    client: str
    lineage: Lineage
    rounds: int
    spent: float
    after: float
    budget: float
    delta: float


@dataclass(frozen=True)
class Redo:
    """What is to be redone: everything after `before`, at `costs`; `scores` are those of the model as it is."""

    config: RunConfig
    before: State
    costs: tuple[Cost, ...]
    scores: Mapping[str, float]

    @property
    def first(self) -> int:
        """The first round that is redone."""
        return self.before.round + 1


def plan(run: Path, stores: Stores, *, subject: str | None = None, erasure: str | None = None) -> Redo:
    """Return what it takes to redo `run` without a person of the client whose `stores` these are.

    The person is named by pseudonym, or, once erased, by the commitment in the log. Raises PermissionRecordError,
    ConfigError, AuditError or BudgetError, each naming what to do.
    """
    folder = RunFolder(run)
    found = verify_run(run)
    if not found.holds:
        raise AuditError(
            f"the log of {run} does not hold, so nothing can be redone from it; see: fedge audit verify {run}"
        )
    config = compose.from_yaml(folder.config_yaml.read_text(encoding="utf-8"))
    if config.privacy.mechanism == "banded":
        raise ConfigError(
            "privacy.mechanism=banded: noise is correlated over rounds, so rounds that are redone would show the "
            "updates before them a second time, under other noise; start anew without the person: fedge run …"
        )
    name = str(found.entries[0].payload["run"])
    first = _erased_from(stores, name, erasure) if erasure else _subject_from(stores, config, name, str(subject))
    before = _state(folder, config, found, first - 1)
    homes = Path(config.population.home) if config.population.home else folder.clients
    costs = _costs(config, found, homes, first)
    continues = Continues(name, before.round, found.size, f"sha256:{found.root}", "unlearning")
    redone = replace(
        config,
        population=replace(config.population, home=str(homes.resolve())),  # the same owners, ledgers and permissions
        consent=replace(config.consent, withdrawals=()),  # they have withdrawn already
        out=str(folder.root.parent),
        continues=continues,
        engine=kept_engine(config, folder),
    )
    lines = results.read_lines(folder.metrics)
    return Redo(redone, before, costs, lines[-1]["scores"] if lines else {})


def check_affordable(redo: Redo) -> None:
    """Raise BudgetError, naming every budget that is too small and what would allow it."""
    short = [c for c in redo.costs if c.after > c.budget]
    if not short:
        return
    needs = "; ".join(
        f"{c.lineage} has spent {c.spent:.2f} of {c.budget:g} and would have spent {c.after:.2f}: "
        f"fedge budget set {Path(str(redo.config.population.home)) / c.client} {c.lineage} "
        f"--epsilon {math.ceil(c.after * 100) / 100:g} --delta {c.delta:g}"
        for c in short
    )
    raise BudgetError(
        f"redoing rounds {redo.first} to {redo.config.rounds} is a new release of everybody else's records, and "
        f"{len(short)} budgets do not allow it ({STATEMENT.describe(short[0].delta)}). Nothing was begun. Their "
        f"owners can allow it, each with: {needs}"
    )


def unlearn(redo: Redo, task: Task | None = None, watch: Watch | None = None) -> Result:
    """Redo the rounds as a new run with its own log, whose first entry names the run and the state it starts from."""
    check_affordable(redo)
    return start(redo.config, task or shipped(redo.config), watch, before=redo.before)


# ---- who, from where, at what cost ------------------------------------------------------------------------------


def _subject_from(stores: Stores, config: RunConfig, run: str, subject: str) -> int:
    found = lineage.uses(stores.memory, stores.approvals, run, subject)
    first = lineage.first_pooled(found)
    if first is None:
        raise PermissionRecordError(
            f"the records of {subject} were in no pool of run {run}: its models are already those of a run without them"
        )
    data_set = next(u.leaf.dataset.lineage for u in found if u.leaf.work == "train")
    wanted = Request(config.purpose, data_set, facts=owner_of(config).facts)
    if stores.permissions.judge((subject,), wanted, utc_now()).admitted.any():
        raise PermissionRecordError(
            f"{subject} permits {config.purpose} now, so their records would be used again; record first what they "
            f"want: fedge consent withdraw {stores.folder.root} {subject} -p {config.purpose}, or consent erase"
        )
    return first


def _erased_from(stores: Stores, run: str, commitment: str) -> int:
    done = next((e for e in stores.subjects.erasures() if e.commitment == commitment), None)
    if done is None:
        known = ", ".join(e.commitment for e in stores.subjects.erasures()) or "none"
        raise ConfigError(f"--erasure: {stores.folder.root} knows no erasure {commitment}; known: {known}")
    if run not in done.pooled:
        raise PermissionRecordError(
            f"the erased person's records were in no pool of run {run}: there is nothing to redo"
        )
    return done.pooled[run]


def _state(folder: RunFolder, config: RunConfig, found: Verification, round_: int) -> State:
    store = StateStore(folder.server, folder.root)
    state = store.after(round_)
    if state is None:
        kept = ", ".join(map(str, store.kept())) or "none"
        raise ConfigError(
            f"the server's state after round {round_}, the last without the person, is not kept (kept: {kept}); run "
            f"with keep_states=null to be able to unlearn, or start anew without them: fedge run seed={config.seed} …"
        )
    if state.model != _model_after(found, round_):
        raise AuditError(f"the state after round {round_} is not the one that the log names: restore {folder.server}")
    return state


def _model_after(found: Verification, round_: int) -> str:
    closings = {e.payload["round"]: e.payload["model_out"] for e in found.entries if e.event == "round_close"}
    return str(closings.get(round_, found.entries[0].payload["initial_model"]))


def _costs(config: RunConfig, found: Verification, homes: Path, first: int) -> tuple[Cost, ...]:
    """Return what it costs each client to do again what it did from round `first` on."""
    again = [
        e for e in found.entries
        if e.event == "data_use" and e.payload["work"] == "train" and e.payload["round"] >= first and _spent(e)
    ]  # fmt: skip
    return tuple(_cost(config, homes, client, [e for e in again if e.signer == client]) for client in _clients(again))


def _clients(entries: list[Entry]) -> list[str]:
    return sorted({e.signer for e in entries})


def _spent(entry: Entry) -> bool:
    return bool(entry.payload["outcome"] != "refused")


def _cost(config: RunConfig, homes: Path, client: str, uses: list[Entry]) -> Cost:
    name = Lineage(uses[0].payload["dataset"]["lineage"])
    ledger = Ledger(client_folder(homes / client).journal("spends"))
    budget = ledger.budget(name)
    if budget is None:
        raise BudgetError(f"data set {name!r} has no budget any more; its owner sets one with: fedge budget set")
    counted = ledger.counted(name, utc_now())
    after = budget.cost([*counted, *[event(recipe_of(config))] * len(uses)])
    return Cost(client, name, len(uses), budget.cost(counted), after, budget.epsilon, budget.delta)
