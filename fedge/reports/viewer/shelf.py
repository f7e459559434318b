"""The shelf: the bundles that are open, each checked by the verifier before anything of it is shown.

Checking is slow for a large log (20 s for 100,000 entries), so one thread does it, one bundle after the other, and
pages say what is known by now. Of a checked bundle only aggregates stay in memory; entries are in its index on disk.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fedge.audit import verify
from fedge.audit.verify import Entry, Unproven, Verification, verify_run
from fedge.errors import ConfigError
from fedge.reports.bundle import Bundle
from fedge.reports.evidence import Evidence, gather
from fedge.reports.salvage import Item, items
from fedge.reports.viewer import index


@dataclass(frozen=True)
class Checked:
    """What a check has found: the verdict, the evidence in entries that hold, and where the index of all entries is.

    `checkpoint` is the text of the signed checkpoint, "" if the log's files do not hold. `policy` is the auditor's, or
    the log's own; `witnesses` are all that the log ever enrolled.
    """

    verification: Verification
    evidence: Evidence
    entries: int
    counts: Mapping[str, int]
    faults: int
    checkpoint: str
    policy: verify.Policy | None
    witnesses: tuple[verify.NamedKey, ...]
    path: Path
    at: datetime
    seconds: float


@dataclass(frozen=True)
class State:
    """What is known of a bundle by now; `trouble` is why the last check could not be ended."""

    checked: Checked | None = None
    since: datetime | None = None
    trouble: str = ""

    @property
    def busy(self) -> bool:
        """Whether a check waits or goes on."""
        return self.since is not None


@dataclass
class Volume:
    """One bundle on the shelf, under the name that addresses of pages have for it."""

    name: str
    bundle: Bundle
    state: State
    checks: int = 0


class Shelf:
    """The bundles that are open. `folder` is private and outlives the shelf; `policies` are the auditor's own."""

    def __init__(
        self,
        bundles: Iterable[Bundle],
        folder: Path,
        policies: Sequence[Path],
        clock: Callable[[], datetime],
    ) -> None:
        self._folder, self._clock = folder, clock
        self._policies = {p.log.name: (p, path) for path in policies for p in [_policy(path)]}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self.volumes: dict[str, Volume] = {}
        for bundle in bundles:
            name = _free(bundle.name, self.volumes)
            self.volumes[name] = Volume(name, bundle, State())

    def check(self, name: str, patience: float = 0) -> None:
        """Have bundle `name` checked anew, unless it is being checked; wait for the end at most `patience` seconds."""
        volume = self.volumes[name]
        if not volume.state.busy:
            volume.state = replace(volume.state, since=self._clock(), trouble="")
            wait([self._worker.submit(self._check, volume)], patience)

    def check_all(self) -> list[Future[None]]:
        """Have all bundles checked; return what can be waited for."""
        for volume in self.volumes.values():
            volume.state = replace(volume.state, since=self._clock())
        return [self._worker.submit(self._check, v) for v in self.volumes.values()]

    def close(self) -> None:
        """Forget checks that have not begun."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _check(self, volume: Volume) -> None:
        volume.checks += 1
        path = self._folder / f"{volume.name}.{volume.checks}.db"
        old = volume.state.checked
        try:
            volume.state = State(checked=self._checked(volume.bundle, path))
        except (OSError, sqlite3.Error, MemoryError) as error:
            volume.state = State(old, trouble=f"the check could not be ended: {error or type(error).__name__}")
            path.unlink(missing_ok=True)
            return
        if old is not None:
            old.path.unlink(missing_ok=True)  # a request that still reads it has it open

    def _checked(self, bundle: Bundle, path: Path) -> Checked:
        began = self._clock()
        root = bundle.root
        given = self._policies.get(_origin(root))
        found = verify_run(root, given[1] if given else None)
        intact: list[Entry] = []
        log = _log(root, found)
        count = index.build(path, _kept(items(root, found), intact), log.tree if log else None)
        with index.Index.open(path) as asked:
            counts, faults = asked.counts(), asked.faults()
        return Checked(
            verification=replace(found, entries=()),
            evidence=gather(intact),
            entries=count,
            counts=counts,
            faults=faults,
            checkpoint=(root / "audit" / "checkpoint").read_text(encoding="utf-8") if log else "",
            policy=given[0] if given else log.policy if log else None,
            witnesses=tuple(verify.parse_vkey(e.payload["witness_key"]) for e in intact if e.event == "client_enrol"),
            path=path,
            at=began,
            seconds=(self._clock() - began).total_seconds(),
        )


def _policy(path: Path) -> verify.Policy:
    try:
        return verify.parse_policy(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, Unproven) as error:
        raise ConfigError(f"--policy {path}: {error}") from error


def _kept(stream: Iterable[Item], intact: list[Entry]) -> Iterable[Item]:
    """Pass items on, keeping the entries that nothing speaks against."""
    for item in stream:
        if item.entry is not None and item.fault is None:
            intact.append(item.entry)
        yield item


def _log(root: Path, found: Verification) -> verify.Log | None:
    """Return the log's files if they hold, and hold what the verifier has seen."""
    try:
        log = verify.read_log(root / "audit")
    except Unproven:
        return None
    return log if log.checkpoint.root.hex() == found.root else None


def _origin(root: Path) -> str:
    """Return which log the bundle says to be; whether it is, the verifier finds out."""
    try:
        return (root / "audit" / "checkpoint").read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ""


def _free(name: str, taken: Iterable[str]) -> str:
    """Return `name` as it can stand in an address, and is not taken."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "bundle"
    number, found = 1, plain
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    return found
