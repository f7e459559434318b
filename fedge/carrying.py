"""Which engine carries a run: Flower in one process, plain calls, several processes, or a whole cohort at once.

On every engine a client is the same code; see docs/simulation.md for what is equal, and to which bit.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial

from fedge import results
from fedge.assemble import Assembled
from fedge.config import RunConfig
from fedge.encoding import timestamp, utc_now
from fedge.flower.apps import run_in_process
from fedge.ids import ClientId
from fedge.learning.recipe import Recipe, from_record
from fedge.rounds import client
from fedge.rounds.folder import PACKS, RunFolder
from fedge.rounds.messages import Fleet, Hello, Kind, Parcel, sign
from fedge.simulation.engines import Choice, Engine, all_at_once, check_together, choose
from fedge.simulation.fleet import CohortFleet, one_by_one
from fedge.simulation.pool import PoolFleet
from fedge.simulation.sites import Sites

KEPT = "engine.json"
"""In the server's folder: what engine=auto has come to."""


def carry(assembled: Assembled, body: Callable[[Fleet], None], engine: Engine | None = None) -> None:
    """Run `body` with the fleet of the configured engine, or of `engine`, which is what `auto` has come to."""
    config, sites = assembled.config, assembled.sites
    chosen = engine or chosen_engine(assembled).engine
    learn = all_at_once if chosen == "vectorised" else one_by_one
    if chosen == "vectorised":
        check_together(assembled.task, _recipe(assembled), assembled.data.train.features.shape[1:])
    if chosen == "flower":
        _carry_over_flower(assembled, body)
    elif chosen == "pool" or (chosen == "vectorised" and (config.workers or 1) > 1):
        with PoolFleet(list(sites), lambda _names: CohortFleet(sites.after_fork(), learn), workers(config)) as fleet:
            body(fleet)
    else:
        body(CohortFleet(sites, learn))


def chosen_engine(assembled: Assembled) -> Choice:
    """Return the engine of this run: as configured, or what `auto` finds by trying.

    What it has found is kept with the run, so that a resumed run goes on with the same: engines differ in last bits.
    """
    config, kept = assembled.config, assembled.folder.server / KEPT
    if config.engine != "auto":
        return Choice(config.engine, "as configured")
    if not kept.exists():
        asked = math.ceil(config.sampling.fraction * len(assembled.sites))
        shape = assembled.data.train.features.shape[1:]
        found = choose(assembled.task, _recipe(assembled), shape, workers(config), asked, time.process_time)
        results.write_json(kept, {"engine": found.engine, "why": found.why})
    said = results.read_json(kept)
    return Choice(said["engine"], said["why"])


def workers(config: RunConfig) -> int:
    """Return how many processes engine=pool has: as configured, or one for each core, but never more than packs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(config.workers or cores, PACKS))


def _carry_over_flower(assembled: Assembled, body: Callable[[Fleet], None]) -> None:
    answers = {name: partial(_answer, assembled.sites, name) for name in assembled.sites}
    opening = assembled.plan.opening
    hello = Hello(opening.run, opening.server_key, opening.log_key, timestamp(utc_now()))
    run_in_process(answers, body, Parcel((sign(hello, assembled.server_key),)))


def _answer(sites: Sites, name: ClientId, kind: Kind, parcel: Parcel) -> Parcel:
    return client.answer(sites[name], kind, parcel)


def _recipe(assembled: Assembled) -> Recipe:
    return from_record(dict(assembled.plan.recipe))


def kept_engine(config: RunConfig, folder: RunFolder) -> Engine:
    """Return the engine that the run in `folder` went by: what `auto` had come to there."""
    kept = folder.server / KEPT
    if config.engine != "auto" or not kept.exists():
        return config.engine
    said: Engine = results.read_json(kept)["engine"]
    return said
