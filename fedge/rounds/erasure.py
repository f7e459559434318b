"""Erasing a person at a client: in this order, and whatever crashes, it is finished on the next start.

    1 intended     what is to be done is durable: no process reads the records from here on, no load brings them back
    2 permissions  their events become tombstones with the same digest: the history's digest stays what the log says
    3 answers      their bits in the private index of who was in which round are cleared
    4 approvals    their records become blanks in every cohort; the cohort goes on without them
    5 caches       the last answer's tensors, and faults that may quote data, are removed
    6 destroyed    their key is destroyed, and with it the link from every commitment in the log; the request too
    7 scrubbed     freed pages and write-ahead logs of every file are rewritten without what was there

Steps 2 to 5 may be done twice: each does nothing where nothing is left. The key goes only after them, because it is by
the pseudonym that they find what is to go; and the request, which holds the pseudonym, goes in the same transaction as
the key. A crash between 6 and 7 leaves bytes in files that nothing points to; `scrubbed` says that they are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedge.audit.leaves import DataUse, decode
from fedge.consent.store import PermissionStore, tombstone
from fedge.consent.subjects import Erasing, Erasure, SubjectKeys
from fedge.encoding import Clock, b64decode, b64encode, canonical, parse, timestamp
from fedge.erasable import ErasableJournal
from fedge.errors import PermissionRecordError, StorageError
from fedge.files import FileSlot
from fedge.ids import Lineage
from fedge.rounds import lineage
from fedge.rounds.approval import Approvals
from fedge.rounds.folder import ClientFolder, PackedFolder
from fedge.rounds.memory import Memory
from fedge.rounds.site import Reached, passed
from fedge.signing import RandomBytes


@dataclass(frozen=True)
class Stores:
    """What a client keeps about people, opened."""

    folder: ClientFolder
    subjects: SubjectKeys
    approvals: Approvals
    events: ErasableJournal
    permissions: PermissionStore
    pins: ErasableJournal
    answers: ErasableJournal
    memory: Memory


def open_stores(folder: ClientFolder, secret: bytes, random_bytes: RandomBytes) -> Stores:
    """Open the stores in `folder`; `secret` is the client's, for finding people by their identifiers."""
    if not isinstance(folder, PackedFolder):
        _for_owner_only(folder.subjects)  # it holds keys
    people, events, pins = folder.journal("people"), folder.journal("permissions"), folder.journal("pins")
    subjects, answers = SubjectKeys(people, secret, random_bytes), pins.beside("answers")
    return Stores(
        folder=folder,
        subjects=subjects,
        approvals=Approvals(people.beside("approvals")),
        events=events,
        permissions=PermissionStore(events, subjects.gone),
        pins=pins,
        answers=answers,
        memory=Memory(answers, folder.answer),
    )


def _for_owner_only(path: Path) -> None:
    """Make sure that nobody else can read the file `path`, also before it is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)  # SQLite gives the files beside it the same mode
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check free space and permissions") from error


def erase(stores: Stores, subject: str, clock: Clock, reached: Reached = passed) -> Erasure:
    """Erase the person with pseudonym `subject` and return what the log will say of it.

    Raises PermissionRecordError if there is no such person, StorageError if a file cannot be written or scrubbed; what
    was begun is then finished by `finish`, on the client's next start.
    """
    if not stores.subjects.holds(subject):
        raise PermissionRecordError(
            f"there is no person {subject!r} at {stores.folder.root}: never there, or erased already (nothing is left "
            "that could tell which); `fedge consent list` names all people, --identifier finds one by name"
        )
    now = timestamp(clock())
    found = {run: lineage.uses(stores.memory, stores.approvals, run, subject) for run in stores.memory.runs()}
    pooled = {run: first for run, uses in found.items() if (first := lineage.first_pooled(uses)) is not None}
    used = {run: first for run, uses in found.items() if (first := lineage.first_used(uses)) is not None}
    commitment = stores.subjects.commit(subject, f"erasure\n{now}")
    stores.subjects.begin(Erasing(subject, commitment, now, pooled, used))
    reached("intended")
    finish(stores, clock, reached)
    return stores.subjects.erasures()[-1]


def finish(stores: Stores, clock: Clock, reached: Reached = passed) -> None:
    """Carry out every erasure that was asked for and is not finished."""
    for erasing in stores.subjects.pending():
        person = erasing.pseudonym
        _bury_permissions(stores, person)
        reached("permissions")
        _clear_marks(stores, person)
        reached("answers")
        stores.approvals.erase(person)
        reached("approvals")
        stores.folder.answer.put(None)
        FileSlot(stores.folder.faults).put(None)
        reached("caches")
        stores.subjects.destroy(erasing, timestamp(clock()))
        reached("destroyed")
    if stores.subjects.unscrubbed():
        stores.events.scrub()
        stores.answers.scrub()
        stores.subjects.scrubbed()
        reached("scrubbed")


def _bury_permissions(stores: Stores, subject: str) -> None:
    entries = enumerate(stores.events.read())
    stones = {position: tombstone(entry) for position, entry in entries if parse(entry).get("subject") == subject}
    stores.events.redact(stones)


def _clear_marks(stores: Stores, subject: str) -> None:
    cleared: dict[int, bytes] = {}
    for position, entry in enumerate(stores.answers.read()):
        plain = parse(entry)
        places = _places(stores, plain, subject)
        if places:
            bitmaps = {name: _without(plain[name], places) for name in ("pool", "used")}
            cleared[position] = canonical(plain | bitmaps)
    stores.answers.redact(cleared)


def _places(stores: Stores, plain: Mapping[str, Any], subject: str) -> list[int]:
    """Return which bits of an answer are the records of `subject`."""
    leaf = decode(b64decode(plain["leaf"]))[0] if plain["kind"] == "answer" else None
    if not isinstance(leaf, DataUse):
        return []
    cohort = stores.approvals.cohort(Lineage(leaf.dataset.lineage), leaf.dataset.commitment)
    return cohort.places(subject) if cohort else []


def _without(bitmap: str, places: list[int]) -> str:
    bits = np.unpackbits(np.frombuffer(b64decode(bitmap), dtype=np.uint8))
    bits[places] = 0
    return b64encode(np.packbits(bits).tobytes())
