"""A witness: cosigns a checkpoint only after proof that it extends the one it has pinned.

Check and pin are one atomic step, durable before the cosignature is given (C2SP tlog-witness v1.0.0): a witness that
crashes in between has vouched for nothing, and after a restart vouches for no other log of the same name.
Source: https://c2sp.org/tlog-witness
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fedge.audit.checkpoint import Checkpoint, cosign, parse_body
from fedge.audit.merkle import verify_consistency
from fedge.audit.note import COSIGNATURE, VerifierKey, checked_name, parse, verify
from fedge.encoding import Clock, b64encode, canonical
from fedge.encoding import parse as parse_json
from fedge.errors import LogConflictError, ProofError
from fedge.journal import Journal
from fedge.signing import PrivateKey


@dataclass(frozen=True)
class Pin:
    """A checkpoint that a witness vouches for: the note that the log signed, and when it was issued.

    `issued` is the log's own time (`encoding.timestamp`). A smaller checkpoint issued earlier is a late copy of an old
    message; one issued later says that the log shrank.
    """

    note: str
    issued: str

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint in the note."""
        return parse_body(parse(self.note).body)


class ContradictionError(LogConflictError):
    """A log has signed two checkpoints that no append-only log can have: `pinned` and `shown` are the notes."""

    def __init__(self, message: str, pinned: str, shown: str) -> None:
        super().__init__(message)
        self.pinned, self.shown = pinned, shown


class Witness:
    """One witness and the checkpoints it has pinned, by origin, in a Journal."""

    def __init__(self, name: str, key: PrivateKey, journal: Journal, clock: Clock) -> None:
        self._name, self.key, self._journal, self._clock = checked_name(name), key, journal, clock
        self._pins: dict[str, Pin] = {}
        self._read = 0

    @property
    def vkey(self) -> VerifierKey:
        """The key under which it cosigns."""
        return VerifierKey(self._name, COSIGNATURE, self.key.public)

    def pinned(self, origin: str) -> Pin | None:
        """Return what is pinned for `origin`, or None if it has never seen that log."""
        self._refresh()
        return self._pins.get(origin)

    def transaction(self) -> AbstractContextManager[None]:
        """Return a transaction of the pins' file: what else is written to it stands or falls with the pin."""
        return self._journal.transaction()

    def add_checkpoint(self, offer: Pin, log: VerifierKey, old: int, proof: Sequence[bytes]) -> str:
        """Pin the checkpoint in `offer` and return the cosignature line.

        `proof` shows that it extends the one of size `old`, which must be the pinned one (0 for a log never seen).
        Raises SignatureError or ParseError for what the log has not signed, ContradictionError for a log that shrank,
        forked or was rewritten, and LogConflictError if the proof begins elsewhere: then the log may ask again.
        """
        note = parse(offer.note)
        verify(note, log)
        if offer.checkpoint.origin != log.name:
            raise LogConflictError(f"this is a checkpoint of {offer.checkpoint.origin!r}, by the key of {log.name!r}")
        with self._journal.transaction():
            self._check(offer, old, proof)
            self._pin(offer)
        return cosign(note.body, self._name, self.key, self._clock()).line

    def _check(self, offer: Pin, old: int, proof: Sequence[bytes]) -> None:
        pin, offered = self.pinned(offer.checkpoint.origin), offer.checkpoint
        pinned = pin.checkpoint if pin else Checkpoint(offered.origin, 0, b"")
        if pin and offered.size == pinned.size and offered.root != pinned.root:
            raise _contradiction(pin, offer, "forked")
        if pin and offered.size < pinned.size:
            if offer.issued > pin.issued:
                raise _contradiction(pin, offer, "shrank")
            raise LogConflictError(f"a late copy of a checkpoint of size {offered.size}, {pinned.size} is pinned")
        if old != pinned.size:
            raise LogConflictError(f"the proof is from size {old}, this witness has pinned {pinned.size}")
        if pin and pinned.size:
            try:
                verify_consistency(pinned.size, offered.size, proof, pinned.root, offered.root)
            except ProofError as error:
                raise _contradiction(pin, offer, "was rewritten") from error
        elif proof:
            raise LogConflictError("there is no consistency proof from an empty log")

    def _pin(self, offer: Pin) -> None:
        known, checkpoint = self._pins.get(offer.checkpoint.origin), offer.checkpoint
        if known is None or known.checkpoint != checkpoint:
            body = {
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": b64encode(checkpoint.root),
                "note": offer.note,
                "issued": offer.issued,
            }
            self._journal.append([canonical(body)])  # read back by the next question, once it is durable

    def _refresh(self) -> None:
        for entry in self._journal.read(self._read):
            plain = parse_json(entry)
            self._pins[plain["origin"]] = Pin(plain["note"], plain["issued"])
            self._read += 1


def _contradiction(pin: Pin, offer: Pin, how: str) -> ContradictionError:
    old, new = pin.checkpoint, offer.checkpoint
    return ContradictionError(
        f"log {new.origin} {how}: it signed {old.size} entries with root {old.root.hex()[:16]}…, and later {new.size} "
        f"entries with root {new.root.hex()[:16]}…, which do not extend them",
        pin.note,
        offer.note,
    )
