"""What server and clients say to each other: signed statements, and tensors whose digest a statement names.

Both parties import this file and nothing of each other. A `Parcel` is all that travels: zero or more DSSE
envelopes (see `fedge.signing`) and named arrays. There is no field for code, and none for a metric: what a
client may say about its data is a log leaf, whose type admits no raw value.

    server                                   client
    Hello            ─────────────────────▶  Enrolment
    WorkOrder+model  ─────────────────────▶  data_use leaf (+ update | + result)     the answer IS the log entry
    SealRequest      ─────────────────────▶  SealAnswer: cosignature, or why not

Under secure aggregation an order opens a session instead; what is said in one is in `secure.messages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from fedge.encoding import canonical, digest, from_plain, parse, to_plain
from fedge.errors import ParseError, RoundError
from fedge.ids import ClientId
from fedge.params import Params
from fedge.secagg.terms import Terms
from fedge.signing import PrivateKey, PublicKey, envelope_bytes, parse_envelope, public_key, seal, unseal

Work = Literal["train", "evaluate"]
PUBLIC_SIZE = "fedge.public_size"
"""Name of the tensor by which a client whose policy declares its size public states its number of records."""
Kind = Literal["hello", "work", "seal", "secure"]


@dataclass(frozen=True)
class Parcel:
    """Signed statements and the tensors they name; the only thing that travels."""

    statements: tuple[bytes, ...] = ()
    tensors: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Hello:
    """The server introduces itself and asks who is there."""

    run: str
    server_key: str
    log_key: str
    at: str


@dataclass(frozen=True)
class Enrolment:
    """A client's public face: its name, its two keys, and for whom it speaks.

    `pinned` is the checkpoint note of the run's log that it has vouched for last, if any: the server must know it.
    """

    client: str
    key: str
    witness_key: str
    organisation: str
    pinned: str | None


@dataclass(frozen=True)
class WorkOrder:
    """What the server asks of one client in one round; the client judges it before it touches a record.

    `recipe` is the plain record of a `learning.recipe.Recipe` (or of an evaluation), `model` the digest of the
    tensors beside it, `issued` and `expires` RFC 3339 times, `cohort` the number of clients asked. With `terms` it
    opens a session of secure aggregation, and nothing computed from data may leave but by way of that.
    """

    work: Work
    run: str
    round: int
    attempt: int
    client: str
    task: str
    task_digest: str
    purpose: str
    model: str
    recipe: Mapping[str, object]
    rounds_planned: int
    cohort: int
    config_digest: str
    issued: str
    expires: str
    terms: Terms | None = None

    @property
    def substance(self) -> str:
        """Digest of what determines the answer: not when, or how often, it was asked."""
        passing = ("attempt", "issued", "expires")
        return digest(canonical({k: v for k, v in to_plain(self).items() if k not in passing}))


@dataclass(frozen=True)
class SealRequest:
    """A checkpoint to cosign, the proof that it extends the one pinned, and receipts of the client's own leaves.

    `old_size` is the size the server believes the client has pinned; `checkpoint` is a signed note, `consistency`
    base64 hashes, `receipts` tlog-proof texts by leaf sequence number. `issued` (RFC 3339) tells a log that shrank from
    a late copy of an old request.
    """

    run: str
    round: int
    checkpoint: str
    old_size: int
    consistency: tuple[str, ...]
    receipts: Mapping[str, str]
    issued: str


@dataclass(frozen=True)
class SealAnswer:
    """A cosignature line, or the reason why this client will not vouch for the checkpoint; and what it has pinned."""

    client: str
    round: int
    cosignature: str | None
    refusal: str | None
    pinned_size: int


M = TypeVar("M")


class Fleet(Protocol):
    """The one seam between the coordinator and the world.

    `dispatch` returns the answers that came before the world's deadline; a client that stayed silent is absent.
    Answers come as a mapping: nobody may depend on their order.
    """

    def roster(self) -> Sequence[ClientId]:
        """Return the clients that can be reached now, in any order."""
        ...

    def dispatch(self, kind: Kind, parcels: Mapping[ClientId, Parcel]) -> Mapping[ClientId, Parcel]:
        """Carry one parcel to each client and return their answers."""
        ...


def payload_type(kind: type) -> str:
    """Return the DSSE payload type of a message class, e.g. `application/vnd.fedge.workorder+json`."""
    return f"application/vnd.fedge.{kind.__name__.lower()}+json"


def sign(message: object, key: PrivateKey) -> bytes:
    """Return `message`, a frozen dataclass of plain values, as the bytes of a signed envelope."""
    return envelope_bytes(seal(payload_type(type(message)), to_plain(message), key))


def read(kind: type[M], statement: bytes, key: PublicKey) -> M:
    """Return the message in `statement` after checking type, key and signature.

    Raises SignatureError, ParseError.
    """
    return from_plain(kind, unseal(parse_envelope(statement), payload_type(kind), key), ParseError)


def read_enrolment(statement: bytes) -> Enrolment:
    """Return an enrolment that is signed by the very key it names (proof of possession)."""
    claimed = from_plain(Enrolment, parse(parse_envelope(statement).payload), ParseError)
    return read(Enrolment, statement, public_key(claimed.key))


def only_statement(parcel: Parcel) -> bytes:
    """Return the parcel's one statement; any other number raises RoundError."""
    if len(parcel.statements) != 1:
        raise RoundError(f"expected one statement in the message, found {len(parcel.statements)}")
    return parcel.statements[0]
