"""One receipt judged by itself: that its entry is in the log, and who vouches for that. The verifier alone decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fedge.audit import verify
from fedge.audit.verify import Entry, NamedKey, Policy, Receipt, Unproven


@dataclass(frozen=True)
class Proved:
    """What a receipt proves: `entry` is in the log; `vouching` are the organisations that vouch for its checkpoint."""

    receipt: Receipt
    entry: Entry
    vouching: tuple[str, ...]
    quorum: int

    @property
    def enough(self) -> bool:
        """Whether as many organisations vouch as the policy asks for."""
        return len(self.vouching) >= self.quorum

    @property
    def plain(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "log": self.receipt.checkpoint.origin,
            "entry": self.receipt.index,
            "entries": self.receipt.checkpoint.size,
            "root": self.receipt.checkpoint.root.hex(),
            "vouching": list(self.vouching),
            "quorum": self.quorum,
            "event": self.entry.event,
            "signer": self.entry.signer,
            "payload": dict(self.entry.payload),
        }


def proved(text: str, policy: Policy, entry: bytes | None = None, once: Iterable[NamedKey] = ()) -> Proved:
    """Return what the `.tlog-proof` in `text` proves to who trusts `policy`.

    `entry` is at hand if the receipt may hold none; witnesses that the log knew `once` may have signed it too, and do
    not count. Raises Unproven, which says why it proves nothing.
    """
    found = verify.parse_receipt(text)
    raw = found.entry if found.entry is not None else entry
    if raw is None:
        raise Unproven("it does not hold its entry, and can only be checked beside the log: fedge audit verify")
    checkpoint = found.checkpoint
    vouched = verify.check_signatures(checkpoint, policy.log, [*policy.witnesses.values(), *once])
    if verify.root_of_proof(found.index, checkpoint.size, verify.leaf_hash(raw), found.proof) != checkpoint.root:
        raise Unproven("its hashes do not lead from its entry to its checkpoint")
    said, _ = verify.parse_entry(found.index, raw)
    return Proved(found, said, tuple(sorted(policy.vouching(vouched.at))), policy.quorum)
