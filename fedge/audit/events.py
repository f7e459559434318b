"""Every event type that the log knows, with its full schema.

A record is signed by the party that knows the fact: what happens to data by the client, what happens to the model
by the server (`party`). `aims` says which aim of Article 12(2) of Regulation (EU) 2024/1689 the event serves:
(a) situations of risk or substantial modification, (b) post-market monitoring, (c) the deployer's monitoring of
operation.

A client's records form a chain without gaps: `seq` counts them from 0 within a run, and `previous` is the digest of
the leaf before (null for the first), so that dropping one is seen by whoever holds the others.

Promise: a schema once published is never changed; a new field is a new version (`/2`) beside the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fedge.audit.counts import Counts
from fedge.audit.forms import Code, Decimal, Digest, Key, KeyId, Moment, Name, Text, VerifierKey
from fedge.audit.parts import (
    Aim,
    Continues,
    Dataset,
    Digests,
    Outcome,
    Participant,
    Party,
    Permission,
    PrivacySpend,
    PrivacyStatement,
    Resources,
    Unit,
)
from fedge.audit.rolls import RoundRoll, RunRoll


@dataclass(frozen=True)
class RunOpen:
    """First entry of a log: what is going to be done, under which promises; `quorum` counts organisations.

    A run that redoes the rounds of another from one of its states says so: its rounds are numbered on from there.
    """

    aims: ClassVar[tuple[Aim, ...]] = ("risk", "operation")
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    config_digest: Digest
    task: Text
    model_format: Text
    purpose: Text
    rounds_planned: int
    server_key: Key
    log_key: VerifierKey
    quorum: int
    code_version: Text
    packages_digest: Digest
    strategy: Code
    privacy_statement: PrivacyStatement
    initial_model: Digest
    continues: Continues | None = None


@dataclass(frozen=True)
class ClientEnrol:
    """A client joins: the keys that speak for it, and the organisation whose vote its witness counts for."""

    aims: ClassVar[tuple[Aim, ...]] = ("operation",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    client: Name
    key: Key
    witness_key: VerifierKey
    organisation: Text


@dataclass(frozen=True)
class ClientRetire:
    """A client leaves; nothing it signs afterwards counts."""

    aims: ClassVar[tuple[Aim, ...]] = ("operation",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    client: Name
    reason: Code


@dataclass(frozen=True)
class KeyRotate:
    """A client's last statement under its old key: the key that speaks for it from the next entry on."""

    aims: ClassVar[tuple[Aim, ...]] = ("risk",)
    party: ClassVar[Party] = "client"

    run: Text
    at: Moment
    client: Name
    key: KeyId
    seq: int
    previous: Digest | None
    new_key: Key
    reason: Code


@dataclass(frozen=True)
class KeyRevoke:
    """A client's key speaks for nobody from entry `from_index` on: it was stolen, or may have been.

    The server states it, for whoever holds a stolen key could revoke the revocation. It may reach back: then what the
    key has signed since `from_index` counts as nothing, and the verifier says so.
    """

    aims: ClassVar[tuple[Aim, ...]] = ("risk",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    client: Name
    key: KeyId
    from_index: int
    reason: Code


@dataclass(frozen=True)
class ConsentSnapshot:
    """The client's permission records as they stand: ranges and a digest, never a person."""

    aims: ClassVar[tuple[Aim, ...]] = ("operation",)
    party: ClassVar[Party] = "client"

    run: Text
    at: Moment
    client: Name
    key: KeyId
    seq: int
    previous: Digest | None
    purpose: Text
    counts: Counts
    permission: Permission


@dataclass(frozen=True)
class DataUse:
    """One answer of one client to one order: which data it used, under which permission, at what cost.

    A refusal is evidence too: it says `refused` with a reason, and used no record.
    """

    aims: ClassVar[tuple[Aim, ...]] = ("risk", "post-market", "operation")
    party: ClassVar[Party] = "client"

    run: Text
    at: Moment
    client: Name
    key: KeyId
    work: Literal["train", "evaluate"]
    round: int
    attempt: int
    seq: int
    previous: Digest | None
    dataset: Dataset
    counts: Counts
    purpose: Text
    legal_bases: tuple[Text, ...]
    permission: Permission
    model_in: Digest
    update: Digest | None
    format: Text
    privacy: PrivacySpend
    secure_aggregation: bool
    digests: Digests
    started: Moment
    ended: Moment
    resources: Resources
    outcome: Outcome
    reason: Code | None
    order: Digest


@dataclass(frozen=True)
class WithdrawalEffective:
    """A person's withdrawal has taken effect; the commitment is keyed, and the key can be destroyed."""

    aims: ClassVar[tuple[Aim, ...]] = ("post-market", "operation")
    party: ClassVar[Party] = "client"

    run: Text
    at: Moment
    client: Name
    key: KeyId
    seq: int
    previous: Digest | None
    subject_commitment: Digest
    withdrawn_at: Moment
    effective_at: Moment
    round: int


@dataclass(frozen=True)
class RepeatedSubjects:
    """A client's warning about its own epsilons: people own several records of `lineage`, and the unit is a record.

    An epsilon for one record does not protect them. It says that there are such people, not who or how many.
    """

    aims: ClassVar[tuple[Aim, ...]] = ("risk", "operation")
    party: ClassVar[Party] = "client"

    run: Text
    at: Moment
    client: Name
    key: KeyId
    seq: int
    previous: Digest | None
    lineage: Text
    unit: Unit
    round: int


@dataclass(frozen=True)
class ErasureEffective:
    """A person's records are erased at the client; `models` still include them, for erasure untrains nothing."""

    aims: ClassVar[tuple[Aim, ...]] = ("post-market",)
    party: ClassVar[Party] = "client"

    run: Text
    at: Moment
    client: Name
    key: KeyId
    seq: int
    previous: Digest | None
    subject_commitment: Digest
    requested_at: Moment
    effective_at: Moment
    models: tuple[Digest, ...]


@dataclass(frozen=True)
class UpdateRejected:
    """The server did not use an update, and says why."""

    aims: ClassVar[tuple[Aim, ...]] = ("risk",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    client: Name
    round: int
    reason: Code
    update: Digest | None


@dataclass(frozen=True)
class RoundClose:
    """What a round did to the model; a void round keeps the old one and says why."""

    aims: ClassVar[tuple[Aim, ...]] = ("risk", "post-market")
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    round: int
    attempt: int
    participants: tuple[Participant, ...]
    accepted: int
    model_in: Digest
    model_out: Digest
    void: bool
    reason: Code | None
    aggregation: Code


@dataclass(frozen=True)
class Evaluation:
    """How good a model is: on the server's held-back data, or over the clients, `noise_std` added."""

    aims: ClassVar[tuple[Aim, ...]] = ("post-market",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    round: int
    scope: Literal["central", "federated"]
    model: Digest
    values: Mapping[Code, Decimal]
    noise_std: Decimal | None
    n: int | None


@dataclass(frozen=True)
class PolicyChange:
    """The rule by which orders are judged has changed; `scope` says whose."""

    aims: ClassVar[tuple[Aim, ...]] = ("risk",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    scope: Text
    old_digest: Digest
    new_digest: Digest
    reason: Text


@dataclass(frozen=True)
class Incident:
    """Something went wrong that people should look at."""

    aims: ClassVar[tuple[Aim, ...]] = ("risk", "post-market")
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    kind: Code
    detail: Text
    round: int | None = None
    client: Name | None = None


@dataclass(frozen=True)
class ReportIssued:
    """A report was made from this log; `covers` is the number of entries it read."""

    aims: ClassVar[tuple[Aim, ...]] = ("post-market",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    report: Digest
    covers: int


@dataclass(frozen=True)
class RunStopped:
    """A person, or a rule, stopped the run; it may be resumed."""

    aims: ClassVar[tuple[Aim, ...]] = ("risk", "operation")
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    round: int
    reason: Code


@dataclass(frozen=True)
class RunResumed:
    """A stopped or crashed run goes on from the model released last."""

    aims: ClassVar[tuple[Aim, ...]] = ("operation",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    round: int
    model: Digest


@dataclass(frozen=True)
class RunClose:
    """Last entry of a log: how many rounds it has, how many entries of each client, and the model it ends with."""

    aims: ClassVar[tuple[Aim, ...]] = ("post-market",)
    party: ClassVar[Party] = "server"

    run: Text
    at: Moment
    rounds: int
    leaves: Mapping[Name, int]
    model: Digest


ClientLeaf = KeyRotate | ConsentSnapshot | DataUse | WithdrawalEffective | RepeatedSubjects | ErasureEffective
"""What only a client can state; each has `client`, `key`, `seq` and `previous`."""
Leaf = (
    RunOpen | ClientEnrol | ClientRetire | KeyRotate | KeyRevoke | ConsentSnapshot | DataUse | WithdrawalEffective
    | RepeatedSubjects | ErasureEffective | UpdateRejected | RoundRoll | RoundClose | Evaluation | PolicyChange
    | Incident | ReportIssued | RunStopped | RunResumed | RunRoll | RunClose
)  # fmt: skip
