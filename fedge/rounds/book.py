"""What the log says to the server: who may speak by which key, where each chain ends, which round was closed last.

One fold over entries, at start and at every append: after a restart the server knows exactly what it knew before.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence

from fedge.audit.leaves import (
    ClientEnrol,
    ClientLeaf,
    ClientRetire,
    KeyRevoke,
    KeyRotate,
    Leaf,
    RoundClose,
    RoundRoll,
    RunClose,
    RunOpen,
    RunResumed,
    decode,
    encode,
)
from fedge.audit.log import AuditLog
from fedge.audit.note import verifier_key
from fedge.audit.trust import Trust, majority
from fedge.errors import ParseError
from fedge.ids import ClientId, client_id
from fedge.signing import PrivateKey, PublicKey, public_key


class Chain:
    """Where a client's statements stand in the log: entry numbers in order, and the digest of each.

    `keys` are all that have spoken for it, the last of them now; `named` are the entries that say so, one for each. It
    grows in place, by 40 bytes a statement: a copy for each would make a long run quadratic.
    """

    def __init__(self, key: PublicKey, named: int) -> None:
        self.keys, self.named = [key], [named]
        self.entries = array("q")
        self._digests = bytearray()

    @property
    def key(self) -> PublicKey:
        """The key that speaks for the client now."""
        return self.keys[-1]

    @property
    def last(self) -> str | None:
        """The digest of the last statement, which the next one must name."""
        return self.digest(len(self.entries) - 1) if self.entries else None

    def digest(self, seq: int) -> str:
        """Return the digest of statement `seq`."""
        return f"sha256:{self._digests[32 * seq : 32 * seq + 32].hex()}"

    def grow(self, index: int, entry: bytes) -> None:
        """Add the client's next statement, which is entry `index` of the log."""
        self.entries.append(index)
        self._digests += hashlib.sha256(entry).digest()

    def change_key(self, key: PublicKey, index: int) -> None:
        """Let `key` speak for the client from now on, as entry `index` says."""
        self.keys.append(key)
        self.named.append(index)


class Book:
    """The server's log with what it means; the only writer of entries.

    `owed` are clients with statements of which this process has not yet sent the receipts.
    """

    def __init__(self, log: AuditLog, key: PrivateKey) -> None:
        self.log, self._key = log, key
        self.opening: RunOpen | None = None
        self.closed: RoundClose | None = None
        self.finished = False
        self.resumed = 0
        self._enrolled: dict[ClientId, ClientEnrol] = {}
        self._silenced: set[ClientId] = set()
        self._chains: dict[ClientId, Chain] = {}
        self._asked: dict[ClientId, int] = {}
        self._active: dict[ClientId, ClientEnrol] | None = None
        self._trust: Trust | None = None
        self.owed: set[ClientId] = set()
        for index, entry in log.each():
            self._fold(index, entry)

    @property
    def enrolled(self) -> Mapping[ClientId, ClientEnrol]:
        """Every client that the log has ever known, by name."""
        return self._enrolled

    @property
    def active(self) -> Mapping[ClientId, ClientEnrol]:
        """The clients that may speak: enrolled, not retired, and their key not revoked."""
        if self._active is None:
            self._active = {c: e for c, e in self._enrolled.items() if c not in self._silenced}
        return self._active

    @property
    def done(self) -> int:
        """How many rounds are behind the latest model that the log knows of."""
        if self.closed is not None:
            return self.closed.round
        return self.opening.continues.round if self.opening and self.opening.continues else 0

    @property
    def asked(self) -> Mapping[ClientId, int]:
        """The latest closed round that each client was asked in."""
        return self._asked

    def chain(self, client: ClientId) -> Chain:
        """Return where an enrolled client's statements stand."""
        return self._chains[client]

    def append(self, leaves: Sequence[Leaf], statements: Sequence[bytes] = ()) -> None:
        """Append the clients' `statements` as they came, then the server's `leaves`, all or none."""
        entries = [*statements, *(encode(leaf, self._key) for leaf in leaves)]
        first = self.log.append(entries)
        for index, entry in enumerate(entries, start=first):
            self._fold(index, entry)

    def trust(self) -> Trust:
        """Return the policy file of this log: its key, its witnesses by organisation, its quorum.

        Who may no longer speak vouches for nothing either; the quorum stays at least what the opening promised, so that
        nobody can lower it by sending witnesses away.
        """
        if self._trust is None:
            self._trust = self._found_trust()
        return self._trust

    def _found_trust(self) -> Trust:
        if self.opening is None:
            raise ParseError("the log is not open")
        keys = {c: verifier_key(e.witness_key) for c, e in self.active.items()}
        organisations = {keys[c].name: e.organisation for c, e in self.active.items()}
        return Trust(
            log=self.log.vkey,
            witnesses={key.name: key for key in keys.values()},
            organisations=organisations,
            quorum=max(self.opening.quorum, majority(len(set(organisations.values())))),
        )

    def _fold(self, index: int, entry: bytes) -> None:
        leaf, _ = decode(entry)
        if isinstance(leaf, RunOpen | ClientEnrol | KeyRevoke | ClientRetire):
            self._active = self._trust = None
        match leaf:
            case RunOpen():
                self.opening = leaf
            case ClientEnrol():
                self._enrolled[client_id(leaf.client)] = leaf
                self._chains[client_id(leaf.client)] = Chain(public_key(leaf.key), index)
            case KeyRevoke() if leaf.key == self.chain(client_id(leaf.client)).key.key_id:
                self._silenced.add(client_id(leaf.client))
            case ClientRetire():
                self._silenced.add(client_id(leaf.client))
            case RoundRoll():
                self._asked |= {client_id(p.client): leaf.round for p in leaf.participants}
            case RoundClose():
                self.closed, self.resumed = leaf, 0
                self._asked |= {client_id(p.client): leaf.round for p in leaf.participants}
            case RunResumed():
                self.resumed += 1
            case RunClose():
                self.finished = True
        if isinstance(leaf, ClientLeaf):
            client = client_id(leaf.client)
            chain = self.chain(client)
            chain.grow(index, entry)
            self.owed.add(client)
            if isinstance(leaf, KeyRotate):
                chain.change_key(public_key(leaf.new_key), index)
