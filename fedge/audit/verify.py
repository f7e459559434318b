"""The verifier: what a run folder proves to somebody who has public keys and nothing else.

Reads `audit/`, `receipts/`, `model.safetensors` and `config.json`; needs no database, no server, no network, and none
of the code that wrote the log. Every check ends as PROVEN, ATTESTED (signed by a client, not recomputable), MISSING or
FAILED with the reason; `verification.entries` are the entries that a report may cite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from fedge.audit import story as judge
from fedge.audit.checkpoint import cosigners
from fedge.audit.proof import parse_receipt, verify_receipt
from fedge.audit.published import Published, check_lines, read_published
from fedge.audit.story import Entry
from fedge.audit.trust import parse_trust
from fedge.errors import AuditError, FedgeError, ProofError, SignatureError

T = TypeVar("T")
Grade = Literal["PROVEN", "ATTESTED", "MISSING", "FAILED"]

LIMITS = (
    "No log can prove what a client left out: counts, permissions and noise are what each client signed (ATTESTED).",
    "The keys are those that the log itself names, unless you gave a policy file that reached you by another way.",
)


@dataclass(frozen=True)
class Check:
    """One question put to the run, and its answer."""

    name: str
    grade: Grade
    text: str


@dataclass(frozen=True)
class Verification:
    """All answers, and the entries if the log holds."""

    checks: tuple[Check, ...]
    entries: tuple[Entry, ...]
    root: str
    size: int
    cosigned_by: tuple[str, ...]
    quorum: int

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return all(check.grade != "FAILED" for check in self.checks)


def verify_run(folder: Path, trusted: Path | None = None) -> Verification:
    """Return what the run in `folder` proves; `trusted` is a policy file that reached the auditor by another way.

    Raises AuditError only if there is no log at all.
    """
    if not (folder / "audit").is_dir():
        raise AuditError(f"{folder} holds no audit/ folder: name the folder of a run")
    checks: list[Check] = []
    log = _try(checks, "log files", lambda: read_published(folder / "audit"), _say_log)
    if log is None:
        return Verification(tuple(checks), (), "", 0, (), 0)
    entries = _try(checks, "signatures of entries", lambda: judge.read_entries(log.entries), _say_entries)
    if entries is None:
        return Verification(tuple(checks), (), log.checkpoint.root.hex(), len(log.entries), (), log.trust.quorum)
    questions: list[tuple[str, Grade, judge.Judgement]] = [
        ("one run, named keys", "PROVEN", judge.one_run),
        ("no client statement missing", "PROVEN", judge.unbroken_chains),
        ("no round missing", "PROVEN", judge.unbroken_models),
        ("end of the log", "PROVEN", judge.closed_as_counted),
        ("privacy budgets", "ATTESTED", judge.budgets_held),
    ]
    for name, grade, question in questions:
        _try(checks, name, partial(question, entries, log.trust), str, grade)
    _try(checks, "witnesses", lambda: _witnesses(log), str)
    _try(checks, "model", lambda: _model(folder, entries), str)
    _try(checks, "configuration", lambda: _config(folder, entries), str)
    _receipts(checks, folder, log, entries)
    if trusted is not None:
        _try(checks, "trust", lambda: _trust(trusted, log), str)
    vouched = sorted(log.trust.vouching(cosigners(log.note, list(log.trust.witnesses.values()))))
    return Verification(
        tuple(checks), tuple(entries), log.checkpoint.root.hex(), len(entries), tuple(vouched), log.trust.quorum
    )


def _try(
    checks: list[Check], name: str, ask: Callable[[], T], say: Callable[[T], str], grade: Grade = "PROVEN"
) -> T | None:
    """Put one question; return its answer, or None after noting why it failed."""
    try:
        found = ask()
    except AuditError as error:
        checks.append(Check(name, "FAILED", str(error)))
        return None
    checks.append(Check(name, grade, say(found)))
    return found


def _say_log(log: Published) -> str:
    return f"{len(log.entries)} entries hash to the signed root {log.checkpoint.root.hex()[:16]}…"


def _say_entries(entries: list[Entry]) -> str:
    return f"{len(entries)} entries, each signed by the party that it speaks for"


def _witnesses(log: Published) -> str:
    vouched = log.trust.vouching(cosigners(log.note, list(log.trust.witnesses.values())))
    everyone = set(log.trust.organisations.values())
    if len(vouched) < log.trust.quorum:
        raise SignatureError(f"{len(vouched)} organisations vouch for the checkpoint, {log.trust.quorum} are needed")
    return f"{len(vouched)} of {len(everyone)} organisations vouch for the checkpoint ({log.trust.quorum} needed)"


def _model(folder: Path, entries: list[Entry]) -> str:
    expected = judge.final_model(entries)
    found = _file_digest(folder / "model.safetensors")
    if found != expected:
        raise ProofError(f"model.safetensors is {found}, the log ends with {expected}")
    return f"model.safetensors is the model that the log ends with ({found[:23]}…)"


def _config(folder: Path, entries: list[Entry]) -> str:
    expected = entries[0].payload["config_digest"]
    if _file_digest(folder / "config.json") != expected:
        raise ProofError("config.json is not the configuration that opened the log")
    return "config.json is the configuration that opened the log"


def _receipts(checks: list[Check], folder: Path, log: Published, entries: list[Entry]) -> None:
    paths = sorted((folder / "receipts").rglob("*.tlog-proof"))
    found = _try(
        checks, "receipts", lambda: {_receipt(p, log, entries) for p in paths}, lambda f: f"{len(f)} receipts hold"
    )
    stated = {e.index for e in entries if e.leaf.party == "client"}
    if found is not None and stated - found:
        checks.append(Check("receipts", "MISSING", f"{len(stated - found)} client statements have no receipt here"))


def _receipt(path: Path, log: Published, entries: list[Entry]) -> int:
    try:
        receipt = parse_receipt(path.read_text(encoding="utf-8"))
        check_lines(receipt.note, log.trust)
        if receipt.index >= len(entries):
            raise ProofError(f"it proves entry {receipt.index}, which the log no longer shows: the log was cut")
        entry = entries[receipt.index]
        found = verify_receipt(receipt, entry.raw, log.trust.log)
        if found.size > len(entries) or log.tree.root(found.size) != found.root:
            raise ProofError("it was given under a checkpoint that this log does not extend: the log was rewritten")
        if entry.signer != path.parent.name or path.name != f"statement-{entry.payload['seq']:04d}.tlog-proof":
            raise ProofError(f"it proves entry {entry.index}, which is not the statement that its name says")
    except (FedgeError, OSError, UnicodeDecodeError) as error:
        raise ProofError(f"{path.parent.name}/{path.name}: {error}") from error
    return receipt.index


def _trust(trusted: Path, log: Published) -> str:
    try:
        given = parse_trust(trusted.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(f"{trusted} cannot be read: {error}") from error
    if given != log.trust:
        raise SignatureError(f"{trusted} trusts other keys, or another quorum, than the log names")
    return f"the log names exactly the keys of {trusted}"


def _file_digest(path: Path) -> str:
    try:
        return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ProofError(f"{path.name} cannot be read: {error.strerror}") from error
