"""The client as witness: it vouches for a checkpoint only if its own statements are in it, and the past is unchanged.

What a log has signed and cannot be true together is a finding: it is durable before the answer is sent, and from then
on the client neither vouches for that log nor works for it (`admission`), until its owner says otherwise.

A statement handed in twice and still without a receipt means that the server has left it out: then the client does
not vouch. (Handed in once, it may have been lost on the way: every answer hands in again what has no receipt.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fedge.audit.note import parse
from fedge.audit.proof import Receipt as Proof
from fedge.audit.proof import parse_receipt, verify_included
from fedge.audit.witness import ContradictionError, Pin
from fedge.encoding import b64decode, b64encode, timestamp
from fedge.errors import AuditError, LogConflictError, ProofError
from fedge.files import write_atomically
from fedge.rounds.findings import Finding
from fedge.rounds.memory import Receipt
from fedge.rounds.messages import Parcel, SealAnswer, SealRequest, only_statement, read, sign
from fedge.rounds.site import Site


def vouch(site: Site, parcel: Parcel) -> Parcel:
    """Return the client's cosignature of the checkpoint in a SealRequest, or why it gives none.

    Raises SignatureError or ParseError for what is not a request of this client's server.
    """
    statement = only_statement(parcel)
    request = read(SealRequest, statement, site.server.key)
    cosignature, refusal = None, None
    try:
        cosignature = _cosign(site, request)
    except ContradictionError as found:
        now = timestamp(site.machine.clock())
        evidence = Finding(request.run, now, str(found), found.pinned, found.shown, b64encode(statement))
        site.findings.keep(evidence)
        refusal = str(found)
    except AuditError as error:
        refusal = str(error)
    pin = site.witness.pinned(site.server.log_of(request.run).name)
    size = pin.checkpoint.size if pin else 0
    answer = SealAnswer(site.client, request.round, cosignature, refusal, size)
    return Parcel((sign(answer, site.witness.key),))  # as a witness: its key does not change with the client's


def _cosign(site: Site, request: SealRequest) -> str:
    if finding := site.findings.against(request.run):
        raise LogConflictError(f"this client found on {finding.at}: {finding.text}; its owner has not cleared that")
    log, proved = site.server.log_of(request.run), _proved(site, request)
    overdue = [seq for seq in site.memory.overdue(request.run, request.round + 1) if seq not in proved]
    if overdue:
        round_ = site.memory.statement(request.run, overdue[0]).round
        raise ProofError(f"statement {overdue[0]} of round {round_} was handed in and is not in the log")
    offer, proof = Pin(request.checkpoint, request.issued), [b64decode(h) for h in request.consistency]
    with site.witness.transaction():  # the pin and the receipts under it stand or fall together
        cosignature = site.witness.add_checkpoint(offer, log, request.old_size, proof)
        receipts = {seq: _cosigned(receipt, cosignature) for seq, receipt in proved.items()}
        bare = {seq: replace(receipt, entry=None).text for seq, receipt in receipts.items()}
        site.memory.receive([Receipt(request.run, seq, text) for seq, text in bare.items()])
    site.reached("pinned")
    _lay_out(site, receipts)
    return cosignature


def _cosigned(receipt: Proof, cosignature: str) -> Proof:
    """Return the receipt with this witness's own cosignature: it shows when the entry was in the log at the latest."""
    (signature,) = parse(receipt.note.body + "\n" + cosignature).signatures
    return replace(receipt, note=receipt.note.with_signatures((signature,)))


def lay_out_receipts(site: Site, run: str) -> None:
    """Write the receipts that the client has for its statements in `run` as files, for whoever asks for them.

    The client's own record of them is what is durable: a power cut may take a file away again.
    """
    if site.receipts is None:
        return
    receipts = site.memory.receipts(run)
    missing = {seq: text for seq, text in receipts.items() if not _receipt_file(site.receipts, seq).exists()}
    whole = {
        seq: replace(parse_receipt(text), entry=site.memory.statement(run, seq).leaf_bytes)
        for seq, text in missing.items()
    }
    _lay_out(site, whole)


def _lay_out(site: Site, receipts: Mapping[int, Proof]) -> None:
    """Write `receipts`, each with the entry that it proves."""
    if site.receipts is not None:
        for seq, receipt in receipts.items():
            write_atomically(_receipt_file(site.receipts, seq), receipt.text.encode(), durable=False)


def _receipt_file(folder: Path, seq: int) -> Path:
    return folder / f"statement-{seq:04d}.tlog-proof"


def _proved(site: Site, request: SealRequest) -> Mapping[int, Proof]:
    """Return the receipts in `request`, by statement, each with its entry, proved under the checkpoint to be signed.

    Whether the log has signed that checkpoint is for `Witness.add_checkpoint` to say, before any of them is kept.
    """
    count, note = site.memory.count(request.run), parse(request.checkpoint)
    proved: dict[int, Proof] = {}
    for key, text in request.receipts.items():
        if not key.isdecimal() or int(key) >= count:
            raise ProofError(f"a receipt for statement {key!r}, which this client never made")
        receipt = parse_receipt(text)
        if receipt.note != note:
            raise ProofError(f"the receipt of statement {key} is under another checkpoint")
        entry = site.memory.statement(request.run, int(key)).leaf_bytes
        verify_included(receipt, entry)
        proved[int(key)] = replace(receipt, entry=entry)
    return proved
