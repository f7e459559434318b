"""A person's receipt: how my data was used, on one page, in plain words, with the proofs beside it.

The client makes it, for only its private index knows whose record was in which round. What the page says of an entry is
proved by a `.tlog-proof` in the same folder; that the entry concerns this person is the client's word, and the page
says so: the log names nobody, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fedge.reports.html import page

ACTS: Mapping[str, str] = MappingProxyType(
    {
        "grant": "permitted",
        "refuse": "refused",
        "withdraw": "withdrew",
        "expire": "lapsed",
        "revoke": "revoked",
        "correct": "corrected: an earlier permission was recorded in error",
    }
)


@dataclass(frozen=True)
class Said:
    """One event of permission; `of_all` if it speaks of the whole data set, not of the person alone."""

    at: str
    act: str
    kind: str
    purposes: tuple[str, ...]
    until: str | None
    of_all: bool

    @property
    def words(self) -> str:
        """What was done."""
        what = {"opt_out": "objected to further use", "permit": "data permit", "legal_basis": "legal basis"}
        kind = f"{what[self.kind]}: " if self.kind in what else ""
        return kind + ACTS[self.act]


@dataclass(frozen=True)
class Used:
    """One order in which the person's records were read: what for, what came of it, and the proof of the entry."""

    entry: int
    proof: str
    at: str
    work: str
    round: int
    outcome: str
    reason: str | None
    epsilon_total: str | None


@dataclass(frozen=True)
class PersonalReceipt:
    """Everything that the page says. `models` are the model versions that include the person, by round."""

    person: str
    client: str
    run: str
    task: str
    purpose: str
    made_at: str
    now: str
    said: Sequence[Said]
    rounds: int
    pooled: int
    used: Sequence[Used]
    models: Mapping[int, str]
    delta: str | None
    unit: str
    seeded: bool
    consent_record: str | None


def render(receipt: PersonalReceipt) -> str:
    """Return the page as HTML; every string is escaped."""
    return page("receipt.html", receipt=receipt)
