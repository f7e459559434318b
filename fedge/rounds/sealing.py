"""Sealing a round: no model is released before a quorum of witnesses has cosigned the log that records it.

The clients are the witnesses. Each demands a consistency proof from the checkpoint it has pinned, and a receipt for
every statement it has handed in; then it pins the new checkpoint and cosigns. The server relies on no memory of its
own: a client that says "I have pinned size n" is served a proof from n.

If we crash before `publish`, nothing was shown but to witnesses, and the same entries are sealed again on restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedge.audit.checkpoint import check_cosignature
from fedge.audit.leaves import ClientEnrol
from fedge.audit.note import Note, Signature, VerifierKey, parse, verifier_key
from fedge.encoding import Clock, b64encode, timestamp
from fedge.errors import AuditError, FedgeError
from fedge.ids import ClientId
from fedge.rounds.book import Book
from fedge.rounds.messages import Fleet, Parcel, SealAnswer, SealRequest, only_statement, read, sign
from fedge.signing import PrivateKey


@dataclass
class Sealer:
    """The server's side of sealing; `pinned` and `proved` are hints that answers correct, never promises.

    `pinned` is the log size that each client was last known to vouch for, `proved` how many of its statements it has
    receipts for.
    """

    run: str
    book: Book
    key: PrivateKey
    audit: Path
    clock: Clock
    reached: Callable[[str], None] = lambda _step: None
    pinned: dict[ClientId, int] = field(default_factory=dict)
    proved: dict[ClientId, int] = field(default_factory=dict)

    def seal(self, fleet: Fleet, round_: int) -> None:
        """Have the present log cosigned by a quorum of organisations, and publish it.

        Raises AuditError, naming each witness's reason, if too few cosign.
        """
        note, trust, active = self.book.log.signed_checkpoint(), self.book.trust(), self.book.active
        answers, signatures = self._sealed(fleet, round_, note, self._panel(active))
        if len(trust.vouching(s.name for s in signatures.values())) < trust.quorum:
            rest = [c for c in active if c not in answers]
            more = self._sealed(fleet, round_, note, rest) if rest else ({}, {})
            answers, signatures = answers | more[0], signatures | more[1]
        if len(trust.vouching(s.name for s in signatures.values())) < trust.quorum:
            raise AuditError(_too_few(len(signatures), trust.quorum, active, answers))
        lines = tuple(signatures[c] for c in sorted(signatures))
        self.reached("cosigned")
        self.book.log.publish(self.audit, note.with_signatures(lines), trust, self.reached)
        for client in signatures:
            self.pinned[client] = self.book.log.size
            self.proved[client] = len(self.book.chain(client).entries)
            self.book.owed.discard(client)

    def _panel(self, active: Mapping[ClientId, ClientEnrol]) -> list[ClientId]:
        """Return whom to ask: everybody who is owed a receipt, and one client of each organisation besides.

        Where each client is an organisation of its own that is everybody. Thousands of devices of a few organisations
        need not all be woken for a quorum of these; if it fails, the others are asked too.
        """
        asked = dict.fromkeys(sorted(c for c in self.book.owed if c in active))
        spoken_for = {active[c].organisation for c in asked}
        for client, enrolled in active.items():
            if enrolled.organisation not in spoken_for:
                spoken_for.add(enrolled.organisation)
                asked[client] = None
        return list(asked)

    def _sealed(
        self, fleet: Fleet, round_: int, note: Note, clients: Sequence[ClientId]
    ) -> tuple[dict[ClientId, SealAnswer], dict[ClientId, Signature]]:
        """Return what `clients` answer, and the cosignatures that verify."""
        answers = self._ask(fleet, round_, note, clients)
        behind = [c for c, a in answers.items() if a.refusal and a.pinned_size != self.pinned.get(c, 0)]
        if behind:  # what we believed of their pins was wrong (a restart): serve them from where they stand
            self.pinned |= {client: answers[client].pinned_size for client in behind}
            answers |= self._ask(fleet, round_, note, behind)
        return answers, self._verified(note, answers)

    def _ask(self, fleet: Fleet, round_: int, note: Note, clients: Iterable[ClientId]) -> dict[ClientId, SealAnswer]:
        parcels = {c: Parcel((sign(self._request(c, round_, note), self.key),)) for c in clients}
        answers: dict[ClientId, SealAnswer] = {}
        for client, parcel in fleet.dispatch("seal", parcels).items():
            try:
                answers[client] = read(SealAnswer, only_statement(parcel), self._witness(client).key)
            except FedgeError:
                continue  # not the client's own words: it has said nothing
        return answers

    def _witness(self, client: ClientId) -> VerifierKey:
        return verifier_key(self.book.enrolled[client].witness_key)

    def _request(self, client: ClientId, round_: int, note: Note) -> SealRequest:
        old = min(self.pinned.get(client, 0), self.book.log.size)
        entries = self.book.chain(client).entries
        unproved = range(min(self.proved.get(client, 0), len(entries)), len(entries))
        return SealRequest(
            run=self.run,
            round=round_,
            checkpoint=note.text,
            old_size=old,
            consistency=tuple(b64encode(h) for h in self.book.log.consistency(old)),
            receipts={str(seq): self.book.log.receipt(entries[seq], note).text for seq in unproved},
            issued=timestamp(self.clock()),
        )

    def _verified(self, note: Note, answers: Mapping[ClientId, SealAnswer]) -> dict[ClientId, Signature]:
        """Return the cosignatures that verify; a false one is no cosignature."""
        verified: dict[ClientId, Signature] = {}
        for client, answer in answers.items():
            if answer.cosignature is None:
                continue
            try:
                (signature,) = parse(note.body + "\n" + answer.cosignature).signatures
                check_cosignature(note.body, signature, self._witness(client))
            except (AuditError, ValueError):
                continue
            verified[client] = signature
        return verified


def _too_few(count: int, quorum: int, enrolled: Iterable[ClientId], answers: Mapping[ClientId, SealAnswer]) -> str:
    reasons = [f"{c}: {answers[c].refusal or 'cosigned'}" if c in answers else f"{c}: silent" for c in sorted(enrolled)]
    return (
        f"{count} witnesses vouch for the log where {quorum} organisations are needed, so the round is not released. "
        + "; ".join(reasons)
    )
