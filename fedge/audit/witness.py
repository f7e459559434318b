"""A witness: cosigns a checkpoint only after proof that it extends the one it has pinned.

Check and pin are one atomic step, durable before the cosignature is given (C2SP tlog-witness v1.0.0): a witness that
crashes in between has vouched for nothing, and after a restart vouches for no other log of the same name.
Source: https://c2sp.org/tlog-witness
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from fedge.audit.checkpoint import Checkpoint, cosign, parse_body
from fedge.audit.merkle import verify_consistency
from fedge.audit.note import COSIGNATURE, VerifierKey, checked_name, parse, verify
from fedge.encoding import Clock, b64decode, b64encode, canonical
from fedge.encoding import parse as parse_json
from fedge.errors import LogConflictError, ParseError
from fedge.journal import SqliteJournal
from fedge.signing import PrivateKey


class Witness:
    """One witness and the checkpoints it has pinned, by origin, in a SqliteJournal."""

    def __init__(self, name: str, key: PrivateKey, journal: SqliteJournal, clock: Clock) -> None:
        self._name, self._key, self._journal, self._clock = checked_name(name), key, journal, clock
        self._pins: dict[str, Checkpoint] = {}
        self._read = 0

    @property
    def vkey(self) -> VerifierKey:
        """The key under which it cosigns."""
        return VerifierKey(self._name, COSIGNATURE, self._key.public)

    def pinned(self, origin: str) -> Checkpoint | None:
        """Return the checkpoint pinned for `origin`, or None if it has never seen that log."""
        self._refresh()
        return self._pins.get(origin)

    def transaction(self) -> AbstractContextManager[None]:
        """Return a transaction of the pins' file: what else is written to it stands or falls with the pin."""
        return self._journal.transaction()

    def add_checkpoint(self, note_text: str, log: VerifierKey, proof: Sequence[bytes]) -> str:
        """Pin the checkpoint in `note_text` and return the cosignature line.

        `proof` shows that it extends the pinned one; for a log never seen it is empty. Raises SignatureError,
        ParseError, ProofError, or LogConflictError for a log that shrank or forked.
        """
        note = parse(note_text)
        verify(note, log)
        offered = parse_body(note.body)
        if offered.origin != log.name:
            raise LogConflictError(f"the checkpoint is of log {offered.origin!r}, signed by the key of {log.name!r}")
        with self._journal.transaction():
            self._check(offered, proof)
            self._pin(offered)
        return cosign(note.body, self._name, self._key, self._clock()).line

    def _check(self, offered: Checkpoint, proof: Sequence[bytes]) -> None:
        pinned = self.pinned(offered.origin)
        if pinned is None or pinned.size == 0:
            if proof:
                raise ParseError("there is no consistency proof from an empty log")
            return
        if offered.size < pinned.size:
            raise LogConflictError(
                f"log {offered.origin} shows {offered.size} entries where {pinned.size} were seen: it shrank"
            )
        verify_consistency(pinned.size, offered.size, proof, pinned.root, offered.root)

    def _pin(self, checkpoint: Checkpoint) -> None:
        if self._pins.get(checkpoint.origin) != checkpoint:
            body = {"origin": checkpoint.origin, "size": checkpoint.size, "root": b64encode(checkpoint.root)}
            self._journal.append([canonical(body)])  # read back by the next question, once it is durable

    def _refresh(self) -> None:
        for entry in self._journal.read(self._read):
            plain = parse_json(entry)
            self._pins[plain["origin"]] = Checkpoint(plain["origin"], plain["size"], b64decode(plain["root"]))
            self._read += 1
