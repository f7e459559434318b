"""Simulated rounds beside peers: Flower's Ray engine and a plain loop; `make bench-sim`, a table and a plot.

    mlp, mlp-dp   1,000 clients a round, 40 records each, an MLP 30-64-2, 5 steps
    cnn, cnn-dp   20 of 100 clients a round, 60 images 28 x 28 each, a CNN of 60,000 parameters, 5 steps
    echo-N        N clients that send 100,000 parameters back and do nothing: what carrying costs

Every measurement is a process of its own (`--one PEER WORK`), so that its peak memory is its own; peers take turns, and
medians are told. A round of fedge is a whole one: signed orders, permissions asked at every batch, a spend in every
ledger, signed statements, the log sealed by a quorum. The plain loop and Flower's engine have nothing of that.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fedge.assemble import assemble
from fedge.carrying import carry
from fedge.compose import compose
from fedge.flower.apps import run_in_process
from fedge.ids import ClientId, RunId
from fedge.learning import models
from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
from fedge.reports import plots
from fedge.rounds.folder import RunFolder
from fedge.rounds.messages import Enrolment, Fleet, Hello, Kind, Parcel, sign
from fedge.signing import PrivateKey
from fedge.simulation.fleet import DirectFleet
from fedge.simulation.pool import PoolFleet

MLP, CNN = (30, 40, 1000, 1000), (28, 60, 100, 20)
"""Size of a record, records of a client, clients, clients a round."""
STEPS, BATCH, RATE = 5, 8, 0.1
ENGINES = ("direct", "pool", "vectorised")
ECHOES = (10, 100, 1000)
WORKS = ("mlp", "mlp-dp", "cnn", "cnn-dp", *(f"echo-{n}" for n in ECHOES))
LATE = 900.0
"""Seconds after which a measurement is given up, and said to be."""
HELLO = Parcel((sign(Hello("run", "key", "key", "2026-11-23T09:30:00.000Z"), PrivateKey(b"\x09" * 32)),))


def convolutional() -> nn.Module:
    """About 60,000 parameters, most in the last but one layer."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 74), nn.ReLU(), nn.Linear(74, 10),
    )  # fmt: skip


def task_of(work: str) -> Task:
    """Return the task, on records that are drawn from a seed."""
    small = work.startswith("mlp")
    size, records, clients, _ = MLP if small else CNN
    shape, classes = ((size,), 2) if small else ((1, size, size), 10)

    def drawn(count: int, rng: np.random.Generator) -> Records:
        features = rng.standard_normal((count, *shape)).astype(np.float32)
        return Records(features, rng.integers(0, classes, count), tuple(f"p{i}" for i in range(count)))

    def load() -> Data:
        rng = np.random.default_rng(1)
        return Data(drawn(records * clients, rng), drawn(200, rng))

    build: Callable[[], nn.Module] = (lambda: models.mlp(30, 64, 2)) if small else convolutional
    return Task(work, load, build, cross_entropy, {"accuracy": accuracy})


# ---- peers: each returns the seconds of its rounds -----------------------------------------------------------------


def fedge(engine: str, work: str, rounds: int) -> list[float]:
    """Whole rounds of fedge; the first, in which clients are made, is left out."""
    _, _, clients, asked = MLP if work.startswith("mlp") else CNN
    privacy = ["privacy=record", "privacy.epsilon=8", "training.sample_rate=0.2", "training.normaliser=8"]
    overrides = [
        f"rounds={rounds + 1}", f"engine={engine}", "population=iid", f"population.clients={clients}",
        "population.packed=true", "population.organisations=20", f"sampling.fraction={asked / clients}", "consent=all",
        "evaluation.federated=none", "evaluation.baselines=false", f"training.steps={STEPS}",
        f"training.batch_size={BATCH}", f"training.learning_rate={RATE}", "policy.require_privacy=false",
        "policy.minimum_records=1", "population.evaluation_share=0",
        *(privacy if work.endswith("dp") else ["privacy.unit=none"]),
    ]  # fmt: skip
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as out:
        assembled = assemble(compose(overrides), task_of(work), RunId("bench"), RunFolder(Path(out)))

        def body(fleet: Fleet) -> None:
            began = time.perf_counter()
            for record in assembled.coordinator(fleet).rounds():
                if record.accepted != asked:
                    raise RuntimeError(f"{record.accepted} of {asked} clients answered: not what is to be measured")
                taken.append(time.perf_counter() - began)
                began = time.perf_counter()

        carry(assembled, body)
    return taken[1:]


def loop(work: str, rounds: int) -> list[float]:
    """The plain sequential loop: each client in turn, SGD, the mean of the models; with privacy, by Opacus' hooks."""
    _, records, _, asked = MLP if work.startswith("mlp") else CNN
    task = task_of(work)
    train = task.load().train
    features, targets = torch.from_numpy(train.features), torch.from_numpy(train.targets)
    start, taken = models.initial(task.model, 0), []
    for _ in range(rounds):
        began = time.perf_counter()
        total = {name: np.zeros_like(value) for name, value in start.items()}
        for client in range(asked):
            place = slice(client * records, (client + 1) * records)
            model = models.load_params(task.model(), start)
            one_client(model, features[place], targets[place], private=work.endswith("dp"))
            total = {name: value + (models.to_params(model)[name] - start[name]) for name, value in total.items()}
        start = {name: value + total[name] / asked for name, value in start.items()}
        taken.append(time.perf_counter() - began)
    return taken


def one_client(model: nn.Module, features: torch.Tensor, targets: torch.Tensor, *, private: bool) -> None:
    """Train as a researcher would without fedge: shuffled batches, or Opacus with a data loader of its own."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    if private:
        from opacus import PrivacyEngine

        data = torch.utils.data.TensorDataset(features, targets)
        batches: Any = torch.utils.data.DataLoader(data, batch_size=BATCH)
        model, optimizer, batches = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=batches, noise_multiplier=1.0, max_grad_norm=1.0
        )
    else:
        order = torch.randperm(len(targets))
        batches = [(features[order[i : i + BATCH]], targets[order[i : i + BATCH]]) for i in range(0, len(order), BATCH)]
    for step, (some, theirs) in enumerate(batches):
        if step == STEPS:
            return
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(some), theirs).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def echo(carrier: str, clients: int, rounds: int) -> list[float]:
    """Carry 100,000 parameters to each client and back."""
    names = [ClientId(f"client-{n:04d}") for n in range(clients)]
    keys = {name: PrivateKey(name.encode().ljust(32, b".")) for name in names}

    def answer(name: ClientId) -> Callable[[Kind, Parcel], Parcel]:
        def said(kind: Kind, parcel: Parcel) -> Parcel:
            if kind == "hello":
                return Parcel((sign(Enrolment(name, keys[name].public.text, "w", name, None), keys[name]),))
            return Parcel(parcel.statements, {n: array.copy() for n, array in parcel.tensors.items()})

        return said

    answers = {name: answer(name) for name in names}
    model = {"w": np.zeros(100_000, dtype=np.float32)}
    taken: list[float] = []

    def body(fleet: Fleet) -> None:
        fleet.roster()
        for _ in range(rounds + 1):
            began = time.perf_counter()
            found = fleet.dispatch("work", {name: Parcel((b"",), model) for name in names})
            taken.append(time.perf_counter() - began)
            if len(found) != clients:
                raise RuntimeError("somebody has not answered")

    if carrier == "direct":
        body(DirectFleet(answers))
    elif carrier == "flower":
        run_in_process(answers, body, HELLO)
    else:
        with PoolFleet(names, lambda own: DirectFleet({n: answers[n] for n in own}), os.cpu_count() or 1) as fleet:
            body(fleet)
    return taken[1:]


def flower_ray(work: str, rounds: int) -> list[float]:
    """Flower's own simulation, on Ray: a ServerApp that sends the model to everybody, and a ClientApp that trains."""
    from flwr.app import ArrayRecord, Context, Message, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    echoes = work.startswith("echo")
    clients = int(work.removeprefix("echo-")) if echoes else (MLP if work.startswith("mlp") else CNN)[3]
    records = (MLP if work.startswith("mlp") else CNN)[1]
    start = {"w": np.zeros(100_000, dtype=np.float32)} if echoes else models.initial(task_of(work).model, 0)
    taken: list[float] = []
    app, server = ClientApp(), ServerApp()

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        if echoes:
            return Message(message.content, reply_to=message)
        made = task_of(work)
        rng = np.random.default_rng(context.node_id % 2**32)
        shape = (30,) if work.startswith("mlp") else (1, 28, 28)
        features = torch.from_numpy(rng.standard_normal((records, *shape)).astype(np.float32))
        targets = torch.from_numpy(rng.integers(0, 2, records))
        arrays = message.content["model"]
        assert isinstance(arrays, ArrayRecord)
        model = models.load_params(made.model(), {k: v.numpy() for k, v in arrays.items()})
        one_client(model, features, targets, private=work.endswith("dp"))
        trained = {k: torch.from_numpy(v) for k, v in models.to_params(model).items()}
        return Message(RecordDict({"model": ArrayRecord(trained)}), reply_to=message)

    @server.main()
    def _main(grid: Grid, _context: Context) -> None:
        content = RecordDict({"model": ArrayRecord({k: torch.from_numpy(v) for k, v in start.items()})})
        while len(list(grid.get_node_ids())) < clients:
            time.sleep(0.1)  # Flower tells nobody when its nodes are there
        for _ in range(rounds + 1):
            began = time.perf_counter()
            messages = [Message(content, node, "train") for node in grid.get_node_ids()]
            replies = [m for m in grid.send_and_receive(messages) if not m.has_error()]
            if len(replies) != clients:
                raise RuntimeError(f"{len(replies)} of {clients} clients have answered")
            taken.append(time.perf_counter() - began)

    run_simulation(server, app, clients, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
    return taken[1:]


def peers(work: str) -> list[str]:
    """Return who takes part in `work`."""
    ours = (
        ["fedge-direct", "fedge-pool", "fedge-flower"] if work.startswith("echo") else [f"fedge-{e}" for e in ENGINES]
    )
    plain = [] if work.startswith("echo") else ["loop"]
    return [*ours, *plain, *(["flower-ray"] if find_spec("ray") else [])]


def one(peer: str, work: str, rounds: int) -> dict[str, Any]:
    """Measure in this process; peak memory is that of this and of its child processes, those of Ray left out."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if peer == "flower-ray":
        taken = flower_ray(work, rounds)
    elif peer == "loop":
        taken = loop(work, rounds)
    elif work.startswith("echo"):
        taken = echo(peer.removeprefix("fedge-"), int(work.removeprefix("echo-")), rounds)
    else:
        taken = fedge(peer.removeprefix("fedge-"), work, rounds)
    used = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": taken, "megabytes": sum(used)}


# ---- the run: everybody in turn ------------------------------------------------------------------------------------


def measured(works: Sequence[str], turns: int, rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by work and peer the median seconds of a round, and the peak memory, over all turns."""
    said: dict[str, dict[str, list[dict[str, Any]]]] = {work: {peer: [] for peer in peers(work)} for work in works}
    for turn in range(turns):
        for work in works:
            for peer in peers(work):
                found = in_a_process(peer, work, rounds)
                said[work][peer].append(found)
                print(f"turn {turn + 1}: {work}, {peer}: {found}", file=sys.stderr, flush=True)
    return {work: {peer: summed(found) for peer, found in by.items()} for work, by in said.items()}


def in_a_process(peer: str, work: str, rounds: int) -> dict[str, Any]:
    """Measure in a process of its own; one that fails or is late says so."""
    command = [sys.executable, "-m", "benchmarks.simulation", "--one", peer, work, "--rounds", str(rounds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LATE, check=False)
    except subprocess.TimeoutExpired:
        return {"fault": f"not done after {LATE:g} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"seconds"')]
    if done.returncode or not lines:
        return {"fault": (done.stderr.strip().splitlines() or ["nothing was said"])[-1][:200]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def summed(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    good = [f for f in found if "seconds" in f]
    if not good:
        return dict(found[-1])
    seconds = [s for f in good for s in f["seconds"]]
    return {"seconds": statistics.median(seconds), "megabytes": max(f["megabytes"] for f in good), "n": len(seconds)}


def drawn(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str | None:
    """Return the plot of seconds against clients that do nothing, both in powers of ten."""
    series: dict[str, list[tuple[float, float]]] = {}
    for clients in ECHOES:
        for peer, said in found.get(f"echo-{clients}", {}).items():
            if "seconds" in said:
                series.setdefault(peer, []).append((float(np.log10(clients)), float(np.log10(1000 * said["seconds"]))))
    title = "A round of clients that do nothing, 100,000 parameters"
    return plots.standalone(plots.lines(series, title, "clients, power of ten", "milliseconds, power of ten"))


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the measurements as a Markdown table."""
    lines = ["| work | peer | median s a round | peak MiB | rounds |", "|---|---|---|---|---|"]
    for work, by in found.items():
        for peer, said in by.items():
            told = (
                f"{said['seconds']:.3g} | {said['megabytes']:.0f} | {said['n']}" if "seconds" in said
                else f"{said['fault']} | |"
            )  # fmt: skip
            lines.append(f"| {work} | {peer} | {told} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and with --out write it beside the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("PEER", "WORK"))
    parser.add_argument("--work", nargs="*", choices=WORKS, default=WORKS)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a folder for simulation.md, simulation.json and simulation.svg")
    chosen = parser.parse_args()
    if chosen.one:
        peer, work = chosen.one
        print(json.dumps(one(peer, work, chosen.rounds)), flush=True)
        return
    found = measured(chosen.work, chosen.turns, chosen.rounds)
    versions = {name: metadata.version(name) for name in ("flwr", "torch", "opacus", "numpy")}
    told = Table(
        *("work", "peer", "s a round", "MiB"), title=f"{platform.platform()}, {os.cpu_count()} cores, {versions}"
    )
    for work, by in found.items():
        for name, said in by.items():
            told.add_row(work, name, *(f"{said[n]:.3g}" if n in said else "—" for n in ("seconds", "megabytes")))
    Console().print(told)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "simulation.md").write_text(table(found) + "\n", encoding="utf-8")
        (chosen.out / "simulation.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if plot := drawn(found):
            (chosen.out / "simulation.svg").write_text(plot, encoding="utf-8")


if __name__ == "__main__":
    main()
