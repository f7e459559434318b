"""What a run intends, fixed before the first round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedge.audit.leaves import RunOpen
from fedge.secagg.terms import Terms


@dataclass(frozen=True)
class Plan:
    """What a run intends, fixed before the first round and stated in the first log entry.

    `opening` is that entry (its quorum is set when the clients have enrolled); `recipe` is the plain record of what a
    client does in one round; `weighting` examples weighs by the sizes that clients declare public; fewer reachable
    clients than `minimum_clients` end the run, fewer updates than `minimum_updates` make a round void. With `terms`
    updates are summed securely, and the server sees none of them.
    """

    opening: RunOpen
    task_digest: str
    recipe: Mapping[str, object]
    fraction: float = 1.0
    minimum_clients: int = 1
    minimum_updates: int = 1
    weighting: str = "uniform"
    terms: Terms | None = None

    @property
    def run(self) -> str:
        """The run's name."""
        return self.opening.run
