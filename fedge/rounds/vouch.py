"""The client as witness: it vouches for a checkpoint only if its own statements are in it, and the past is unchanged.

A statement of an earlier round without a receipt means that the server has left it out: then the client does not
vouch. (One of this very round may still be on its way: it is handed in again with the next answer.)
"""

from __future__ import annotations

from collections.abc import Mapping

from fedge.audit.note import parse
from fedge.audit.proof import parse_receipt, verify_receipt
from fedge.encoding import b64decode
from fedge.errors import AuditError, ProofError
from fedge.files import write_atomically
from fedge.rounds.memory import Receipt
from fedge.rounds.messages import Parcel, SealAnswer, SealRequest, only_statement, read, sign
from fedge.rounds.site import Site


def vouch(site: Site, parcel: Parcel) -> Parcel:
    """Return the client's cosignature of the checkpoint in a SealRequest, or why it gives none.

    Raises SignatureError or ParseError for what is not a request of this client's server.
    """
    request = read(SealRequest, only_statement(parcel), site.server.key)
    try:
        cosignature, refusal = _cosign(site, request), None
    except AuditError as error:
        cosignature, refusal = None, str(error)
    pinned = site.witness.pinned(site.server.log_of(request.run).name)
    size = pinned.size if pinned else 0
    return Parcel((sign(SealAnswer(site.client, request.round, cosignature, refusal, size), site.key),))


def _cosign(site: Site, request: SealRequest) -> str:
    log = site.server.log_of(request.run)
    pinned = site.witness.pinned(log.name)
    if pinned is not None and pinned.size != request.old_size:
        raise ProofError(f"the proof is from size {request.old_size}, this witness has pinned {pinned.size}")
    proved = _proved(site, request)
    missing = [a for a in site.memory.unreceipted(request.run) if a.seq not in proved and a.round < request.round]
    if missing:
        raise ProofError(f"statement {missing[0].seq} of round {missing[0].round} was handed in and is not in the log")
    with site.witness.transaction():  # the pin and the receipts under it stand or fall together
        cosignature = site.witness.add_checkpoint(request.checkpoint, log, [b64decode(h) for h in request.consistency])
        site.memory.receive([Receipt(request.run, seq, text) for seq, text in proved.items()])
    lay_out_receipts(site, proved)
    return cosignature


def lay_out_receipts(site: Site, receipts: Mapping[int, str]) -> None:
    """Write `receipts` as files for whoever asks for them; the client's own record of them is what is durable."""
    for seq, text in receipts.items():
        path = site.receipts / f"statement-{seq:04d}.tlog-proof"
        if not path.exists():
            write_atomically(path, text.encode(), durable=False)


def _proved(site: Site, request: SealRequest) -> Mapping[int, str]:
    """Return the receipts in `request`, by statement, each verified under the very checkpoint that is to be signed."""
    answers, body = site.memory.answers(request.run), parse(request.checkpoint).body
    proved: dict[int, str] = {}
    for key, text in request.receipts.items():
        if not key.isdecimal() or int(key) >= len(answers):
            raise ProofError(f"a receipt for statement {key!r}, which this client never made")
        receipt = parse_receipt(text)
        verify_receipt(receipt, answers[int(key)].leaf_bytes, site.server.log_of(request.run))
        if receipt.note.body != body:
            raise ProofError(f"the receipt of statement {key} is under another checkpoint")
        proved[int(key)] = text
    return proved
