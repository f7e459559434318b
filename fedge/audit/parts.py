"""The parts that log entries are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedge.audit.forms import Code, Decimal, Digest, Moment, Name, Text

Unit = Literal["none", "record", "subject", "client"]
"""What one privacy guarantee protects."""
NoiseAt = Literal["none", "client", "server", "distributed"]
"""Who adds the noise."""
Outcome = Literal["submitted", "skipped", "refused", "failed"]
"""What came of an order, as the client states it."""
Participation = Literal["accepted", "refused", "rejected", "failed", "silent"]
"""What came of an order, as the server states it."""

Aim = Literal["risk", "post-market", "operation"]
Party = Literal["server", "client"]


@dataclass(frozen=True)
class PrivacyStatement:
    """What a run promises to do for privacy, before it begins; the clients hold it to that."""

    unit: Unit
    adjacency: Code
    accountant: Code
    sampling: Code
    delta: Decimal | None
    noise_source: Code
    noise_at: NoiseAt


@dataclass(frozen=True)
class Continues:
    """Where a run that redoes rounds of another begins: the state after `round`, as the other's log proves it.

    `size` and `root` are those of the other log's checkpoint at the time; `reason` says why it is redone.
    """

    run: Text
    round: int
    size: int
    root: Digest
    reason: Code


@dataclass(frozen=True)
class Dataset:
    """Which data: its owner's name for it, and a keyed commitment to the records themselves."""

    lineage: Text
    commitment: Digest
    version: Text
    schema_digest: Digest
    origin: Text
    purpose_of_collection: Text
    period: Text | None


@dataclass(frozen=True)
class Permission:
    """What the permission engine decided by: its snapshot, as of when, its policy, and which engine."""

    snapshot_digest: Digest
    as_of: Moment
    policy_digest: Digest
    engine: Text


@dataclass(frozen=True)
class PrivacySpend:
    """What one use of data cost, and what its owner has spent in all; epsilons at `delta`, across runs.

    `sample_rate` is per step, `noise_multiplier` in units of `clip_norm`. Null where the mechanism has no such number.
    """

    mechanism: Code
    unit: Unit
    adjacency: Code
    accountant: Code
    sampling: Code
    sample_rate: Decimal | None
    noise_multiplier: Decimal | None
    clip_norm: Decimal | None
    steps: int
    delta: Decimal | None
    epsilon_round: Decimal | None
    epsilon_total: Decimal | None
    budget_epsilon: Decimal | None
    secure_noise: bool
    noise_at: NoiseAt
    ledger_head: Digest | None


@dataclass(frozen=True)
class Digests:
    """Which code and configuration ran."""

    code: Digest
    config: Digest


@dataclass(frozen=True)
class Resources:
    """What it took: milliseconds, bytes over the wire, millijoules (null if unknown)."""

    wall_ms: int
    cpu_ms: int
    bytes_in: int
    bytes_out: int
    energy_mj: int | None
    energy_source: Literal["measured", "estimated", "none"]
    device: Text


@dataclass(frozen=True)
class Participant:
    """How one client took part in a round; `reason` is null where nothing needs explaining."""

    client: Name
    outcome: Participation
    reason: Code | None
