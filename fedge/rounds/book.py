"""What the log says to the server: who is enrolled, where each client's chain ends, which round was closed last.

One fold over entries, at start and at every append: after a restart the server knows exactly what it knew before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedge.audit.leaves import ClientEnrol, ClientLeaf, Leaf, RoundClose, RunClose, RunOpen, RunResumed, decode, encode
from fedge.audit.log import AuditLog
from fedge.audit.note import verifier_key
from fedge.audit.trust import Trust
from fedge.encoding import digest
from fedge.errors import ParseError
from fedge.ids import ClientId, client_id
from fedge.signing import PrivateKey


@dataclass(frozen=True)
class Chain:
    """Where a client's statements stand in the log: entry numbers in order, and the digest of the last."""

    entries: tuple[int, ...] = ()
    last: str | None = None


class Book:
    """The server's log with what it means; the only writer of entries."""

    def __init__(self, log: AuditLog, key: PrivateKey) -> None:
        self.log, self._key = log, key
        self.opening: RunOpen | None = None
        self.closed: RoundClose | None = None
        self.finished = False
        self.resumed = 0
        self._enrolled: dict[ClientId, ClientEnrol] = {}
        self._chains: dict[ClientId, Chain] = {}
        for index, entry in log.each():
            self._fold(index, entry)

    @property
    def enrolled(self) -> Mapping[ClientId, ClientEnrol]:
        """Every client that the log knows, by name."""
        return self._enrolled

    def chain(self, client: ClientId) -> Chain:
        """Return where the client's statements stand."""
        return self._chains.get(client, Chain())

    def append(self, leaves: Sequence[Leaf], statements: Sequence[bytes] = ()) -> None:
        """Append the clients' `statements` as they came, then the server's `leaves`, all or none."""
        entries = [*statements, *(encode(leaf, self._key) for leaf in leaves)]
        first = self.log.append(entries)
        for index, entry in enumerate(entries, start=first):
            self._fold(index, entry)

    def trust(self) -> Trust:
        """Return the policy file of this log: its key, its witnesses by organisation, its quorum."""
        if self.opening is None:
            raise ParseError("the log is not open")
        keys = {c: verifier_key(e.witness_key) for c, e in self._enrolled.items()}
        return Trust(
            log=self.log.vkey,
            witnesses={key.name: key for key in keys.values()},
            organisations={keys[c].name: e.organisation for c, e in self._enrolled.items()},
            quorum=self.opening.quorum,
        )

    def _fold(self, index: int, entry: bytes) -> None:
        leaf, _ = decode(entry)
        match leaf:
            case RunOpen():
                self.opening = leaf
            case ClientEnrol():
                self._enrolled[client_id(leaf.client)] = leaf
            case RoundClose():
                self.closed, self.resumed = leaf, 0
            case RunResumed():
                self.resumed += 1
            case RunClose():
                self.finished = True
        if isinstance(leaf, ClientLeaf):
            client = client_id(leaf.client)
            self._chains[client] = Chain((*self.chain(client).entries, index), digest(entry))
