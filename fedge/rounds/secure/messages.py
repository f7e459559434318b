"""What is said in one session of secure aggregation, and in which order.

    server                                        client
    WorkOrder (with terms)  ────────────────────▶  Advertisement, signed by its enrolled key | data_use: refused
    Introduction: all advertisements ───────────▶  Sealed: shares of two secrets, for each peer's eyes only
    MaskRequest: its peers' shares, the model ──▶  data_use (names the digest of the) + masked vector
    ConfirmRequest: who is in the sum ──────────▶  Confirmation
    UnmaskRequest: all confirmations ───────────▶  Shares: of self masks of those in the sum, of mask keys of the others

In a session of several steps nobody is ever recovered, so nothing is sealed; each step is two questions:

    StepRequest: the peers of this step, model ─▶  Masked + masked vector
    RevealRequest ──────────────────────────────▶  Revealed: its own self mask of this step (+ data_use after the last)

Everything the server says is signed by it; a client's first word by its enrolled key, and all others by the signing key
that it advertised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Advertisement:
    """A client's public keys for one session; `pinned` is the size of the log that it has vouched for last."""

    session: str
    client: str
    signing_key: str
    mask_key: str
    share_key: str
    self_mask: str
    pinned: int


@dataclass(frozen=True)
class LogEntry:
    """An entry of the log (base64) and the hashes that lead from it to the root at a size."""

    index: int
    entry: str
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Introduction:
    """Who is in the session: their advertisements (base64 envelopes), and the entries that say whose keys these are.

    `size` is the size of the log at which the proofs in `enrolments` end; it is the one that the client has pinned.
    """

    run: str
    session: str
    advertisements: tuple[str, ...]
    enrolments: tuple[LogEntry, ...]
    size: int


@dataclass(frozen=True)
class Sealed:
    """A client's shares, encrypted for each peer by name (base64)."""

    session: str
    client: str
    shares: Mapping[str, str]


@dataclass(frozen=True)
class MaskRequest:
    """Whom to mask with: all whose shares have come, this client among them; and the shares it is to hold for them."""

    run: str
    session: str
    participants: tuple[str, ...]
    shares: Mapping[str, str]


@dataclass(frozen=True)
class ConfirmRequest:
    """Whose masked vectors are in the sum."""

    run: str
    session: str
    survivors: tuple[str, ...]


@dataclass(frozen=True)
class Confirmation:
    """A client's word that it was told of these participants and survivors, and will help with no other sum."""

    session: str
    client: str
    participants: tuple[str, ...]
    survivors: tuple[str, ...]


@dataclass(frozen=True)
class UnmaskRequest:
    """The confirmations that have come (base64 envelopes)."""

    run: str
    session: str
    confirmations: tuple[str, ...]


@dataclass(frozen=True)
class Shares:
    """One holder's shares (base64): of the self mask of each survivor, of the mask key of each who dropped out."""

    session: str
    client: str
    self_masks: Mapping[str, str]
    mask_keys: Mapping[str, str]


@dataclass(frozen=True)
class StepRequest:
    """One step of several: mask the sum of this step with these participants; `model` is the digest of the tensors.

    If one of them stays silent the server tries again with the others: `attempt` 2, 3 …
    """

    run: str
    session: str
    step: int
    attempt: int
    participants: tuple[str, ...]
    model: str


@dataclass(frozen=True)
class Masked:
    """A client's answer to a StepRequest; `update` is the digest of the masked vector beside it."""

    session: str
    client: str
    step: int
    attempt: int
    update: str


@dataclass(frozen=True)
class RevealRequest:
    """All participants of this attempt have answered: reveal the self mask of it."""

    run: str
    session: str
    step: int
    attempt: int


@dataclass(frozen=True)
class Revealed:
    """The seed (base64) of a client's self mask in one attempt at one step."""

    session: str
    client: str
    step: int
    attempt: int
    seed: str
