"""The clients of a simulation, made when they are first asked for, and at most so many open at a time.

A population of a hundred thousand costs what the clients of a round cost. A client that was put away is made again from
its own journals, as after a restart; nothing of it lives in memory alone.

Few clients have a folder each, as in a deployment. Many share packs (`fedge.packed`): then `together` makes what all
clients of a pack do in one phase of a round durable in one commit. Each of them keeps its own order of effects: a phase
is over for all before the next one begins for any (`simulation.fleet`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedge.files import write_atomically
from fedge.ids import ClientId
from fedge.learning.task import Records
from fedge.packed import PackedJournal
from fedge.rounds.folder import ClientFolder, PackedFolder, pack_file, pack_of, population_key
from fedge.rounds.site import Face, Site
from fedge.simulation.population import Owner, World, held_back, introduced, site

OPEN = 4096
"""So many clients are open at most, 100 to 200 kB each with forty records; those asked last stay."""


@dataclass(frozen=True)
class Holders:
    """Who holds which of `records`, by name; `organisations` says how many these clients belong to, None: each is one.

    `packed` clients share files.
    """

    records: Records
    parts: Mapping[ClientId, NDArray[np.int64]]
    home: Path
    receipts: Callable[[ClientId], Path]
    organisations: int | None = None
    packed: bool = False


@dataclass(frozen=True)
class Group:
    """Clients whose writes become durable together; `transaction` may be entered by one process at a time."""

    clients: tuple[ClientId, ...]
    transaction: Callable[[], AbstractContextManager[None]]


class Sites(MutableMapping[ClientId, Site]):
    """Every client of a population by name. One that is set by hand stays as it was set.

    Clients with a folder of their own are made at once, packed ones when they are asked for.
    """

    def __init__(self, world: World, owner: Owner, holders: Holders) -> None:
        self._world, self._owner, self._holders = world, owner, holders
        self._numbers = {name: number for number, name in enumerate(holders.parts)}
        self._open: OrderedDict[ClientId, Site] = OrderedDict()
        self._fixed: dict[ClientId, Site] = {}
        self._packs: dict[int, PackedJournal] = {}
        self._left: list[object] = []
        if holders.packed and not (key := population_key(holders.home)).exists():
            write_atomically(key, world.machine("population").random_bytes(32), mode=0o600)
        for name in () if holders.packed else holders.parts:  # as in a deployment they are there before the run
            self[name]

    def __getitem__(self, name: ClientId) -> Site:
        if name in self._fixed:
            return self._fixed[name]
        found = self._open.get(name)
        if found is None:
            found = self._open[name] = self._made(name)
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return found

    def __setitem__(self, name: ClientId, value: Site) -> None:
        self._fixed[name] = value

    def __delitem__(self, name: ClientId) -> None:
        self._fixed.pop(name, None)
        self._open.pop(name, None)

    def __iter__(self) -> Iterator[ClientId]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def face(self, name: ClientId) -> Face:
        """Return what the server sees of a client; of a packed one nothing else is opened for it."""
        folder = self._folder(name)
        if name in self._fixed or name in self._open or not isinstance(folder, PackedFolder):
            return self[name]
        return introduced(self._world, name, self._organisation(name), folder)

    def training(self, name: ClientId) -> Records:
        """Return the records that a client trains on, as the data set names people; opens nothing."""
        records = self._records(name)
        return held_back(records, self._owner.evaluation_share, self._world.rng("evaluation", name))[0]

    def together(self, names: Iterable[ClientId]) -> Sequence[Group]:
        """Return `names` in groups, each sorted, that write together; who has a folder of its own is a group alone."""
        if not self._holders.packed:
            return [Group((name,), nullcontext) for name in sorted(names)]
        found: dict[int, list[ClientId]] = {}
        for name in sorted(names):
            found.setdefault(pack_of(name), []).append(name)
        return [Group(tuple(members), self._pack(pack).transaction) for pack, members in sorted(found.items())]

    def forget(self, names: Iterable[ClientId]) -> None:
        """Put clients away whose writes were taken back, so that they are made anew from what is durable."""
        for name in names if self._holders.packed else ():
            self._open.pop(name, None)

    def after_fork(self) -> Self:
        """Let go of what a child process must not use, connections of its parent, and return this.

        They are kept and not closed: that would take the locks of this process away.
        """
        self._left.append((dict(self._packs), OrderedDict(self._open)))
        self._packs.clear()
        self._open.clear()
        return self

    def _made(self, name: ClientId) -> Site:
        receipts = None if self._holders.packed else self._holders.receipts(name)
        folder, organisation = self._folder(name), self._organisation(name)
        return site(self._world, self._owner, name, organisation, self._records(name), folder, receipts)

    def _records(self, name: ClientId) -> Records:
        return self._holders.records.take(self._holders.parts[name])

    def _organisation(self, name: ClientId) -> str:
        count = self._holders.organisations
        return name if count is None else f"organisation-{self._numbers[name] % count + 1}"

    def _folder(self, name: ClientId) -> ClientFolder:
        root = self._holders.home / name
        if not self._holders.packed:
            return ClientFolder(root)
        return PackedFolder(root, pack=self._pack(pack_of(name)))

    def _pack(self, number: int) -> PackedJournal:
        if number not in self._packs:
            self._packs[number] = PackedJournal(pack_file(self._holders.home, number))
        return self._packs[number]
