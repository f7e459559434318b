"""What people did: withdrawals and erasures, how long each took to take effect, and which models came before.

The log names nobody: a person is a keyed commitment, whose key the client can destroy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedge.encoding import moment
from fedge.reports.evidence.entry import Entry


@dataclass(frozen=True)
class PersonAct:
    """A withdrawal or an erasure that took effect. `models` are those that may still hold what was learned before.

    `models_from` and `models_to` are the rounds of the first and the last such model; None if the client had no update
    taken before.
    """

    kind: str
    entry: int
    client: str
    asked_at: str
    effective_at: str
    milliseconds: int
    round: int | None
    commitment: str
    models: int
    models_from: int | None
    models_to: int | None


@dataclass
class PeopleFold:
    """What was read so far: acts of people, and in which rounds each client's update was taken."""

    acts: list[PersonAct] = field(default_factory=list)
    taken: dict[str, list[int]] = field(default_factory=dict)
    closed: list[int] = field(default_factory=list)

    def close(self, entry: Entry, participants: Sequence[Mapping[str, Any]]) -> None:
        """Read whose update went into a round, of all that took part in it."""
        said = entry.payload
        self.closed.append(said["round"])
        for part in participants:
            if part["outcome"] == "accepted":
                self.taken.setdefault(part["client"], [said["round"], 0])[1] = said["round"]

    def act(self, entry: Entry) -> None:
        """Read a withdrawal or an erasure."""
        said = entry.payload
        asked = said["withdrawn_at"] if entry.event == "withdrawal_effective" else said["requested_at"]
        took = moment(said["effective_at"]) - moment(asked)
        first, last, count = self._models(said)
        self.acts.append(
            PersonAct(
                kind="withdrawal" if entry.event == "withdrawal_effective" else "erasure",
                entry=entry.index,
                client=said["client"],
                asked_at=asked,
                effective_at=said["effective_at"],
                milliseconds=round(took.total_seconds() * 1000),
                round=said.get("round"),
                commitment=said["subject_commitment"],
                models=count,
                models_from=first,
                models_to=last,
            )
        )

    def _models(self, said: Mapping[str, object]) -> tuple[int | None, int | None, int]:
        """Return the rounds of the models that may include the person: all since the client's first accepted update."""
        first = self.taken.get(str(said["client"]), [None])[0]
        models = [r for r in self.closed if first is not None and r >= first]
        return (models[0], models[-1], len(models)) if models else (None, None, 0)
