"""A small run in parts, without Flower between them: to be stopped, tampered with and gone on with."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from fedge.assemble import Assembled, Hooks, assemble
from fedge.compose import compose, to_yaml
from fedge.files import write_if_changed
from fedge.ids import ClientId, RunId
from fedge.learning.tasks import builtin
from fedge.rounds import client
from fedge.rounds.folder import RunFolder
from fedge.simulation.fleet import DirectFleet
from tests.conftest import SMALL

RUN = RunId("run")
FIRST = ClientId("hospital-1")


def opened(out: Path, hooks: Hooks | None = None) -> Assembled:
    config = replace(compose([*SMALL, "rounds=6", "evaluation.federated=none"]), engine="direct")
    folder = RunFolder(out / RUN)
    write_if_changed(folder.config_yaml, to_yaml(config).encode())
    return assemble(config, builtin("cancer"), RUN, folder, hooks)


def fleet(house: Assembled) -> DirectFleet:
    return DirectFleet({name: partial(client.answer, site) for name, site in house.sites.items()})


def go(house: Assembled, rounds: int, world: DirectFleet | None = None) -> list[Mapping[str, str | None]]:
    """Go on for `rounds` rounds; return each client's reason by round."""
    generator = house.coordinator(world or fleet(house)).rounds()
    records = [next(generator) for _ in range(rounds)]
    generator.close()
    return [{p.client: p.reason for p in r.participants} for r in records]
