"""The life of a run: start, watch, stop, resume, finish. `fedge.run` and `fedge run` are both this."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedge import __version__, compose, results, soundness, tracking
from fedge.artefacts import write_plots
from fedge.assemble import Assembled, Hooks, assemble, config_bytes, permitted
from fedge.audit.verify import Verification, verify_run
from fedge.carrying import carry, chosen_engine
from fedge.config import RunConfig, TaskConfig
from fedge.encoding import digest, timestamp, utc_now
from fedge.errors import ConfigError, Interrupted, LogConflictError, StorageError
from fedge.files import write_atomically
from fedge.ids import ClientId, RunId, run_id
from fedge.learning import baseline, models
from fedge.learning.task import Task
from fedge.learning.tasks import builtin
from fedge.privacy import noise
from fedge.recovered import missing_lines
from fedge.reports.render import write_report
from fedge.reports.report import Request
from fedge.rounds.coordinator import Coordinator
from fedge.rounds.folder import RunFolder
from fedge.rounds.messages import Fleet
from fedge.rounds.record import RoundRecord
from fedge.rounds.state import State, StateStore
from fedge.simulation.permissions import withdraw_one
from fedge.stopping import Stopper


@dataclass(frozen=True)
class Watch:
    """What a caller wants to be told while a run goes on."""

    on_start: Callable[[Assembled], None] = lambda _assembled: None
    on_round: Callable[[RoundRecord], None] = lambda _record: None
    on_stop_requested: Callable[[], None] = lambda: None
    on_step: Callable[[str], None] = lambda _what: None


@dataclass(frozen=True)
class Result:
    """What a run has come to. `scores` are on the server's public test set, `federated` on the clients' own records.

    `central` and `alone` are the same model trained without privacy on all permitted records, and by each client on its
    own; None unless `evaluation.baselines` is set.
    """

    folder: Path
    scores: Mapping[str, float]
    federated: Mapping[str, float] | None
    central: Mapping[str, float] | None
    alone: Mapping[str, Mapping[str, float]] | None
    epsilon: float | None
    verification: Verification

    @property
    def model(self) -> Path:
        """The global model, safetensors."""
        return RunFolder(self.folder).model

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return RunFolder(self.folder).report


def run(*overrides: str, task: Task | None = None, watch: Watch | None = None, hooks: Hooks | None = None) -> Result:
    """Run federated learning as configured by `overrides` (as on the command line, e.g. "rounds=20").

    `task` is a Task of your own in place of a shipped one. Raises a FedgeError, one paragraph each.
    """
    config = compose.compose(overrides)
    if task is not None:
        config = replace(config, task=TaskConfig(task.name))
    return start(config, task or shipped(config), watch, hooks)


def start(
    config: RunConfig,
    task: Task,
    watch: Watch | None = None,
    hooks: Hooks | None = None,
    before: State | None = None,
) -> Result:
    """Start a new run in a new folder below `config.out`; one that `config.continues` another starts from `before`."""
    run_name = run_id(task.name, config.seed, utc_now())
    folder = RunFolder(Path(config.out) / run_name)
    if folder.root.exists():
        raise StorageError(f"{folder.root} exists already; start again")
    soundness.check(config, task)  # refuse before a folder says that a run began
    data = task.load()
    if before is not None:  # durable first: whatever finds the configuration finds the state that it starts from
        StateStore(folder.server, folder.root).prepare(before)
    _write_start(config, folder)
    return _go(assemble(config, replace(task, load=lambda: data), run_name, folder, hooks), watch or Watch())


def resume(path: Path, task: Task | None = None, watch: Watch | None = None, hooks: Hooks | None = None) -> Result:
    """Continue the run in folder `path` from the model released last; of a finished run, only tell what it came to."""
    folder = RunFolder(path)
    try:
        config = compose.from_yaml(folder.config_yaml.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not the folder of a run: it holds no config.yaml") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder.config_yaml} cannot be read: {error}") from error
    chosen = task or shipped(config)
    if chosen.name != config.task.name:
        raise ConfigError(
            f"{path} is a run of task {config.task.name!r}; resume it with that task, not {chosen.name!r}"
        )
    assembled = assemble(config, chosen, RunId(path.resolve().name), folder, hooks)
    opening = assembled.book.opening
    if opening is not None and opening.config_digest != digest(config_bytes(config)):
        raise LogConflictError(
            f"{folder.config_yaml} is not the configuration that the run was opened with; restore it"
        )
    return _go(assembled, watch or Watch())


def shipped(config: RunConfig) -> Task:
    """Return the shipped task that `config` names."""
    return builtin(config.task.name, Path(config.task.folder) if config.task.folder else None)


def _write_start(config: RunConfig, folder: RunFolder) -> None:
    """Write what a run is made of; `server/` and `clients/` come with their first file."""
    write_atomically(folder.config_yaml, compose.to_yaml(config).encode())
    write_atomically(folder.config_json, config_bytes(config))
    results.write_json(folder.environment, results.environment(config.seed))


def _go(assembled: Assembled, watch: Watch) -> Result:
    watch.on_start(assembled)
    federated: list[Mapping[str, float] | None] = []
    choice = chosen_engine(assembled)
    if assembled.config.engine == "auto":
        watch.on_step(f"engine=auto takes {choice.engine}: {choice.why}")
    with Stopper(watch.on_stop_requested) as stopper:
        carry(assembled, lambda fleet: federated.append(_body(assembled, fleet, watch, stopper)), choice.engine)
    return _finish(assembled, federated[0], watch)


def _body(assembled: Assembled, fleet: Fleet, watch: Watch, stopper: Stopper) -> Mapping[str, float] | None:
    """Go through the rounds, then ask the clients how good the model is; return what they said, if asked."""
    coordinator = assembled.coordinator(fleet)
    tracker = tracking.tracker(
        assembled.config.tracking, assembled.folder.root, assembled.plan.run, {"seed": assembled.config.seed}
    )
    try:
        _recover_metrics(assembled)
        _withdrawals(assembled, _done(assembled) + 1)
        for record in coordinator.rounds():
            line = results.round_line(record)
            results.append_line(assembled.folder.metrics, line)
            tracker.log(tracking.values_of(line), record.round)
            watch.on_round(record)
            if stopper.requested and record.round < assembled.config.rounds:
                _stop(coordinator, assembled)
            _withdrawals(assembled, record.round + 1)
    finally:
        tracker.close()
    if assembled.evaluation_noise is not None:
        watch.on_step("evaluating on the clients' own records")
    said = coordinator.close(assembled.evaluation_noise)
    return None if said is None else {name: float(value) for name, value in said.values.items()}


def _stop(coordinator: Coordinator, assembled: Assembled) -> None:
    coordinator.stop("operator")
    raise Interrupted(
        f"stopped after round {_done(assembled)}, recorded in the log; "
        f"go on with: fedge run resume={assembled.folder.root}"
    )


def _done(assembled: Assembled) -> int:
    return assembled.book.done


def _recover_metrics(assembled: Assembled) -> None:
    """Make the metrics say what the log says: a crash may have come between the two."""
    path = assembled.folder.metrics
    lines = [line for line in results.read_lines(path) if line["round"] <= _done(assembled)]
    lost = missing_lines(assembled.book.log.entries(), {line["round"] for line in lines})
    results.write_lines(path, sorted([*lines, *lost], key=lambda line: line["round"]))


def _withdrawals(assembled: Assembled, before_round: int) -> None:
    """In a simulation: let the people withdraw who do so before round `before_round` (and all rounds before it)."""
    nth: dict[str, int] = {}
    for planned in sorted(assembled.config.consent.withdrawals, key=lambda w: w.round):
        if planned.client not in assembled.sites:
            known = ", ".join(itertools.islice(assembled.sites, 20))
            raise ConfigError(f"consent.withdrawals: there is no client {planned.client!r}; known: {known}")
        if planned.round <= before_round:
            site = assembled.sites[ClientId(planned.client)]
            people, now = site.training.records.subjects, site.machine.clock()
            withdraw_one(site.permissions, people, assembled.config.purpose, now, nth.get(planned.client, 0))
            nth[planned.client] = nth.get(planned.client, 0) + 1


# ---- finish: what is left for people ----------------------------------------------------------------------------


def _finish(assembled: Assembled, federated: Mapping[str, float] | None, watch: Watch) -> Result:
    folder, lines = assembled.folder, results.read_lines(assembled.folder.metrics)
    results.write_csv(folder.metrics_csv, lines)
    central, alone = _baselines(assembled, watch) if assembled.config.evaluation.baselines else (None, None)
    watch.on_step("verifying the log and writing the report")
    verification = verify_run(folder.root)
    write_plots(folder, lines, assembled)
    write_report(folder, verification, Request(timestamp(utc_now()), f"fedge {__version__}"))
    spent = [line["epsilon_max"] for line in lines if line["epsilon_max"] is not None]
    result = Result(
        folder=folder.root,
        scores=lines[-1]["scores"] if lines else {},
        federated=federated or _stated_federated(verification),
        central=central,
        alone=alone,
        epsilon=max(spent) if spent else None,
        verification=verification,
    )
    results.write_json(folder.summary, _summary(result, assembled, lines))
    return result


def _stated_federated(verification: Verification) -> Mapping[str, float] | None:
    """Return the federated evaluation that the log holds, for a run that was finished before."""
    stated = [e.payload for e in verification.entries if e.event == "evaluation" and e.payload["scope"] == "federated"]
    return {name: float(value) for name, value in stated[-1]["values"].items()} if stated else None


def _baselines(assembled: Assembled, watch: Watch) -> tuple[dict[str, float], dict[str, Mapping[str, float]]]:
    """Return scores of the same model without privacy: trained on all permitted records, and by each client alone."""
    task, config = assembled.task, assembled.config
    initial = models.initial(task.model, config.seed)
    chosen = config.evaluation
    recipe = baseline.plain_recipe(chosen.baseline_steps, chosen.baseline_learning_rate, config.training.batch_size)
    held = {c: s.training.records.take(permitted(s, config.purpose)) for c, s in assembled.sites.items()}
    watch.on_step("comparing: the same model, trained centrally without privacy")
    pooled = baseline.pooled([records for records in held.values() if len(records)])
    central = baseline.trained_alone(
        task, initial, pooled, assembled.data.test, recipe, noise.seeded(config.seed, "central")
    )
    alone: dict[str, Mapping[str, float]] = {}
    for name, records in held.items():
        watch.on_step(f"comparing: {name} alone, without privacy")
        if len(records):
            dice = noise.seeded(config.seed, "alone", name)
            alone[name] = baseline.trained_alone(task, initial, records, assembled.data.test, recipe, dice)
    return central, alone


def _summary(result: Result, assembled: Assembled, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    epsilon = result.epsilon
    return {
        "run": assembled.plan.run,
        "task": assembled.task.name,
        "strategy": assembled.config.strategy.name,
        "rounds": _done(assembled),
        "headline": assembled.task.headline,
        "scores": dict(result.scores),
        "federated": dict(result.federated) if result.federated else None,
        "central": dict(result.central) if result.central else None,
        "alone": {k: dict(v) for k, v in result.alone.items()} if result.alone else None,
        "epsilon": epsilon if epsilon is not None and math.isfinite(epsilon) else None,
        "delta": assembled.config.privacy.delta if assembled.config.privacy.unit != "none" else None,
        "privacy": assembled.config.privacy.unit,
        "noise": assembled.config.privacy.noise,
        "noise_at": assembled.config.privacy.noise_at,
        "mechanism": assembled.config.privacy.mechanism,
        "secure_aggregation": assembled.config.privacy.secure_aggregation,
        "colluding": assembled.config.privacy.colluding if assembled.config.privacy.secure_aggregation else None,
        "repeated_subjects": results.repeated_subjects(assembled.sites.training(c).subjects for c in assembled.sites),
        "bytes_down": sum(line["bytes_down"] for line in lines),
        "bytes_up": sum(line["bytes_up"] for line in lines),
        "verified": result.verification.holds,
    }
