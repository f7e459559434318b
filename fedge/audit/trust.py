"""Whom an auditor trusts, in one text file: the log's key, the witnesses, and how many organisations must vouch.

    log <vkey>
    witness <name> <vkey>
    group <organisation> any <witness> ...
    group organisations <k> <organisation> ...
    quorum organisations

The quorum counts organisations, not keys: one organisation with many witnesses has one vote. Frozen copy of the draft
https://c2sp.org/tlog-policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from fedge.audit.note import COSIGNATURE, ED25519, VerifierKey, verifier_key
from fedge.errors import ParseError

ALL = "organisations"


@dataclass(frozen=True)
class Trust:
    """The log's key; each witness's key and organisation; how many organisations must have vouched."""

    log: VerifierKey
    witnesses: Mapping[str, VerifierKey]
    organisations: Mapping[str, str]
    quorum: int

    @property
    def text(self) -> str:
        """The policy file; the inverse of `parse_trust`."""
        groups: dict[str, list[str]] = {}
        for witness, organisation in sorted(self.organisations.items()):
            groups.setdefault(_group(organisation), []).append(witness)
        lines = [f"log {self.log.text}"]
        lines += [f"witness {name} {key.text}" for name, key in sorted(self.witnesses.items())]
        lines += [f"group {group} any {' '.join(members)}" for group, members in sorted(groups.items())]
        lines += [f"group {ALL} {self.quorum} {' '.join(sorted(groups))}", f"quorum {ALL}"]
        return "\n".join(lines) + "\n"

    def vouching(self, witnesses: Iterable[str]) -> set[str]:
        """Return the organisations that `witnesses` speak for."""
        return {self.organisations[w] for w in witnesses if w in self.organisations}


def majority(organisations: int) -> int:
    """Return the least number that is more than half of `organisations`; at least 1."""
    return max(1, organisations // 2 + 1)


def parse_trust(text: str) -> Trust:
    """Return the trust in a policy file that `Trust.text` printed. Raises ParseError for anything else."""
    words = [line.split(" ") for line in text.split("\n")]
    try:
        log = verifier_key(next(w[1] for w in words if w[0] == "log"))
        witnesses = {w[1]: verifier_key(w[2]) for w in words if w[0] == "witness"}
        members = {
            m: unquote(w[1].removeprefix("org:")) for w in words if w[0] == "group" and w[2] == "any" for m in w[3:]
        }
        quorum = int(next(w[2] for w in words if w[0] == "group" and w[1] == ALL))
    except (IndexError, StopIteration, ValueError) as error:
        raise ParseError("not a policy file: it needs log, witness, group and quorum lines") from error
    trust = Trust(log, witnesses, members, quorum)
    named = all(key.kind == COSIGNATURE and key.name == name for name, key in witnesses.items())
    if trust.text != text or log.kind != ED25519 or not named:
        raise ParseError("the policy file is not in its one canonical spelling")
    if len({key.key.raw for key in witnesses.values()}) != len(witnesses) or set(members) != set(witnesses):
        raise ParseError("the policy file names one key twice, or a witness without an organisation")
    if not 1 <= quorum <= len(set(members.values())):
        raise ParseError(f"a quorum of {quorum} cannot be reached, or needs nobody")
    return trust


def _group(organisation: str) -> str:
    """Return an organisation's name as a word: `St. Mary` is `org:St.%20Mary`."""
    return f"org:{quote(organisation, safe='')}"
