"""Sealing a round: no model is released before a quorum of witnesses has cosigned the log that records it.

The clients are the witnesses. Each demands a consistency proof from the checkpoint it has pinned, and a receipt for
every leaf it has handed in; then it pins the new checkpoint and cosigns. The server keeps no promise of theirs in
memory: a client that says "I have pinned size n" is served a proof from n.

If we crash before `publish`, nothing was shown but to witnesses, and the same entries are sealed again on restart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedge.audit.log import AuditLog
from fedge.encoding import b64encode
from fedge.errors import AuditError, FedgeError
from fedge.ids import ClientId, RunId
from fedge.rounds.messages import Enrolment, Fleet, Parcel, SealAnswer, SealRequest, only_statement, read, sign
from fedge.signing import PrivateKey, public_key


@dataclass
class Sealer:
    """The server's side of sealing; `leaves_of` says where each client's leaves are in the log, by sequence number.

    `pinned` is what each client was last known to have pinned: a hint that answers correct, never a promise.
    """

    run: RunId
    log: AuditLog
    key: PrivateKey
    enrolled: Mapping[ClientId, Enrolment]
    quorum: int
    audit: Path
    leaves_of: dict[ClientId, dict[int, int]] = field(default_factory=dict)
    pinned: dict[ClientId, int] = field(default_factory=dict)
    proved: dict[ClientId, int] = field(default_factory=dict)

    def seal(self, fleet: Fleet, round_: int) -> int:
        """Have the present log cosigned and publish it; return the number of organisations that vouched.

        Raises AuditError, naming each witness's reason, if fewer than `quorum` organisations cosign.
        """
        note = self.log.signed_checkpoint()
        answers = self._ask(fleet, round_, note, list(self.enrolled))
        behind = [c for c, a in answers.items() if a.refusal and a.pinned_size != self.pinned.get(c, 0)]
        for client in behind:  # what we believed of its pin was wrong (a restart): serve it from where it stands
            self.pinned[client] = answers[client].pinned_size
        answers |= self._ask(fleet, round_, note, behind) if behind else {}
        cosigned = {c: a.cosignature for c, a in answers.items() if a.cosignature is not None}
        organisations = {self.enrolled[c].organisation for c in cosigned}
        if len(organisations) < self.quorum:
            raise AuditError(_too_few(len(organisations), self.quorum, self.enrolled, answers))
        self.log.publish(self.audit, self.log.with_cosignatures(note, [cosigned[c] for c in sorted(cosigned)]))
        for client in cosigned:
            self.pinned[client] = self.log.size
            self.proved[client] = max(self.leaves_of.get(client, {}), default=-1)
        return len(organisations)
