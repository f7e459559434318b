"""The cohort: what the owner has approved, record by record; data that differ from it are not trained on.

The owner approves records, not a file name. What was approved is fixed by a Merkle root over one leaf per record:

    leaf = SHA-256(0x00 || HMAC-SHA-256(the person's key, id || content))        root = RFC 9162, leaves sorted

The salt is the person's own random key (see `consent.subjects`), so the root, which the log publishes, reveals nothing
of any record; and when a key is destroyed the leaf stays where it is and leads nowhere, so every proof stays valid.
Between approval and training one record may be added, changed or lost, by mistake or not: then the root is another one,
and orders are refused (`cohort_drift`) until the owner approves anew.

The list of ids in the order they were approved is also the index of who was in which round: the bitmaps in
`rounds.memory` count its places.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fedge.audit.merkle import Tree, leaf_hash
from fedge.consent.subjects import SubjectKeys
from fedge.encoding import canonical, parse, to_plain
from fedge.erasable import ErasableJournal
from fedge.errors import ParseError
from fedge.ids import Lineage
from fedge.learning.task import Records

ERASED = ""
"""The id of a record whose person was erased."""


@dataclass(frozen=True)
class Cohort:
    """The records of one data set, in order: an id and the hex digest of a salted leaf for each.

    An id is `<pseudonym>/<n>` for the n-th record of a person.
    """

    lineage: Lineage
    ids: tuple[str, ...]
    leaves: tuple[str, ...]

    @cached_property
    def root(self) -> str:
        """The commitment to all records: `sha256:<hex>`; whatever their order."""
        return "sha256:" + Tree(bytes.fromhex(leaf) for leaf in sorted(self.leaves)).root().hex()

    def places(self, subject: str) -> list[int]:
        """Return where the records of `subject` stand."""
        return [i for i, name in enumerate(self.ids) if name.rpartition("/")[0] == subject]

    def places_of_erased(self) -> list[int]:
        """Return the places of people who were erased."""
        return [i for i, name in enumerate(self.ids) if name == ERASED]

    def blanked(self, subject: str) -> Cohort:
        """Return the cohort with the records of `subject` left blank; its root stays as it is."""
        places = set(self.places(subject))
        return replace(self, ids=tuple(ERASED if i in places else name for i, name in enumerate(self.ids)))

    def without(self, places: Sequence[int]) -> Cohort:
        """Return the cohort without the records at `places`."""
        left_out = set(places)
        kept = [i for i in range(len(self.ids)) if i not in left_out]
        return replace(self, ids=tuple(self.ids[i] for i in kept), leaves=tuple(self.leaves[i] for i in kept))


@dataclass(frozen=True)
class Changes:
    """In how many records two cohorts differ."""

    added: int
    changed: int
    gone: int

    def __str__(self) -> str:
        return f"{self.added} added, {self.changed} changed, {self.gone} gone"


def cohort(lineage: Lineage, records: Records, keys: SubjectKeys) -> Cohort:
    """Return the cohort that `records` are; their subjects are pseudonyms that `keys` knows."""
    seen: Counter[str] = Counter()
    salts = keys.keys(records.subjects)
    ids, leaves = [], []
    for index, subject in enumerate(records.subjects):
        name = f"{subject}/{seen[subject]}"
        seen[subject] += 1
        content = name.encode() + b"\0" + records.features[index].tobytes() + records.targets[index].tobytes()
        ids.append(name)
        leaves.append(leaf_hash(hmac.digest(salts[subject], content, "sha256")).hex())
    return Cohort(lineage, tuple(ids), tuple(leaves))


def changes(before: Cohort, after: Cohort) -> Changes:
    """Return in how many records `after` differs from `before`."""
    old, new = dict(zip(before.ids, before.leaves, strict=True)), dict(zip(after.ids, after.leaves, strict=True))
    changed = sum(old[name] != new[name] for name in old.keys() & new.keys())
    return Changes(len(new.keys() - old.keys()), changed, len(old.keys() - new.keys()))


class Approvals:
    """What the owner has approved, and what was found instead, in an ErasableJournal.

    approved   a cohort, by its owner
    found      a cohort that differs from it, when an order came
    shrunk     the cohort `from` goes on without the places of people who were erased
    """

    def __init__(self, journal: ErasableJournal) -> None:
        self._journal = journal
        self._forget()

    def lineages(self) -> list[Lineage]:
        """Return all data sets that were approved or found, sorted."""
        self._refresh()
        return sorted({*self._approved, *self._found})

    def approved(self, lineage: Lineage) -> Cohort | None:
        """Return what the owner has approved last, less those who were erased since."""
        self._refresh()
        return self._approved.get(lineage)

    def found(self, lineage: Lineage) -> Cohort | None:
        """Return the cohort that was found in place of the approved one, if it has not been approved since."""
        self._refresh()
        return self._found.get(lineage)

    def cohort(self, lineage: Lineage, root: str) -> Cohort | None:
        """Return the cohort that `root` commits to, erased people left blank; None if it was never seen here."""
        self._refresh()
        return self._cohorts.get((lineage, root))

    def stands(self, cohort: Cohort) -> bool:
        """Return whether `cohort` is the approved one, or was before people in it were erased.

        (A process that loaded the data before an erasure holds the larger one; whom to leave out the gate says.)
        """
        approved, root = self.approved(cohort.lineage), cohort.root
        while (cohort.lineage, root) in self._shrunk:
            root = self._shrunk[cohort.lineage, root]
        return approved is not None and root == approved.root

    def approve(self, cohort: Cohort, at: str) -> None:
        """Approve `cohort`: the owner's decision, kept with its date."""
        self._append("approved", cohort, at)

    def note(self, cohort: Cohort, at: str) -> None:
        """Remember that `cohort` was found and not approved, so that its owner can look at it."""
        if self.found(cohort.lineage) != cohort:
            self._append("found", cohort, at)

    def erase(self, subject: str) -> None:
        """Blank the records of `subject` in every cohort; each goes on without them. Repeating it is harmless."""
        self._refresh()
        stones: dict[int, bytes] = {}
        shrunk: list[bytes] = []
        for (lineage, root), cohort in self._cohorts.items():
            if not cohort.places(subject):
                continue
            blank = cohort.blanked(subject)
            for position in self._places.get((lineage, root), ()):
                entry = parse(self._journal.read(position, position + 1)[0])
                stones[position] = canonical(entry | {"ids": list(blank.ids)})
            body = {"kind": "shrunk", "lineage": lineage, "from": root, "places": blank.places_of_erased()}
            shrunk.append(canonical(body))
        if shrunk:
            with self._journal.transaction():
                self._journal.redact(stones)
                self._journal.append(shrunk)
            self._forget()  # entries that were read before have changed

    def _append(self, kind: str, cohort: Cohort, at: str) -> None:
        body = {"kind": kind, "at": at, "lineage": cohort.lineage, "ids": cohort.ids, "leaves": cohort.leaves}
        self._journal.append([canonical(to_plain(body))])

    def _forget(self) -> None:
        self._read = 0
        self._cohorts: dict[tuple[Lineage, str], Cohort] = {}
        self._places: dict[tuple[Lineage, str], list[int]] = {}
        self._approved: dict[Lineage, Cohort] = {}
        self._found: dict[Lineage, Cohort] = {}
        self._shrunk: dict[tuple[Lineage, str], str] = {}

    def _refresh(self) -> None:
        for entry in self._journal.read(self._read):
            self._fold(self._read, parse(entry))
            self._read += 1

    def _fold(self, position: int, plain: dict[str, Any]) -> None:
        match plain.get("kind"):
            case "approved" | "found" as kind:
                cohort = Cohort(Lineage(plain["lineage"]), tuple(plain["ids"]), tuple(plain["leaves"]))
                self._cohorts[cohort.lineage, cohort.root] = cohort
                self._places.setdefault((cohort.lineage, cohort.root), []).append(position)
                if kind == "approved":
                    self._approved[cohort.lineage] = cohort
                    self._found.pop(cohort.lineage, None)
                else:
                    self._found[cohort.lineage] = cohort
            case "shrunk":
                lineage, root = Lineage(plain["lineage"]), plain["from"]
                rest = self._cohorts[lineage, root].without(plain["places"])
                self._cohorts[lineage, rest.root] = rest
                self._shrunk[lineage, root] = rest.root
                for standing in (self._approved, self._found):
                    if lineage in standing and standing[lineage].root == root:
                        standing[lineage] = rest
            case unknown:
                raise ParseError(f"the record of approvals holds an unknown entry {unknown!r}")
