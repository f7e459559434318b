"""What the audit log costs: `make bench-audit` (or `python -m benchmarks.audit --quick`).

Entries are real ones: a small run is made first, and its statements are signed anew with other numbers. Everything is
on the local disk and durable on return (SQLite, synchronous=FULL), as in a run.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fedge.audit.checkpoint import cosign, parse_body
from fedge.audit.leaves import ClientEnrol, DataUse, Leaf, Participant, RoundClose, RunClose, RunOpen, decode, encode
from fedge.audit.log import AuditLog
from fedge.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from fedge.audit.note import COSIGNATURE, Note, Signature, VerifierKey, parse
from fedge.audit.trust import Trust, majority
from fedge.audit.verify import verify_run
from fedge.encoding import digest, utc_now
from fedge.journal import SqliteJournal
from fedge.running import run
from fedge.signing import PrivateKey

BATCH = 100
"""Entries of one append: a round of a hundred clients."""
ENOUGH = 10_000
"""Durable appends a second that the log must reach; below, the exit code is 1."""
LONGEST = 20.0
"""Seconds that the full verification of 100,000 entries may take."""
FLAT = 3.0
"""How much slower a checkpoint of the longest log may be than one of the shortest."""


@dataclass(frozen=True)
class Templates:
    """A real opening and a real statement of data use."""

    opening: RunOpen
    use: DataUse


def key(name: str) -> PrivateKey:
    """Return a key that is the same in every benchmark."""
    return PrivateKey(bytes.fromhex(digest(name.encode()).removeprefix("sha256:")))


def templates() -> Templates:
    """Return entries of a run of one round."""
    with tempfile.TemporaryDirectory() as out:
        done = run("rounds=1", "training.steps=1", "evaluation.federated=none", "engine=direct", f"out={out}")
        leaves: list[Leaf] = [decode(e.raw)[0] for e in done.verification.entries]
    opening = next(leaf for leaf in leaves if isinstance(leaf, RunOpen))
    use = next(leaf for leaf in leaves if isinstance(leaf, DataUse))
    return Templates(replace(opening, quorum=1), use)


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Keep the seconds that the body takes, and those that processors worked for it, also in processes it started."""
    began, worked = time.perf_counter(), sum(os.times()[:4])
    yield
    into[name], into[f"{name} cpu"] = time.perf_counter() - began, sum(os.times()[:4]) - worked


def each(times: int, do: Callable[[int], object]) -> float:
    """Return the median seconds of `do(0)`, `do(1)` …"""
    taken = []
    for n in range(times):
        began = time.perf_counter()
        do(n)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


# ---- writing ---------------------------------------------------------------------------------------------------------


def writing(of: Templates, count: int) -> dict[str, float]:
    """Return entries signed, and entries appended, a second; and what an entry takes on disk."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        log = AuditLog(SqliteJournal(path, "entries"), "fedge/bench", key("log"))
        with timed(seconds, "sign"):
            entries = [encode(replace(of.use, seq=n), key("client")) for n in range(count)]
        with timed(seconds, "append"):
            for first in range(0, count, BATCH):
                log.append(entries[first : first + BATCH])
        on_disk = sum(p.stat().st_size for p in Path(folder).iterdir())
    return {
        "signed_per_second": count / seconds["sign"],
        "appended_per_second": count / seconds["append"],
        "signed_and_appended_per_second": count / (seconds["sign"] + seconds["append"]),
        "microseconds_of_cpu_to_sign": 1e6 * seconds["sign cpu"] / count,
        "microseconds_of_cpu_to_append": 1e6 * seconds["append cpu"] / count,
        "bytes_of_an_entry": statistics.mean(map(len, entries)),
        "bytes_on_disk_of_an_entry": on_disk / count,
    }


# ---- a log that grows ------------------------------------------------------------------------------------------------


def growing(sizes: Sequence[int]) -> list[dict[str, float]]:
    """Return, at each size, the milliseconds of what a round asks of the log, and proofs a second."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, published = Path(folder) / "log.db", Path(folder) / "audit"
        log = AuditLog(SqliteJournal(path, "entries"), "fedge/bench", key("log"))
        trust = Trust(log.vkey, {"w": _witness("w")}, {"w": "one"}, 1)
        for size in sizes:
            while log.size < size:
                start = log.size
                log.append([_small(n) for n in range(start, min(start + 10_000, size))])
            log.publish(published, log.signed_checkpoint(), trust, lambda _: None)
            rows.append({"entries": size} | _at_this_size(log, path, published, trust))
    return rows


def _at_this_size(log: AuditLog, path: Path, published: Path, trust: Trust) -> dict[str, float]:
    size, note = log.size, log.signed_checkpoint()
    root, old = parse_body(note.body).root, max(1, size // 3)
    old_root = log.root(old)
    proof, older = log.receipt(size // 2, note).proof, log.consistency(old)
    leaf = leaf_hash(log.entries(size // 2, size // 2 + 1)[0])
    reopened = each(3, lambda _: AuditLog(SqliteJournal(path, "entries"), "fedge/bench", key("log")))
    inclusion = each(200, lambda n: log.receipt((n * 7919) % size, note))
    consistency = each(200, lambda n: log.consistency(1 + (n * 7919) % size))
    return {
        "open_ms": 1000 * reopened,
        "append_100_and_checkpoint_ms": 1000 * each(20, lambda n: _round(log, n)),
        "publish_ms": 1000 * each(5, lambda n: _publish(log, n, published, trust)),
        "inclusion_proofs_per_second": 1 / inclusion,
        "consistency_proofs_per_second": 1 / consistency,
        "inclusion_checks_per_second": 1 / each(200, lambda _: verify_inclusion(size // 2, size, leaf, proof, root)),
        "consistency_checks_per_second": 1 / each(200, lambda _: verify_consistency(old, size, older, old_root, root)),
    }


def _round(log: AuditLog, n: int) -> Note:
    log.append([_small(n * BATCH + i) for i in range(BATCH)])
    return log.signed_checkpoint()


def _publish(log: AuditLog, n: int, folder: Path, trust: Trust) -> None:
    log.publish(folder, _round(log, n), trust, lambda _: None)


def _small(n: int) -> bytes:
    """Return an entry of 250 bytes: here it is the number of entries that counts."""
    return f"{n:010d}".encode() * 25


def _witness(name: str) -> VerifierKey:
    return VerifierKey(name, COSIGNATURE, key(name).public)


# ---- a long run, verified --------------------------------------------------------------------------------------------


def long_run(of: Templates, rounds: int, clients: int) -> dict[str, float]:
    """Return what it takes to verify a run of so many rounds and clients, every signature and every chain."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        size = published_run(of, rounds, clients, Path(folder), seconds)
        with timed(seconds, "verify"):
            found = verify_run(Path(folder))
        wrong = [c for c in found.checks if c.grade == "FAILED" and c.name not in {"model", "configuration"}]
        if wrong or found.size != size:
            raise SystemExit(f"the benchmark's own log does not hold: {wrong}")
        shown = sum(p.stat().st_size for p in (Path(folder) / "audit").rglob("*") if p.is_file())
    return {
        "entries": found.size,
        "publish_seconds": seconds["publish"],
        "verify_seconds": seconds["verify"],
        "verify_cpu_seconds": seconds["verify cpu"],
        "verified_per_second": found.size / seconds["verify"],
        "published_bytes_of_an_entry": shown / found.size,
    }


def published_run(of: Templates, rounds: int, clients: int, folder: Path, seconds: dict[str, float]) -> int:
    """Write and publish the log of a run of so many rounds and clients below `folder`; return its size."""
    names = [f"client-{i:04d}" for i in range(clients)]
    log = AuditLog(SqliteJournal(folder / "log.db", "entries"), f"fedge/{of.opening.run}", key("log"))
    with timed(seconds, "write"):
        for entries in _story(of, log.vkey, names, rounds):
            log.append(entries)
    witnesses = {f"{n}-witness": _witness(f"{n}-witness") for n in names}
    trust = Trust(log.vkey, witnesses, {w: w for w in witnesses}, majority(clients))
    note = log.signed_checkpoint()
    lines = tuple(_cosigned(note, name) for name in witnesses)
    with timed(seconds, "publish"):
        log.publish(folder / "audit", note.with_signatures(lines), trust, lambda _: None)
    return log.size


def _story(of: Templates, vkey: VerifierKey, names: Sequence[str], rounds: int) -> Iterator[list[bytes]]:
    """Yield the entries of a whole run, round by round: who enrols, what clients state, what became of the model."""
    server = key("server")
    opening = replace(
        of.opening, log_key=vkey.text, server_key=server.public.text, quorum=majority(len(names)), rounds_planned=rounds
    )
    enrolled = [
        ClientEnrol(opening.run, opening.at, n, key(n).public.text, _witness(f"{n}-witness").text, f"{n}-witness")
        for n in names
    ]
    yield [encode(opening, server), *(encode(leaf, server) for leaf in enrolled)]
    model = opening.initial_model
    chains: dict[str, str | None] = dict.fromkeys(names, None)
    for round_ in range(1, rounds + 1):
        entries = []
        for name in names:
            entries.append(encode(_use(of.use, name, round_, model, chains[name]), key(name)))
            chains[name] = digest(entries[-1])
        after = digest(f"model {round_}".encode())
        entries.append(encode(_closing(opening, names, round_, model, after), server))
        model = after
        yield entries
    counted = dict.fromkeys(names, rounds)
    yield [encode(RunClose(opening.run, of.use.ended, rounds, counted, model), server)]


def _use(use: DataUse, name: str, round_: int, model: str, previous: str | None) -> DataUse:
    spent = replace(use.privacy, epsilon_total=str(round_ / 1000), budget_epsilon="8.0")
    return replace(
        use,
        client=name,
        key=key(name).public.key_id,
        round=round_,
        attempt=1,
        seq=round_ - 1,
        previous=previous,
        model_in=model,
        privacy=spent,
        dataset=replace(use.dataset, lineage=f"bench/{name}"),
        order=digest(f"{name} {round_}".encode()),
    )


def _closing(opening: RunOpen, names: Sequence[str], round_: int, before: str, after: str) -> RoundClose:
    parts = tuple(Participant(name, "accepted", None) for name in names)
    return RoundClose(
        run=opening.run,
        at=opening.at,
        round=round_,
        attempt=1,
        participants=parts,
        accepted=len(parts),
        model_in=before,
        model_out=after,
        void=False,
        reason=None,
        aggregation="fedavg",
    )


def _cosigned(note: Note, name: str) -> Signature:
    line = cosign(note.body, name, key(name), utc_now()).line
    return parse(note.body + "\n" + line).signatures[0]


# ---- all of it -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Measure, print, and leave with exit code 1 if the log is slower than it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 100,000 entries, and a run of 100 rounds")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    of = templates()
    written = writing(of, 5_000 if chosen.quick else 20_000)
    rows = growing([1_000, 10_000, 100_000] if chosen.quick else [1_000, 10_000, 100_000, 1_000_000])
    verified = long_run(of, 100 if chosen.quick else 1_000, 100)
    checkpoint = [row["append_100_and_checkpoint_ms"] for row in rows]
    held = {
        f"at least {ENOUGH:,} durable appends a second": written["appended_per_second"] >= ENOUGH,
        f"verifying 100,000 entries takes less than {LONGEST:g} s": verified["verified_per_second"] > 1e5 / LONGEST,
        f"the longest log's checkpoint takes less than {FLAT:g} times the shortest's": checkpoint[-1]
        < FLAT * checkpoint[0],
    }
    found = {"writing": written, "growing": rows, "verifying": verified, "held": held}
    if chosen.format == "json":
        print(json.dumps(found, indent=2))
    else:
        show(found)
    sys.exit(0 if all(held.values()) else 1)


def show(found: dict[str, Any]) -> None:
    """Print the measurements as tables."""
    console = Console(width=120)
    for title in ("writing", "verifying"):
        table = Table("what", "measured", title=title)
        for name, value in found[title].items():
            table.add_row(name.replace("_", " "), f"{value:,.1f}" if value < 100 else f"{value:,.0f}")
        console.print(table)
    rows = found["growing"]
    table = Table("entries", *(f"{row['entries']:,}" for row in rows), title="a log that grows")
    for name in list(rows[0])[1:]:
        table.add_row(
            name.replace("_", " "), *(f"{row[name]:,.2f}" if row[name] < 100 else f"{row[name]:,.0f}" for row in rows)
        )
    console.print(table)
    for promise, kept in found["held"].items():
        console.print(f"{'held  ' if kept else 'BROKEN'} {promise}")


if __name__ == "__main__":
    main()
