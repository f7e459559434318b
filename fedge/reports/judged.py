"""A bundle, judged: what the verifier says of it, its entries, and what of a broken one can still be shown.

Of a log that holds, the entries are the verifier's. Of one that does not, `salvage` says which entries the damage has
not reached: those are shown and counted, the others named with the reason. That none was dropped is then shown by
nothing, so no figure made of them is PROVEN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge.audit.verify import Entry, Verification, verify_run
from fedge.reports.bundle import Bundle
from fedge.reports.salvage import Item, items

LISTED = 100
"""Damaged places that a report lists one by one."""


@dataclass(frozen=True)
class Damage:
    """Something of the bundle that cannot be used, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Judged:
    """A bundle with its verdict. `entries` can be shown; if the log does not hold, `damage` says what cannot."""

    name: str
    verification: Verification
    entries: Sequence[Entry]
    damage: tuple[Damage, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing failed: only then is a figure PROVEN."""
        return self.verification.holds


def judge(bundle: Bundle, policy: Path | None = None) -> Judged:
    """Return what the bundle proves, and what of it can be shown. Never raises for what a bundle may hold."""
    found = verify_run(bundle.root, policy)
    torn = tuple(Damage(name, "cannot be unpacked: its bytes in the ZIP are damaged") for name in bundle.damaged)
    if found.entries:
        return Judged(bundle.name, found, found.entries, torn)
    intact: list[Entry] = []
    broken = list(_sorted_out(items(bundle.root, found), intact))
    rest = [Damage("…", f"{len(broken) - LISTED} more places")] if len(broken) > LISTED else []
    return Judged(bundle.name, found, intact, (*torn, *broken[:LISTED], *rest))


def _sorted_out(stream: Iterable[Item], intact: list[Entry]) -> Iterator[Damage]:
    """Yield what speaks against entries; those that nothing speaks against go to `intact`."""
    for item in stream:
        if item.entry is None or item.fault is not None:
            yield Damage(f"entry {item.index}", item.fault or "it cannot be read")
        else:
            intact.append(item.entry)
