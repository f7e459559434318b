"""The coordinator: rounds as a generator; the caller owns stopping, printing and evaluation.

    plan → cohort → orders → answers → tally → new state → [prepare] → leaves → checkpoint → cosigned → publish → release

Order of effect 3, log before release: the new model lies in a pending file until its round is in the log and a
quorum of witnesses has cosigned the checkpoint. Nothing here imports the client: the two parties share messages only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from fedge import params as parameters
from fedge.audit import leaves
from fedge.encoding import Clock, canonical, digest, parse, timestamp
from fedge.errors import FedgeError, RoundError
from fedge.ids import ClientId, RunId
from fedge.journal import Journal
from fedge.learning.aggregation import Aggregation, Combined, Contribution
from fedge.rounds.messages import Enrolment, Fleet, Parcel, WorkOrder, sign
from fedge.rounds.record import Outcome, Participation, RoundRecord
from fedge.rounds.sampling import Permuter, cohort
from fedge.rounds.sealing import Sealer
from fedge.rounds.state import State, StateStore
from fedge.rounds.tally import Tally, Verdict, judge
from fedge.signing import PrivateKey

Reached = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run intends, fixed before the first round and digested into the first log entry."""

    run: RunId
    task: str
    task_digest: str
    purpose: str
    rounds: int
    recipe: Mapping[str, object]
    config_digest: str
    fraction: float = 1.0
    minimum_clients: int = 1
    minimum_updates: int = 1
    weighting: str = "uniform"
    lifetime: timedelta = timedelta(hours=1)
