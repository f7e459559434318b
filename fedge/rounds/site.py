"""Everything that the owner of the data holds and decides; handed in, never looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedge.audit.leaves import Dataset
from fedge.audit.note import ED25519, VerifierKey
from fedge.audit.witness import Witness
from fedge.consent.request import Request
from fedge.consent.store import PermissionStore
from fedge.consent.subjects import SubjectKeys
from fedge.encoding import Clock
from fedge.ids import ClientId, Lineage
from fedge.learning.loader import OnRead
from fedge.learning.task import Records, Task
from fedge.policy import ClientPolicy
from fedge.privacy.ledger import Ledger
from fedge.privacy.noise import Dice
from fedge.rounds.approval import Approvals, Cohort
from fedge.rounds.findings import Findings
from fedge.rounds.keys import ClientKey
from fedge.rounds.memory import Memory
from fedge.rounds.secure.sessions import Sessions
from fedge.signing import PrivateKey, PublicKey, RandomBytes

Reached = Callable[[str], None]
"""Called at the lines where a crash matters, with their name; does nothing unless a test wants to die there."""


def passed(_step: str) -> None:
    """Do nothing: the Reached of everyone but a crash test."""


@dataclass(frozen=True)
class Holding:
    """One data set: its records, the cohort that they are, how the log describes it, and what its owner states.

    `facts`, about every use of it, are in the words of `consent.conditions`; `categories` say what kinds of data the
    records hold.
    """

    records: Records
    cohort: Cohort
    dataset: Dataset
    categories: tuple[str, ...] = ()
    facts: frozenset[str] = frozenset()

    @property
    def lineage(self) -> Lineage:
        """The name that its privacy budget belongs to."""
        return Lineage(self.dataset.lineage)

    def request(self, purpose: str) -> Request:
        """Return the question that the permission engine is asked before these records are used for `purpose`."""
        return Request(purpose, self.dataset.lineage, self.categories, facts=self.facts)


@dataclass(frozen=True)
class Server:
    """The one server that a client works for: the key of its orders, and the key of its log."""

    key: PublicKey
    log_key: PublicKey

    def log_of(self, run: str) -> VerifierKey:
        """Return the key that checkpoints of the log of `run` are verified with."""
        return VerifierKey(f"fedge/{run}", ED25519, self.log_key)


@dataclass(frozen=True)
class Machine:
    """What the client's code runs on, and what it may ask of it: time, processor time, secret random bytes."""

    clock: Clock
    cpu_seconds: Callable[[], float]
    random_bytes: RandomBytes
    code: str
    device: str = "cpu"


class Face(Protocol):
    """What of a client the server sees: enough to introduce it, and made without opening what it holds."""

    @property
    def client(self) -> ClientId:
        """Its name."""
        ...

    @property
    def organisation(self) -> str:
        """For whom it speaks."""
        ...

    @property
    def key(self) -> PrivateKey:
        """The key that signs its statements."""
        ...

    @property
    def witness(self) -> Witness:
        """By which it cosigns."""
        ...

    @property
    def server(self) -> Server:
        """The server that it works for."""
        ...


@dataclass(frozen=True)
class Site:
    """One client. `dice` makes the source of all randomness of a job from (work, round).

    `subjects` holds a key for each person, `approvals` the cohorts that the owner has approved.
    `receipts` is where the client lays out its receipts as files, None: they stay in its own record. Tracebacks, which
    may quote data, go to `faults`.
    """

    client: ClientId
    organisation: str
    keys: ClientKey
    subjects: SubjectKeys
    approvals: Approvals
    witness: Witness
    server: Server
    task: Task
    task_digest: str
    training: Holding
    evaluation: Holding
    permissions: PermissionStore
    ledger: Ledger
    policy: ClientPolicy
    memory: Memory
    sessions: Sessions
    findings: Findings
    dice: Callable[[str, int], Dice]
    machine: Machine
    receipts: Path | None
    faults: Path
    reached: Reached = passed
    on_read: OnRead | None = None

    @property
    def key(self) -> PrivateKey:
        """The key that signs the client's statements now."""
        return self.keys.current

    def holding(self, work: str) -> Holding:
        """Return the data set that `work` reads: records for evaluation are never trained on."""
        return self.training if work == "train" else self.evaluation
