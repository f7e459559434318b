"""The shelf: the bundles that are open, each checked by the verifier before anything of it is shown.

Checking is slow for a large log (half a minute for 100,000 entries), so it is done in the background, one bundle after
the other, and pages say what is known by now.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fedge.audit import verify
from fedge.audit.verify import Unproven
from fedge.errors import ConfigError
from fedge.reports.bundle import Bundle
from fedge.reports.viewer.checking import Checked, check

Check = Callable[[Bundle, Path | None, Path, datetime], Checked]
"""`checking.check`, or the same in another process."""


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
        check: Check = check,
    ) -> None:
        self._folder, self._clock, self._judge = folder, clock, check
        self._policies = {_log_of(path): path for path in policies}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self.volumes: dict[str, Volume] = {}
        for bundle in bundles:
            name = _free(bundle.name, self.volumes)
            self.volumes[name] = Volume(name, bundle, State())

    def check(self, name: str, patience: float = 0) -> None:
        """Have bundle `name` checked anew, unless it is being checked; wait for the end at most `patience` seconds."""
        volume = self.volumes[name]
        if not volume.state.busy:
            wait([self._begin(volume)], patience)

    def check_all(self) -> list[Future[None]]:
        """Have all bundles checked; return what can be waited for."""
        return [self._begin(volume) for volume in self.volumes.values()]

    def close(self) -> None:
        """Forget checks that have not begun."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _begin(self, volume: Volume) -> Future[None]:
        volume.state = replace(volume.state, since=self._clock(), trouble="")
        return self._worker.submit(self._check, volume)

    def _check(self, volume: Volume) -> None:
        volume.checks += 1
        path = self._folder / f"{volume.name}.{volume.checks}.db"
        old, began = volume.state.checked, self._clock()
        try:
            found = self._judge(volume.bundle, self._policies.get(_origin(volume.bundle.root)), path, began)
        except (OSError, sqlite3.Error, MemoryError) as error:
            volume.state = State(old, trouble=f"the check could not be ended: {error or type(error).__name__}")
            path.unlink(missing_ok=True)
            return
        volume.state = State(replace(found, seconds=(self._clock() - began).total_seconds()))
        # The index of the check before may be about to be opened by a request; the one before that no longer is.
        (self._folder / f"{volume.name}.{volume.checks - 2}.db").unlink(missing_ok=True)


def _log_of(path: Path) -> str:
    try:
        return verify.parse_policy(path.read_text(encoding="utf-8")).log.name
    except (OSError, UnicodeDecodeError, Unproven) as error:
        raise ConfigError(f"--policy {path}: {error}") from error


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
