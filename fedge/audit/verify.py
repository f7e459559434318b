"""Verify a run from its public files and public keys alone: one file, to be read in one sitting.

    python verify.py BUNDLE --policy policy.txt [--expect-run RUN] [--not-older-than 24h] [--format json]

BUNDLE is the folder of a run, or a copy of its public part: `audit/` (checkpoint, policy.txt, tile/...), `receipts/`,
`config.json`, `model.safetensors`. POLICY is the policy file that reached you by another way than the bundle; without
one the keys are the log's own, and the verdict on trust is MISSING. The exit code is 0 only if nothing FAILED.

This file needs Python 3.11 and the package `cryptography`; no server, no database, no network, and none of the code
that wrote the log: every format is written here a second time, on purpose. Each answer has a grade:

    PROVEN     recomputed here from the log and public keys
    ATTESTED   signed by the client that alone could know it
    DECLARED   typed by a person
    MISSING    not in the bundle; shown, never hidden
    FAILED     contradicted, with the reason

Sources: https://c2sp.org/signed-note, /tlog-checkpoint, /tlog-cosignature, /tlog-tiles, /tlog-proof, /tlog-policy;
RFC 6962 (hashing); RFC 8785 (canonical JSON); https://github.com/secure-systems-lab/dsse (signed entries).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import bisect
import gc
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache, partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

T = TypeVar("T")
Grade = Literal["PROVEN", "ATTESTED", "DECLARED", "MISSING", "FAILED"]

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the clocks of server, clients and witnesses may disagree before a time is a finding."""
LIMITS = (
    "No log can prove what a client left out: counts, permissions and noise are what each client signed (ATTESTED).",
    "The keys are those that the log itself names, unless you gave a policy file that reached you by another way.",
    "A log that is shown to you whole may have a newer end: ask for a checkpoint that is not older than you need.",
)


class Unproven(Exception):
    """What was to be shown is not shown; the message says what, and where. The only error this file raises."""


# ---- Canonical JSON (RFC 8785), whole numbers only --------------------------------------------------------------


def parse_json(data: bytes) -> Any:
    """Return the value of canonical JSON bytes; any other spelling, a float or a duplicate key is refused."""
    try:
        text = data.decode("utf-8")
        value = _READER.decode(text)
        printed = _PRINTER.encode(value)  # the order of keys is that of the input
    except (ValueError, RecursionError) as error:
        raise Unproven(f"not JSON: {error}") from error
    if printed != text:
        raise Unproven("the JSON is not in canonical form: its spacing, numbers or escapes differ")
    return value


_PRINTER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _sorted_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs) or not _in_order(tuple(found)):
        raise Unproven("the JSON is not in canonical form: a key comes twice, or the keys are not sorted")
    return found


@lru_cache(maxsize=512)  # most objects of a log have one of a few dozen sets of keys
def _in_order(keys: tuple[str, ...]) -> bool:
    return all(a.encode("utf-16-be") < b.encode("utf-16-be") for a, b in pairwise(keys))


def _whole(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) >= 2**53:
        raise Unproven(f"the JSON holds the number {digits[:20]}, which is beyond 2**53")
    return int(digits)


def _refused(number: str) -> Any:
    raise Unproven(f"the JSON holds {number[:20]}, which is not a whole number")


_READER = json.JSONDecoder(
    object_pairs_hook=_sorted_keys, parse_int=_whole, parse_float=_refused, parse_constant=_refused
)


def decode_base64(text: str) -> bytes:
    """Return the bytes of padded standard base64 in its one spelling."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise Unproven(f"not base64: {error}") from error
    if binascii.b2a_base64(data, newline=False).decode() != text:
        raise Unproven("the base64 is not in its one spelling")
    return data


def sha256(data: bytes) -> str:
    """Return `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---- Keys and signatures (Ed25519) ------------------------------------------------------------------------------

LOG, WITNESS = 1, 4
"""Signature types of signed notes: a log's plain signature, a witness's timestamped one."""
NAME = r"[^\s+\x00-\x1f\x7f]+"
"""What may name a key: no space of any kind, no plus."""


@dataclass(frozen=True)
class Key:
    """A public key of 32 bytes."""

    raw: bytes

    @cached_property
    def id(self) -> str:
        """How entries name their signer: 16 hex digits of SHA-256 of the key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @cached_property
    def _public(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` over `message` is this key's."""
        try:
            self._public.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class NamedKey:
    """A key as notes and policies name it: `name+hash+base64(type || key)`."""

    name: str
    kind: int
    key: Key

    @cached_property
    def hash(self) -> bytes:
        """The first four bytes of SHA-256(name, newline, type, key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key.raw).digest()[:4]

    @property
    def text(self) -> str:
        """The vkey."""
        data = base64.b64encode(bytes([self.kind]) + self.key.raw).decode()
        return f"{self.name}+{self.hash.hex()}+{data}"


def parse_vkey(text: str) -> NamedKey:
    """Return the key that a vkey names."""
    found = re.fullmatch(rf"({NAME})\+([0-9a-f]{{8}})\+([A-Za-z0-9+/]{{44}})", text)
    data = decode_base64(found[3]) if found else b""
    if not found or data[0] not in (LOG, WITNESS):
        raise Unproven(f"{text[:100]!r} is not the verifier key of an Ed25519 signer")
    key = NamedKey(found[1], data[0], Key(data[1:]))
    if key.text != text:
        raise Unproven(f"verifier key {text!r} contradicts its own hash")
    return key


def parse_key(text: str) -> Key:
    """Return the key of `ed25519:<base64>`, the spelling that entries use."""
    data = decode_base64(text.removeprefix("ed25519:"))
    if not text.startswith("ed25519:") or len(data) != 32:
        raise Unproven(f"{text[:60]!r} is not an Ed25519 public key")
    return Key(data)


# ---- The Merkle tree (RFC 6962) ---------------------------------------------------------------------------------


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree over all entries: `levels[k]` holds the hashes of its complete subtrees of 2**k entries."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        self.levels = [list(leaves)]
        while len(below := self.levels[-1]) > 1:
            pairs = zip(below[::2], below[1::2], strict=False)  # an odd last one waits for its neighbour
            self.levels.append([node_hash(left, right) for left, right in pairs])

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.levels[0])

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` entries: one complete subtree for each 1 in the binary `size`."""
        found = b""
        for k in range(size.bit_length()):
            if size >> k & 1:
                left = self.levels[k][(size >> k) - 1]
                found = node_hash(left, found) if found else left
        return found or hashlib.sha256(b"").digest()


def root_of_proof(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to."""
    if not 0 <= index < size:
        raise Unproven(f"index {index} is not in a tree of size {size}")
    if size == 1:
        if proof or len(leaf) != 32:
            raise Unproven("the inclusion proof is too long")
        return leaf
    if not proof:
        raise Unproven("the inclusion proof is too short")
    split = 1 << ((size - 1).bit_length() - 1)
    if index < split:
        return node_hash(root_of_proof(index, split, leaf, proof[:-1]), proof[-1])
    return node_hash(proof[-1], root_of_proof(index - split, size - split, leaf, proof[:-1]))


# ---- Signed notes, checkpoints, cosignatures --------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """One signature line of a note."""

    name: str
    hash: bytes
    raw: bytes


@dataclass(frozen=True)
class Checkpoint:
    """A signed note that says: log `origin` has `size` entries with this root."""

    origin: str
    size: int
    root: bytes
    body: str
    signatures: tuple[Signature, ...]


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint in a signed note; nothing is verified yet."""
    body, signatures = _note(text)
    found = re.fullmatch(r"([^\n]+)\n(0|[1-9][0-9]{0,15})\n([^\n]+)\n", body)
    root = decode_base64(found[3]) if found else b""
    if not found or len(root) != 32:
        raise Unproven("a checkpoint has three lines: origin, size, root")
    return Checkpoint(found[1], int(found[2]), root, body, signatures)


def _note(text: str) -> tuple[str, tuple[Signature, ...]]:
    body, blank, tail = text.rpartition("\n\n")
    if len(text) > 1_000_000 or re.search(r"[\x00-\x09\x0b-\x1f]", text) or not blank or not tail.endswith("\n"):
        raise Unproven("a note is a text without control characters, a blank line and signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > 5_000:
        raise Unproven("the note has more than 5,000 signatures")
    return body + "\n", tuple(_signature(line) for line in lines)


def _signature(line: str) -> Signature:
    found = re.fullmatch(rf"\u2014 ({NAME}) ([A-Za-z0-9+/=]+)", line)
    data = decode_base64(found[2]) if found else b""
    if not found or len(data) < 5:
        raise Unproven(f"{line[:100]!r} is not a signature line")
    return Signature(found[1], data[:4], data[4:])


def cosigned_at(checkpoint: Checkpoint, signature: Signature, witness: NamedKey) -> datetime:
    """Return when `witness` vouched for `checkpoint`."""
    seconds = int.from_bytes(signature.raw[:8], "big")
    message = f"cosignature/v1\ntime {seconds}\n{checkpoint.body}".encode()
    if len(signature.raw) != 72 or seconds >= 2**37 or not witness.key.signed(signature.raw[8:], message):
        raise Unproven(f"the cosignature of witness {witness.name} does not verify")
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True)
class Vouched:
    """Who vouched for a checkpoint of this size, and when."""

    size: int
    at: Mapping[str, datetime]


def check_signatures(checkpoint: Checkpoint, log: NamedKey, witnesses: Iterable[NamedKey]) -> Vouched:
    """Return who vouched for `checkpoint` after checking every signature line.

    A note may bear lines of strangers; a log of fedge never publishes one, so a line that nobody known has made is a
    line that somebody has changed.
    """
    known = {(w.name, w.hash): w for w in witnesses}
    signed, at = 0, dict[str, datetime]()
    for line in checkpoint.signatures:
        if (line.name, line.hash) == (log.name, log.hash):
            if not log.key.signed(line.raw, checkpoint.body.encode()):
                raise Unproven(f"the checkpoint's signature by {log.name} does not verify")
            signed += 1
        elif witness := known.get((line.name, line.hash)):
            if witness.name in at:
                raise Unproven(f"witness {witness.name} has signed the checkpoint twice")
            at[witness.name] = cosigned_at(checkpoint, line, witness)
        else:
            raise Unproven(f"a signature line by {line.name!r} is of no key that the policy file knows")
    if signed != 1 or checkpoint.origin != log.name:
        raise Unproven(f"the checkpoint of {checkpoint.origin!r} must bear one signature of {log.name!r}, not {signed}")
    return Vouched(checkpoint.size, at)


# ---- The policy file: whom to trust -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """The log's key; each witness's key and organisation, by the witness's name; how many organisations must vouch."""

    log: NamedKey
    witnesses: Mapping[str, NamedKey]
    organisations: Mapping[str, str]
    quorum: int

    def vouching(self, witnesses: Iterable[str]) -> set[str]:
        """Return the organisations that `witnesses` speak for: many witnesses of one organisation are one vote."""
        return {self.organisations[w] for w in witnesses if w in self.organisations}

    @property
    def text(self) -> str:
        """The one spelling of this policy."""
        groups: dict[str, list[str]] = {}
        for witness, organisation in sorted(self.organisations.items()):
            groups.setdefault("org:" + quote(organisation, safe=""), []).append(witness)
        lines = [
            f"log {self.log.text}",
            *(f"witness {name} {key.text}" for name, key in sorted(self.witnesses.items())),
            *(f"group {group} any {' '.join(members)}" for group, members in sorted(groups.items())),
            f"group organisations {self.quorum} {' '.join(sorted(groups))}",
            "quorum organisations",
        ]
        return "".join(f"{line}\n" for line in lines)


def parse_policy(text: str) -> Policy:
    """Return the policy in a file. Refuses every spelling but one, one key under two names, a quorum out of reach."""
    words = [line.split(" ") for line in text.split("\n")]
    try:
        (log,) = (parse_vkey(w[1]) for w in words if w[0] == "log")
        witnesses = {w[1]: parse_vkey(w[2]) for w in words if w[0] == "witness"}
        groups = {w[1]: w[2:] for w in words if w[0] == "group"}
        quorum = int(groups.pop("organisations")[0])
    except (IndexError, KeyError, ValueError) as error:
        raise Unproven("not a policy file: it needs log, witness, group and quorum lines") from error
    members = {m: unquote(g.removeprefix("org:")) for g, rest in groups.items() for m in rest[1:]}
    found = Policy(log, witnesses, members, quorum)
    if found.text != text or log.kind != LOG or any(w.kind != WITNESS or n != w.name for n, w in witnesses.items()):
        raise Unproven("the policy file is not in its one canonical spelling")
    if len({w.key.raw for w in witnesses.values()}) != len(witnesses) or set(members) != set(witnesses):
        raise Unproven("the policy file names one key twice, or a witness without an organisation")
    if not 1 <= quorum <= len(groups):
        raise Unproven(f"a quorum of {quorum} out of {len(groups)} organisations cannot be")
    return found


def majority(organisations: int) -> int:
    """Return the least number that is more than half of `organisations`; at least 1."""
    return max(1, organisations // 2 + 1)


# ---- Tiles: the published files ---------------------------------------------------------------------------------

WIDTH = 256


def tile_path(level: str, number: int, width: int) -> str:
    """Return the path of a tile: 1234067 is written `x001/x234/067`, one that is not full ends in `.p/<width>`."""
    text = f"{number:0{3 * -(-len(str(number)) // 3)}d}"
    groups = [text[i : i + 3] for i in range(0, len(text), 3)]
    partial_ = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(['x' + g for g in groups[:-1]] + groups[-1:])}{partial_}"


def unpack(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle: each has its length before it, in two bytes."""
    entries, place = list[bytes](), 0
    while place < len(bundle):
        length = int.from_bytes(bundle[place : place + 2], "big")
        entries.append(bundle[place + 2 : place + 2 + length])
        place += 2 + length
    if place != len(bundle):
        raise Unproven("the bundle of entries is cut off")
    return entries


def read_entries(folder: Path, size: int) -> list[bytes]:
    """Return the `size` entries that the bundles below `folder` hold."""
    entries: list[bytes] = []
    for start in range(0, size, WIDTH):
        path = folder / tile_path("entries", start // WIDTH, min(WIDTH, size - start))
        entries += unpack(_bytes(path))
    if len(entries) != size:
        raise Unproven(
            f"the checkpoint signs {size} entries, the bundles hold {len(entries)}: the log was cut or padded"
        )
    return entries


def check_tiles(folder: Path, tree: Tree) -> None:
    """Check that the hash tiles below `folder` are those of `tree`."""
    for level in range(0, len(tree.levels), 8):
        hashes = tree.levels[level]
        for start in range(0, len(hashes), WIDTH):
            tile = hashes[start : start + WIDTH]
            path = tile_path(str(level // 8), start // WIDTH, len(tile))
            if _bytes(folder / path) != b"".join(tile):
                raise Unproven(f"{path} is not the tile that the entries make")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unproven(f"{path} cannot be read: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unproven(f"{path} is not UTF-8 text") from error


# ---- Receipts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Receipt:
    """An entry's index, the hashes beside its path, the checkpoint they lead to, and the entry if it is there too."""

    index: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    entry: bytes | None


def parse_receipt(text: str) -> Receipt:
    """Return the receipt in a `.tlog-proof` file; nothing is verified yet."""
    found = _RECEIPT.match(text)
    if not found:
        raise Unproven("not a tlog-proof receipt")
    entry = decode_base64(found[1]) if found[1] else None
    proof = tuple(decode_base64(line) for line in found[3].split("\n")[:-1])
    if any(len(h) != 32 for h in proof):
        raise Unproven("a hash of the receipt does not have 32 bytes")
    return Receipt(int(found[2]), proof, parse_checkpoint(text[found.end() :]), entry)


_RECEIPT = re.compile(
    r"c2sp\.org/tlog-proof@v1\n(?:extra ([A-Za-z0-9+/=]{4,87380})\n)?index (0|[1-9][0-9]{0,15})\n"
    r"((?:[A-Za-z0-9+/=]+\n){0,63})\n"
)
"""An entry has at most 65,535 bytes, 87,380 in base64."""


# ---- Entries: signed envelopes around records of fixed form -----------------------------------------------------

FORMS = {
    "digest": "sha256:[0-9a-f]{64}",
    "moment": r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "decimal": r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]\d+)?|-?inf",
    "code": "[a-z0-9][a-z0-9_.:-]{0,63}",
    "name": "[a-z0-9][a-z0-9._-]{0,63}",
    "keyid": "[0-9a-f]{16}",
    "key": "ed25519:[A-Za-z0-9+/]{43}=",
    "vkey": r"[^\s+]{1,200}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}",
    "text": r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,1000}",
    "bucket": "0|1-9|[1-9]0{1,15}-[1-9]9{1,15}",
    "unit": "none|record|subject|client",
    "noise_at": "none|client|server|distributed",
}
"""What a text may look like. A member's form may also be `int`, `bool`, or a list of words `a|b`; `?` adds null,
`[...]` makes a list, `{key:value}` a mapping, and a capital letter names a record of PARTS."""
PARTS = {
    "Continues": "run:text round:int size:int root:digest reason:code",
    "Counts": "eligible:bucket used:bucket excluded:{code:bucket} commitment:digest",
    "Dataset": "lineage:text commitment:digest version:text schema_digest:digest origin:text"
    " purpose_of_collection:text period:text?",
    "Digests": "code:digest config:digest",
    "Participant": "client:name outcome:accepted|refused|rejected|failed|silent reason:code?",
    "Permission": "snapshot_digest:digest as_of:moment policy_digest:digest engine:text",
    "PrivacyStatement": "unit:unit adjacency:code accountant:code sampling:code delta:decimal? noise_source:code"
    " noise_at:noise_at",
    "PrivacySpend": "mechanism:code unit:unit adjacency:code accountant:code sampling:code sample_rate:decimal?"
    " noise_multiplier:decimal? clip_norm:decimal? steps:int delta:decimal? epsilon_round:decimal?"
    " epsilon_total:decimal? budget_epsilon:decimal? secure_noise:bool noise_at:noise_at ledger_head:digest?",
    "Resources": "wall_ms:int cpu_ms:int bytes_in:int bytes_out:int energy_mj:int?"
    " energy_source:measured|estimated|none device:text",
}
_EVERY = "run:text at:moment "
_CLIENT = _EVERY + "client:name key:keyid seq:int previous:digest? "
EVENTS = {
    "run_open": _EVERY + "config_digest:digest task:text model_format:text purpose:text rounds_planned:int"
    " server_key:key log_key:vkey quorum:int code_version:text packages_digest:digest strategy:code"
    " privacy_statement:PrivacyStatement initial_model:digest continues:Continues?",
    "client_enrol": _EVERY + "client:name key:key witness_key:vkey organisation:text",
    "client_retire": _EVERY + "client:name reason:code",
    "key_rotate": _CLIENT + "new_key:key reason:code",
    "key_revoke": _EVERY + "client:name key:keyid from_index:int reason:code",
    "consent_snapshot": _CLIENT + "purpose:text counts:Counts permission:Permission",
    "data_use": _CLIENT + "work:train|evaluate round:int attempt:int dataset:Dataset counts:Counts purpose:text"
    " legal_bases:[text] permission:Permission model_in:digest update:digest? format:text privacy:PrivacySpend"
    " secure_aggregation:bool digests:Digests started:moment ended:moment resources:Resources"
    " outcome:submitted|skipped|refused|failed reason:code? order:digest",
    "withdrawal_effective": _CLIENT + "subject_commitment:digest withdrawn_at:moment effective_at:moment round:int",
    "repeated_subjects": _CLIENT + "lineage:text unit:unit round:int",
    "erasure_effective": _CLIENT + "subject_commitment:digest requested_at:moment effective_at:moment models:[digest]",
    "update_rejected": _EVERY + "client:name round:int reason:code update:digest?",
    "round_close": _EVERY + "round:int attempt:int participants:[Participant] accepted:int model_in:digest"
    " model_out:digest void:bool reason:code? aggregation:code",
    "round_roll": _EVERY + "round:int participants:[Participant]",
    "evaluation": _EVERY + "round:int scope:central|federated model:digest values:{code:decimal} noise_std:decimal?"
    " n:int?",
    "policy_change": _EVERY + "scope:text old_digest:digest new_digest:digest reason:text",
    "incident": _EVERY + "kind:code detail:text round:int? client:name?",
    "report_issued": _EVERY + "report:digest covers:int",
    "run_stopped": _EVERY + "round:int reason:code",
    "run_resumed": _EVERY + "round:int model:digest",
    "run_roll": _EVERY + "leaves:{name:int}",
    "run_close": _EVERY + "rounds:int leaves:{name:int} model:digest",
}
"""Every event and its members. What an event does to data its client signs (`_CLIENT`), all others the server."""

Fits = Callable[[Any], object]
"""Returns something true if a value fits; may raise TypeError for one of another type."""


def _fits(form: str) -> Fits:  # noqa: PLR0911 - one line a kind
    """Return the test that a value is spelled as `form` says."""
    if form.endswith("?"):
        inner = _fits(form[:-1])
        return lambda value: value is None or inner(value)
    if form.startswith("["):
        item = _fits(form[1:-1])
        return lambda value: isinstance(value, list) and all(map(item, value))
    if form.startswith("{"):
        key, each = (_fits(f) for f in form[1:-1].split(":"))
        return lambda value: isinstance(value, dict) and all(key(k) and each(v) for k, v in value.items())
    if form in PARTS:
        return partial(_fits_record, _record(PARTS[form]))
    if form == "int":
        return lambda value: type(value) is int and value >= 0
    if form == "bool":
        return lambda value: isinstance(value, bool)
    pattern = re.compile(FORMS.get(form, form), re.ASCII)
    if form == "moment":
        return lambda value: pattern.fullmatch(value) and _is_moment(value)
    return pattern.fullmatch


def _record(members: str) -> dict[str, Fits]:
    return {name: _fits(form) for name, _, form in (m.partition(":") for m in members.split())}


def _fits_record(members: Mapping[str, Fits], value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != members.keys():
        return False
    try:
        for name, fits in members.items():
            if not fits(value[name]):
                return False
    except TypeError:  # a number where a text belongs
        return False
    return True


def _misfits(members: Mapping[str, Fits], value: Mapping[str, Any]) -> list[str]:
    """Return the members of a record that are missing, too many, or not of their form."""
    odd = members.keys() ^ value.keys()
    return sorted(odd) or [n for n, fits in members.items() if not _fits_record({n: fits}, {n: value[n]})]


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_RECORDS = {event: _record("schema:text " + members) for event, members in EVENTS.items()}


@dataclass(frozen=True)
class Entry:
    """One entry of the log: `payload` is what it states, `signer` the client that does or `server`."""

    index: int
    event: str
    payload: Mapping[str, Any]
    signer: str
    raw: bytes

    @property
    def at(self) -> datetime:
        """When it says that it was made."""
        return moment(self.payload["at"])

    @property
    def by_client(self) -> bool:
        """Whether a client states it."""
        return EVENTS[self.event].startswith(_CLIENT)


@dataclass(frozen=True)
class Signed:
    """What an entry's signature covers, and by whom it claims to be."""

    message: bytes
    signature: bytes
    key_id: str


def moment(text: str) -> datetime:
    """Return the time of an entry's `at`."""
    return datetime.fromisoformat(text)


ENVELOPE = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/=]*)","payloadType":"(application/vnd\.fedge\.([a-z_]{1,64})\+json)",'
    rb'"signatures":\[\{"keyid":"([0-9a-f]{16})","sig":"([A-Za-z0-9+/=]*)"\}\]\}'
)
"""The canonical JSON of a DSSE envelope with one signature has this one spelling."""


def parse_entry(index: int, data: bytes) -> tuple[Entry, Signed]:
    """Return the entry in the bytes of a leaf; its signature is not verified yet."""
    found = ENVELOPE.fullmatch(data)
    if not found:
        raise Unproven("not an envelope of an event with one signature, or it has members that do not belong there")
    kind, event, payload = found[2], found[3].decode(), decode_base64(found[1].decode())
    if event not in EVENTS:
        raise Unproven(f"{event!r} is no event that this verifier knows; a newer one may")
    said = parse_json(payload)
    if not isinstance(said, dict) or said.get("schema") != f"fedge.{event}/1":
        raise Unproven(f"a {event} entry must say schema fedge.{event}/1")
    if not _fits_record(_RECORDS[event], said):
        raise Unproven(f"the {event} entry is not of its form: {', '.join(_misfits(_RECORDS[event], said))}")
    signer = said["client"] if EVENTS[event].startswith(_CLIENT) else "server"
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    return Entry(index, event, said, signer, data), Signed(message, decode_base64(found[5].decode()), found[4].decode())


# ---- Who speaks: enrolled, rotated, revoked, retired ------------------------------------------------------------


@dataclass
class Speakers:
    """Whose key holds at which entry: folded over the log, one entry after the other."""

    keys: dict[str, list[Key]] = field(default_factory=dict)
    retired: dict[str, int] = field(default_factory=dict)
    revoked: dict[tuple[str, str], int] = field(default_factory=dict)

    def key_of(self, entry: Entry, signed: Signed) -> Key:
        """Return the key that must have signed `entry`, then take in what the entry says of keys."""
        self._check_opening(entry)
        if entry.signer not in self.keys:
            raise Unproven(f"client {entry.signer!r} speaks without being enrolled")
        if entry.signer in self.retired:
            raise Unproven(f"client {entry.signer!r} speaks after entry {self.retired[entry.signer]} retired it")
        key = self.keys[entry.signer][-1]
        if signed.key_id != key.id or (entry.by_client and entry.payload["key"] != key.id):
            raise Unproven(f"signed by key {signed.key_id}; the key of {entry.signer} is {key.id} there")
        self._take_in(entry)
        return key

    def _check_opening(self, entry: Entry) -> None:
        if (entry.event == "run_open") != (entry.index == 0):
            raise Unproven(f"a log begins with run_open and has no other; entry {entry.index} is {entry.event}")
        if entry.index == 0:
            self.keys["server"] = [parse_key(entry.payload["server_key"])]

    def _take_in(self, entry: Entry) -> None:
        said, client = entry.payload, entry.payload.get("client", "")
        match entry.event:
            case "client_enrol":
                if client in self.keys:
                    raise Unproven(f"client {client!r} is enrolled twice, or is called like the server")
                self.keys[client] = [parse_key(said["key"])]
            case "key_rotate":
                if (fresh := parse_key(said["new_key"])) in self.keys[client]:
                    raise Unproven(f"{client!r} goes back to a key that it has given up")
                self.keys[client].append(fresh)
            case "key_revoke":
                if said["key"] not in {key.id for key in self.keys.get(client, [])}:
                    raise Unproven(f"it revokes key {said['key']}, which {client!r} never had")
                start = self.revoked.get((client, said["key"]), said["from_index"])
                self.revoked[client, said["key"]] = min(start, said["from_index"])
            case "client_retire":
                if client not in self.keys or client in self.retired:
                    raise Unproven(f"it retires {client!r}, which is not enrolled")
                self.retired[client] = entry.index

    @property
    def rotations(self) -> int:
        """How often a key was changed."""
        return sum(len(keys) - 1 for keys in self.keys.values())

    def active(self) -> set[str]:
        """Return the clients that may still speak: enrolled, not retired, their key not revoked."""
        return {
            client
            for client, keys in self.keys.items()
            if client not in {"server", *self.retired} and (client, keys[-1].id) not in self.revoked
        }


def read_story(raw: Sequence[bytes]) -> tuple[list[Entry], Speakers]:
    """Return the entries after checking form, signer and signature of each.

    Checking a signature keeps Python's lock: threads gain nothing, so a large log's are checked in other processes.
    """
    if not raw:
        raise Unproven("the log is empty")
    with _no_search_for_cycles():
        return _read_story(raw)


def _read_story(raw: Sequence[bytes]) -> tuple[list[Entry], Speakers]:
    speakers, entries, verdicts = Speakers(), list[Entry](), list[Future[list[bool]]]()
    check = _verified_apart if len(raw) > MANY and sys.executable else _verified
    pool = ThreadPoolExecutor(os.cpu_count())  # each thread waits for one process
    try:
        for start in range(0, len(raw), BATCH):
            claims = [_claim(start + i, data, speakers, entries) for i, data in enumerate(raw[start : start + BATCH])]
            verdicts.append(pool.submit(check, claims))
        for entry, holds in zip(entries, (h for v in verdicts for h in v.result()), strict=True):
            if not holds:
                raise Unproven(f"entry {entry.index}: the signature of {entry.signer} does not verify")
    finally:
        pool.shutdown(cancel_futures=True)
    return entries, speakers


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Entries hold no cycles: Python would look through all of them for some, again and again, a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


Claim = tuple[Key, Signed]
"""What is signed, and the key that must have signed it."""
MANY, BATCH = 10_000, 8_192
"""Above how many entries other processes help, and how many signatures each checks: one takes 0.1 s to start."""


def _claim(index: int, data: bytes, speakers: Speakers, entries: list[Entry]) -> Claim:
    """Read one entry into `speakers` and `entries`; return by which key it must be signed."""
    try:
        entry, signed = parse_entry(index, data)
        key = speakers.key_of(entry, signed)
    except Unproven as error:
        raise Unproven(f"entry {index}: {error}") from error
    entries.append(entry)
    return key, signed


def _verified(claims: Sequence[Claim]) -> list[bool]:
    return [key.signed(signed.signature, signed.message) for key, signed in claims]


def _verified_apart(claims: Sequence[Claim]) -> list[bool]:
    """Check signatures in a new process of this file; what it does not say to hold, or cannot say, is checked here.

    Not by `multiprocessing`: it would fork a process that has threads, or run the caller's own script a second time.
    """
    parts = [part for key, signed in claims for part in (key.raw, signed.signature, signed.message)]
    asked = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    try:
        answer = subprocess.run(
            [sys.executable, "-I", __file__, HELPER], input=asked, capture_output=True, check=False
        ).stdout
    except OSError:  # no further process is to be had
        answer = b""
    return [True] * len(claims) if answer == b"1" * len(claims) else _verified(claims)


def help_verify() -> int:
    """Be the other process: read keys, signatures and messages, write a 1 for each that holds, a 0 for others."""
    parts = iter(unpack(sys.stdin.buffer.read()))
    claims = [
        (Key(raw), Signed(message, signature, "")) for raw, signature, message in zip(parts, parts, parts, strict=True)
    ]
    sys.stdout.write("".join("01"[holds] for holds in _verified(claims)))
    return 0


HELPER = "--check-signatures-of-stdin"


# ---- The log as it is published ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Log:
    """A published log: its newest checkpoint and who vouched for it, whom it asks to trust, its entries, their tree."""

    checkpoint: Checkpoint
    vouched: Vouched
    policy: Policy
    entries: tuple[bytes, ...]
    tree: Tree

    @property
    def text(self) -> str:
        """What was shown by reading it."""
        return f"{self.tree.size} entries hash to the signed root {self.checkpoint.root.hex()[:16]}…"


def read_log(folder: Path) -> Log:
    """Return the log in `folder` after checking that its files are exactly what its entries make."""
    policy = parse_policy(_text(folder / "policy.txt"))
    checkpoint = parse_checkpoint(_text(folder / "checkpoint"))
    vouched = check_signatures(checkpoint, policy.log, policy.witnesses.values())
    entries = read_entries(folder, checkpoint.size)
    tree = Tree(map(leaf_hash, entries))
    if tree.root(tree.size) != checkpoint.root:
        raise Unproven("the entries do not hash to the root that the checkpoint signs: an entry was changed")
    check_tiles(folder, tree)
    return Log(checkpoint, vouched, policy, tuple(entries), tree)


@dataclass(frozen=True)
class Case:
    """What is judged: a log, its entries and keys, and the policy by which witnesses count."""

    folder: Path
    log: Log
    entries: Sequence[Entry]
    speakers: Speakers
    policy: Policy

    def of(self, *events: str) -> list[Entry]:
        """Return the entries of these events."""
        return [e for e in self.entries if e.event in events]

    @property
    def opening(self) -> Mapping[str, Any]:
        """What the first entry states."""
        return self.entries[0].payload

    @property
    def first_state(self) -> int:
        """The number of rounds behind the model that the run starts from: 0, unless it redoes rounds of another."""
        continues = self.opening["continues"]
        return int(continues["round"]) if continues else 0

    @cached_property
    def rolls(self) -> dict[int, list[Mapping[str, Any]]]:
        """By round, the participants that are listed before its closing entry; a list of no closed round is refused."""
        found: dict[int, list[Mapping[str, Any]]] = {}
        closed: set[int] = set()
        for entry in self.entries:
            if entry.event == "round_close":
                closed.add(entry.payload["round"])
            elif entry.event == "round_roll":
                if entry.payload["round"] in closed:
                    raise Unproven(f"entry {entry.index} adds to a round that was closed before")
                found.setdefault(entry.payload["round"], []).extend(entry.payload["participants"])
        if not found.keys() <= closed:
            raise Unproven("the log lists participants of a round that it never closes")
        return found

    @property
    def final_model(self) -> str:
        """The digest of the model that the log ends with."""
        rounds = self.of("round_close")
        return str(rounds[-1].payload["model_out"] if rounds else self.opening["initial_model"])

    @cached_property
    def witnesses(self) -> dict[str, NamedKey]:
        """Every witness that the log ever enrolled, by its client; the same key twice is refused."""
        found = {e.payload["client"]: parse_vkey(e.payload["witness_key"]) for e in self.of("client_enrol")}
        if len({k.key.raw for k in found.values()} | {k.name for k in found.values()}) != 2 * len(found):
            raise Unproven("two clients were enrolled with one witness: one would vouch for both")
        return found

    @cached_property
    def receipts(self) -> dict[Path, Receipt | Unproven]:
        """Every receipt in the bundle, or why it cannot be read."""
        return {path: _try_receipt(path) for path in sorted((self.folder / "receipts").rglob("*.tlog-proof"))}

    @cached_property
    def seen_at(self) -> dict[int, datetime]:
        """When a witness first vouched for this log at each size; a receipt that does not hold is judged elsewhere."""
        found = [self.log.vouched]
        for receipt in self.receipts.values():
            try:
                found += [self.vouched_for(receipt.checkpoint)] if isinstance(receipt, Receipt) else []
            except Unproven:
                continue
        seen: dict[int, datetime] = {}
        for vouched in found:
            for at in vouched.at.values():
                seen[vouched.size] = min(at, seen.get(vouched.size, at))
        return dict(sorted(seen.items()))

    def vouched_for(self, checkpoint: Checkpoint) -> Vouched:
        """Return who vouched for a checkpoint of this log; each is looked at once."""
        if checkpoint not in self._vouched:
            self._vouched[checkpoint] = check_signatures(checkpoint, self.log.policy.log, self.witnesses.values())
        return self._vouched[checkpoint]

    @cached_property
    def _vouched(self) -> dict[Checkpoint, Vouched]:
        return {}


def _try_receipt(path: Path) -> Receipt | Unproven:
    try:
        return parse_receipt(_text(path))
    except Unproven as error:
        return error


# ---- Judgements: each returns a sentence that holds, or raises Unproven -----------------------------------------


def one_run(case: Case) -> str:
    """Every entry belongs to the run that the first names, and the policy file says what the log says of its keys."""
    run, policy = case.opening["run"], case.log.policy
    for entry in case.entries:
        if entry.payload["run"] != run:
            raise Unproven(f"entry {entry.index} belongs to another run, {entry.payload['run']}")
    if policy.log.text != case.opening["log_key"] or policy.log.name != f"fedge/{run}":
        raise Unproven("the policy file trusts another log key than the one in the first entry")
    active = case.speakers.active()
    enrolled = {e.payload["client"]: e.payload for e in case.of("client_enrol") if e.payload["client"] in active}
    witnesses = {key.name: key for client, key in case.witnesses.items() if client in active}
    if dict(policy.witnesses) != witnesses:
        raise Unproven("the policy file does not name exactly the witnesses that the log enrolled")
    organisations = {case.witnesses[client].name: said["organisation"] for client, said in enrolled.items()}
    quorum = max(case.opening["quorum"], majority(len(set(organisations.values()))))
    if dict(policy.organisations) != organisations or policy.quorum != quorum:
        raise Unproven("the policy file groups witnesses, or sets the quorum, differently from the log")
    return f"run {run}, opened {case.opening['at']}, {len(case.witnesses)} clients enrolled"


def key_life(case: Case) -> str:
    """No statement was made under a key that was revoked; that each key held where it signed is checked before."""
    revoked = case.speakers.revoked
    for entry in case.entries:
        start = revoked.get((entry.signer, entry.payload["key"])) if entry.by_client else None
        if start is not None and entry.index >= start:
            key = entry.payload["key"]
            raise Unproven(f"entry {entry.index}: {entry.signer} speaks by key {key}, revoked from entry {start} on")
    if not (revoked or case.speakers.rotations or case.speakers.retired):
        return "no key was changed or revoked, no client retired"
    retired = ", ".join(sorted(case.speakers.retired)) or "none"
    return (
        f"{case.speakers.rotations} keys changed, {len(revoked)} revoked, clients retired: {retired}; none spoke after"
    )


def unbroken_chains(case: Case) -> str:
    """Each client's entries count from 0 without a gap, and each names the one before."""
    ends: dict[str, tuple[int, str | None]] = {}
    for entry in case.entries:
        if entry.by_client:
            seq, previous = ends.get(entry.signer, (0, None))
            if (entry.payload["seq"], entry.payload["previous"]) != (seq, previous):
                raise Unproven(f"entry {entry.index}: the chain of {entry.signer} has a gap at statement {seq}")
            ends[entry.signer] = (seq + 1, sha256(entry.raw))
    return f"{sum(n for n, _ in ends.values())} statements of {len(ends)} clients, none missing between them"


def unbroken_models(case: Case) -> str:
    """Rounds count without a gap, each model follows from the one before, every update in it was stated.

    They count from 1; in a run that redoes rounds of another, from the one after the state that it starts from.
    """
    model, count = case.opening["initial_model"], case.first_state
    answers = {(e.signer, e.payload["round"]): e for e in case.of("data_use") if e.payload["work"] == "train"}
    rejected = {(e.payload["client"], e.payload["round"]) for e in case.of("update_rejected")}
    for entry in case.of("round_close"):
        said, count = entry.payload, count + 1
        if said["round"] != count or said["model_in"] != model:
            raise Unproven(f"entry {entry.index}: round {said['round']} does not follow from the one before")
        if said["void"] and said["model_out"] != model:
            raise Unproven(f"entry {entry.index}: void round {count} changed the model")
        parts = [*case.rolls.get(count, ()), *said["participants"]]
        if said["accepted"] != sum(p["outcome"] == "accepted" for p in parts):
            raise Unproven(f"entry {entry.index}: round {count} counts its accepted updates wrongly")
        if len({p["client"] for p in parts}) != len(parts):
            raise Unproven(f"entry {entry.index}: round {count} lists a client twice")
        for part in parts:
            _check_part(entry.index, said, part, answers.get((part["client"], count)), rejected)
        model = said["model_out"]
    said_of = f"from round {case.first_state + 1} on, " if case.first_state else ""
    return (
        f"{count - case.first_state} rounds, {said_of}each model follows from the one before, every update in it was "
        "stated by its client"
    )


def _check_part(
    index: int,
    closing: Mapping[str, Any],
    part: Mapping[str, Any],
    answer: Entry | None,
    rejected: set[tuple[str, int]],
) -> None:
    """Check what the server says of one participant against what that client has stated."""
    client, round_ = part["client"], closing["round"]
    submitted = answer is not None and answer.index < index and answer.payload["outcome"] == "submitted"
    if part["outcome"] == "accepted" and not (
        submitted and answer is not None and answer.payload["model_in"] == closing["model_in"]
    ):
        raise Unproven(f"entry {index}: the update of {client} in round {round_} was never stated by it")
    if part["outcome"] == "rejected" and (client, round_) not in rejected:
        raise Unproven(f"entry {index}: the answer of {client} in round {round_} was rejected without an entry")
    if part["outcome"] in ("refused", "failed") and (submitted or answer is None):
        raise Unproven(
            f"entry {index}: {client} is said to have {part['outcome']} in round {round_}; it states no such"
        )


def closed_as_counted(case: Case) -> str:
    """The last entry closes the run, and counts rounds, entries and model as they are."""
    closings = case.of("run_close")
    if len(closings) != 1 or closings[0] is not case.entries[-1]:
        raise Unproven(f"entry {closings[0].index} closes the run, yet it is not the last")
    said = closings[0].payload
    counted = {e.payload["client"]: 0 for e in case.of("client_enrol")}
    for entry in case.entries:
        if entry.by_client:
            counted[entry.signer] += 1
    stated = dict(said["leaves"])
    for roll in case.of("run_roll"):
        if stated.keys() & roll.payload["leaves"].keys():
            raise Unproven(f"entry {roll.index} counts the entries of a client that another counts, too")
        stated |= roll.payload["leaves"]
    rounds = case.first_state + len(case.of("round_close"))
    if (said["rounds"], stated, said["model"]) != (rounds, counted, case.final_model):
        raise Unproven("the closing entry counts rounds, entries or the model differently from the log")
    return f"closed {said['at']} after {said['rounds']} rounds"


def stated_use(case: Case) -> str:
    """What clients state of their data contradicts neither itself nor what the run has promised."""
    promise, uses = case.opening["privacy_statement"], case.of("data_use")
    for entry in uses:
        said = entry.payload
        if (said["purpose"], said["digests"]["config"]) != (case.opening["purpose"], case.opening["config_digest"]):
            raise Unproven(f"entry {entry.index}: {entry.signer} used data for another purpose or configuration")
        if moment(said["started"]) > moment(said["ended"]):
            raise Unproven(f"entry {entry.index}: {entry.signer} ended before it started")
        if said["outcome"] == "refused" and said["counts"]["used"] != "0":
            raise Unproven(f"entry {entry.index}: {entry.signer} refused, and says that it used records")
        used, eligible = said["counts"]["used"].split("-"), said["counts"]["eligible"].split("-")
        if int(used[0]) > int(eligible[-1]):
            raise Unproven(f"entry {entry.index}: {entry.signer} used more records than were eligible")
        if said["outcome"] == "submitted" and said["work"] == "train" and said["privacy"]["unit"] != promise["unit"]:
            raise Unproven(
                f"entry {entry.index}: {entry.signer} protected a {said['privacy']['unit']}, "
                f"the run promises to protect a {promise['unit']}"
            )
    return f"{len(uses)} statements of counts, permissions and privacy, as signed by each client"


def budgets_held(case: Case) -> str:
    """No client spends above its budget, and no total at one delta ever falls: privacy is not refunded.

    A refusal spends nothing: after its owner has lowered a budget, a client may state a total above it and refuse.
    """
    totals: dict[tuple[str, str, str], float] = {}
    for entry in case.of("data_use"):
        spend, spends = entry.payload["privacy"], entry.payload["outcome"] != "refused"
        lineage = (entry.signer, entry.payload["dataset"]["lineage"], spend["delta"])
        if spend["epsilon_total"] is None:
            continue
        total = float(spend["epsilon_total"])
        if total < totals.get(lineage, 0.0) - 1e-9:
            raise Unproven(f"entry {entry.index}: the epsilon that {entry.signer} has spent went down")
        if spends and spend["budget_epsilon"] is not None and total > float(spend["budget_epsilon"]) + 1e-9:
            raise Unproven(f"entry {entry.index}: {entry.signer} has spent more epsilon than its budget")
        totals[lineage] = total
    return f"{len(totals)} data budgets held, no total ever fell (as the clients state it)"


def times_agree(case: Case) -> str:
    """Nobody's entries are dated backwards, none after witnesses vouched for it, none of the server long before."""
    sizes, seen = list(case.seen_at), list(case.seen_at.values())
    without = [*accumulate(seen, max)]  # [k]: when a log of at most sizes[k] entries was last seen for the first time
    covered = [*accumulate(reversed(seen), min)][::-1]  # [k]: when a log of at least sizes[k] was first seen
    own: dict[str, datetime] = {}
    for entry in case.entries:
        at, k, latest = entry.at, bisect.bisect_right(sizes, entry.index), own.get(entry.signer, entry.at)
        if at < latest - CLOCK_TOLERANCE:
            raise Unproven(f"{_dated(entry)}, before an earlier entry of {entry.signer} ({_say(latest)})")
        if k < len(sizes) and at > covered[k] + CLOCK_TOLERANCE:
            raise Unproven(
                f"{_dated(entry)}, after a witness had vouched for it ({_say(covered[k])}): it is post-dated"
            )
        if k and not entry.by_client and at < without[k - 1] - CLOCK_TOLERANCE:
            raise Unproven(f"{_dated(entry)}; a witness saw the log without it at {_say(without[k - 1])}: back-dated")
        own[entry.signer] = max(latest, at)
    return f"dated in order from {_say(case.entries[0].at)} to {_say(max(own.values()))}, as witnesses saw it"


def _dated(entry: Entry) -> str:
    return f"entry {entry.index} is dated {_say(entry.at)}"


def _say(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def quorum_met(case: Case) -> str:
    """Enough organisations vouch for the newest checkpoint; each counts once, however many witnesses it has."""
    vouching = case.policy.vouching(_by_known(case))
    everyone = set(case.policy.organisations.values())
    if len(vouching) < case.policy.quorum:
        raise Unproven(f"{len(vouching)} organisations vouch for the checkpoint, {case.policy.quorum} are needed")
    return f"{len(vouching)} of {len(everyone)} organisations vouch for the checkpoint ({case.policy.quorum} needed)"


def _by_known(case: Case) -> dict[str, datetime]:
    """Return who of the policy's witnesses vouched for the newest checkpoint: the same name must mean the same key."""
    own, trusted = case.log.policy.witnesses, case.policy.witnesses
    return {name: at for name, at in case.log.vouched.at.items() if trusted.get(name) == own[name]}


def fresh(case: Case, limit: datetime) -> str:
    """A quorum has vouched for the newest checkpoint since `limit`."""
    since = {name for name, at in _by_known(case).items() if at >= limit}
    if len(case.policy.vouching(since)) < case.policy.quorum:
        newest = max(case.log.vouched.at.values(), default=None)
        when = _say(newest) if newest else "never"
        raise Unproven(
            f"no quorum has vouched since {_say(limit)}, the last witness did {when}: the log may have grown"
        )
    return f"a quorum has vouched for the checkpoint since {_say(limit)}"


def same_file(case: Case, name: str, expected: str, what: str) -> str:
    """The file `name` of the bundle has the digest that the log states."""
    found = sha256(_bytes(case.folder / name))
    if found != expected:
        raise Unproven(f"{name} is not {what} (it is {found[:23]}…, not {expected[:23]}…)")
    return f"{name} is {what} ({found[:23]}…)"


def receipts_hold(case: Case) -> set[int]:
    """Return the entries that have a receipt, after checking that the log still holds what each was given for."""
    return {_check_receipt(case, path, receipt) for path, receipt in case.receipts.items()}


def _check_receipt(case: Case, path: Path, receipt: Receipt | Unproven) -> int:
    try:
        return _proved(case, receipt, path.parent.name, path.name)
    except Unproven as error:
        raise Unproven(f"{path.parent.name}/{path.name}: {error}") from error


def _proved(case: Case, receipt: Receipt | Unproven, client: str, name: str) -> int:
    """Return the entry that a receipt proves to be in this log."""
    if isinstance(receipt, Unproven):
        raise receipt
    size, root = receipt.checkpoint.size, receipt.checkpoint.root
    case.vouched_for(receipt.checkpoint)
    if receipt.index >= len(case.entries):
        raise Unproven(f"it proves entry {receipt.index}, which the log no longer shows: the log was cut")
    if size > len(case.entries) or case.log.tree.root(size) != root:
        raise Unproven("it was given under a checkpoint that this log does not extend: the log was rewritten")
    entry = case.entries[receipt.index]
    if receipt.entry not in {None, entry.raw}:
        raise Unproven(f"it holds another entry {entry.index} than the log")
    if root_of_proof(receipt.index, size, leaf_hash(entry.raw), receipt.proof) != root:
        raise Unproven(f"its hashes do not lead from entry {entry.index} to its checkpoint")
    if entry.signer != client or name != f"statement-{entry.payload.get('seq', 0):04d}.tlog-proof":
        raise Unproven(f"it proves entry {entry.index}, which is not the statement that its name says")
    return receipt.index


def trusted_keys(case: Case) -> str:
    """The log is the one that the auditor's policy trusts, and both give each witness the same key and organisation."""
    own, given = case.log.policy, case.policy
    if own.log != given.log:
        raise Unproven(f"your policy trusts log key {given.log.text}, the bundle is signed by {own.log.text}")
    for name in own.witnesses.keys() & given.witnesses.keys():
        if (own.witnesses[name], own.organisations[name]) != (given.witnesses[name], given.organisations[name]):
            raise Unproven(f"your policy gives witness {name} another key or organisation than the log")
    if given.quorum < own.quorum:
        return f"your policy trusts this log, with a smaller quorum ({given.quorum}) than its own ({own.quorum})"
    strangers = ", ".join(sorted(own.witnesses.keys() - given.witnesses.keys()))
    return "your policy trusts this log" + (
        f"; not counted, for you do not know them: {strangers}" if strangers else ""
    )


def expected_run(case: Case, run: str) -> str:
    """The log is of the run that the auditor asked for."""
    if case.opening["run"] != run:
        raise Unproven(f"this is the log of run {case.opening['run']}, not of {run}: another run was handed to you")
    return f"it is {run}"


# ---- The verdict ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One question put to the run, and its answer."""

    name: str
    grade: Grade
    text: str


@dataclass(frozen=True)
class Verification:
    """All answers, and the entries if they can be read."""

    checks: tuple[Check, ...]
    entries: tuple[Entry, ...] = ()
    root: str = ""
    size: int = 0
    cosigned_by: tuple[str, ...] = ()
    quorum: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return self.verdict != "FAILED"

    @property
    def verdict(self) -> Grade:
        """FAILED if anything failed, MISSING if anything is, else PROVEN: as far as a log can prove it."""
        grades = {check.grade for check in self.checks}
        return "FAILED" if "FAILED" in grades else "MISSING" if "MISSING" in grades else "PROVEN"

    @property
    def failures(self) -> str:
        """What failed, as one line."""
        return "; ".join(f"{c.name}: {c.text}" for c in self.checks if c.grade == "FAILED")

    @property
    def plain(self) -> dict[str, Any]:
        """All answers as JSON."""
        return {
            "holds": self.holds,
            "verdict": self.verdict,
            "run": self.entries[0].payload["run"] if self.entries else None,
            "entries": self.size,
            "root": self.root,
            "cosigned_by": list(self.cosigned_by),
            "quorum": self.quorum,
            "checks": [{"name": c.name, "grade": c.grade, "text": c.text} for c in self.checks],
            "limits": list(LIMITS),
        }


def verify_run(
    folder: Path, policy: Path | None = None, *, expect_run: str | None = None, not_older_than: datetime | None = None
) -> Verification:
    """Return what the bundle in `folder` proves; never raises, what cannot be read has FAILED.

    `policy` reached the auditor by another way; `expect_run` is the run that it must be; `not_older_than` a moment
    since when a quorum must have vouched for the log.
    """
    checks: list[Check] = []
    log = _ask(checks, "log files", lambda: read_log(folder / "audit"), lambda found: found.text)
    given = _ask(checks, "policy", lambda: parse_policy(_text(policy)), lambda _: "well-formed") if policy else None
    story = _ask(checks, "signatures of entries", lambda: read_story(log.entries), _say_signed) if log else None
    if log is None or story is None or (policy and given is None):
        return Verification(tuple(checks), *(((), log.checkpoint.root.hex(), log.tree.size) if log else ()))
    case = Case(folder, log, *story, given or log.policy)
    _judge(checks, case)
    _judge_files(checks, case)
    _judge_trust(checks, case, given is not None, expect_run, not_older_than)
    vouching = sorted(case.policy.vouching(_by_known(case)))
    return Verification(
        checks=tuple(checks),
        entries=tuple(case.entries),
        root=log.checkpoint.root.hex(),
        size=log.tree.size,
        cosigned_by=tuple(vouching),
        quorum=case.policy.quorum,
    )


def _judge(checks: list[Check], case: Case) -> None:
    questions: list[tuple[str, Grade, Callable[[Case], str]]] = [
        ("one run, named keys", "PROVEN", one_run),
        ("key life", "PROVEN", key_life),
        ("no client statement missing", "PROVEN", unbroken_chains),
        ("no round missing", "PROVEN", unbroken_models),
        ("times", "PROVEN", times_agree),
        ("data use", "ATTESTED", stated_use),
        ("privacy budgets", "ATTESTED", budgets_held),
        ("witnesses", "PROVEN", quorum_met),
    ]
    if case.of("run_close"):
        questions.append(("end of the log", "PROVEN", closed_as_counted))
    else:
        checks.append(
            Check("end of the log", "MISSING", "the run is not closed: it was stopped, goes on, or its end is hidden")
        )
    for name, grade, question in questions:
        _ask(checks, name, partial(question, case), str, grade)
    purpose, organisations = case.opening["purpose"], sorted(set(case.policy.organisations.values()))
    checks.append(Check("words of people", "DECLARED", f"purpose {purpose}; organisations {', '.join(organisations)}"))


def _judge_files(checks: list[Check], case: Case) -> None:
    for check, name, expected, what in (
        ("model", "model.safetensors", case.final_model, "the model that the log ends with"),
        ("configuration", "config.json", case.opening["config_digest"], "the configuration that opened the log"),
    ):
        if (case.folder / name).exists():
            _ask(checks, check, partial(same_file, case, name, expected, what), str)
        else:
            checks.append(Check(check, "MISSING", f"the bundle holds no {name}"))
    found = _ask(checks, "receipts", lambda: receipts_hold(case), lambda proved: f"{len(proved)} receipts hold")
    lacking = {e.index for e in case.entries if e.by_client} - (found or set())
    if found is not None and lacking:
        checks.append(Check("receipts", "MISSING", f"{len(lacking)} client statements have no receipt here"))


def _judge_trust(checks: list[Check], case: Case, given: bool, expect_run: str | None, limit: datetime | None) -> None:
    if given:
        _ask(checks, "trust", partial(trusted_keys, case), str)
    else:
        text = "no policy was given: the keys are those that the log itself names; use --policy"
        checks.append(Check("trust", "MISSING", text))
    if expect_run is not None:
        _ask(checks, "expected run", partial(expected_run, case, expect_run), str)
    if limit is not None:
        _ask(checks, "freshness", lambda: fresh(case, limit), str)


def _ask(
    checks: list[Check], name: str, question: Callable[[], T], say: Callable[[T], str], grade: Grade = "PROVEN"
) -> T | None:
    """Put one question; return its answer, or None after noting why it failed."""
    try:
        found = question()
    except Unproven as error:
        checks.append(Check(name, "FAILED", str(error)))
        return None
    checks.append(Check(name, grade, say(found)))
    return found


def _say_signed(story: tuple[list[Entry], Speakers]) -> str:
    return f"{len(story[0])} entries, each signed by the party that it speaks for"


# ---- The command line -------------------------------------------------------------------------------------------


def since(text: str, now: datetime) -> datetime:
    """Return the moment that `text` means: a time such as 2026-11-23T09:30:00Z, or an age such as 90m, 24h, 7d."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    try:
        if found:
            return (
                now
                - int(found[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[found[2]]
            )
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise Unproven(f"{text!r} is neither a time like 2026-11-23T09:30:00Z nor an age like 24h or 7d") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def report(found: Verification) -> str:
    """Return all answers as text."""
    lines = [f"{check.grade:<8} {check.name}: {check.text}" for check in found.checks]
    end = {
        "PROVEN": "The log holds.",
        "MISSING": "The log holds, as far as it goes: what is MISSING above was not shown.",
        "FAILED": "THE LOG DOES NOT HOLD.",
    }[found.verdict]
    return "\n".join([*lines, "", "What no log can prove:", *(f"  - {limit}" for limit in LIMITS), "", end])


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the bundle that the command line names; return 0 only if nothing failed."""
    parser = argparse.ArgumentParser(prog="verify.py", description="Verify a run's log with public keys alone.")
    parser.add_argument("bundle", type=Path, help="the folder of a run: audit/, receipts/, config.json, the model")
    parser.add_argument("--policy", type=Path, help="a policy file that reached you by another way")
    parser.add_argument("--expect-run", metavar="RUN", help="fail unless the log is of this run")
    parser.add_argument("--not-older-than", metavar="TIME", help="fail unless vouched for since: 24h, 7d, or a time")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    given = parser.parse_args(arguments)
    try:
        limit = since(given.not_older_than, datetime.now(UTC)) if given.not_older_than else None
    except Unproven as error:
        parser.error(str(error))
    found = verify_run(given.bundle, given.policy, expect_run=given.expect_run, not_older_than=limit)
    if given.format == "json":
        print(json.dumps(found.plain, indent=2, ensure_ascii=False))
    else:
        print(report(found))
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(help_verify() if sys.argv[1:] == [HELPER] else main())
