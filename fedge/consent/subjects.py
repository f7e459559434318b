"""One random key for each person, outside the log: destroy it, and nothing derived from it can be linked again.

A person's pseudonym, every commitment to them in the log, and the salt of their records' place in the cohort (see
`rounds.approval`) are derived from their own key. So one person can be forgotten without touching the others, and the
log, which keeps the commitments for ever, holds nothing that leads to anybody.

A client looks a person up by `tag`, a keyed digest of the identifier. Of an erased person one thing has to stay, or
their records would come back with the next load of the data: a digest of that tag, under the client's secret. Whoever
holds the secret *and* the identifier can tell from it that this person was erased here, and nothing else; whoever
destroys the secret ends that too. The road not taken is to remember row numbers: they point at a person for whoever
holds the data, without any key, and point at somebody else as soon as a row is added.

    person   tag, key, pseudonym             enrolled
    erasing  pseudonym, what to do           asked for and durable: from here on the records are not read
    gone     the digest of the tag           the tombstone, in place of both
    erasure  commitment, when, which runs    done; names nobody
    scrubbed                                 every file of the client is free of it
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedge.encoding import b64decode, b64encode, canonical, from_plain, parse, to_plain
from fedge.erasable import ErasableJournal
from fedge.errors import ParseError, PermissionRecordError
from fedge.ids import SubjectId, pseudonym
from fedge.signing import RandomBytes

KEY_BYTES = 32


@dataclass(frozen=True)
class Person:
    """Somebody whose records the client holds; `key` is base64."""

    tag: str
    key: str
    pseudonym: str


@dataclass(frozen=True)
class Erasing:
    """An erasure that has been asked for and is not finished.

    `commitment` is what the log will say of the person. By run, `pooled` gives the first round whose batches were drawn
    from a pool with the person's records, `used` the first whose model they went into.
    """

    pseudonym: str
    commitment: str
    requested_at: str
    pooled: Mapping[str, int]
    used: Mapping[str, int]


@dataclass(frozen=True)
class Erasure:
    """An erasure that is done: what the log may say of it, and nothing that leads to the person."""

    commitment: str
    requested_at: str
    effective_at: str
    pooled: Mapping[str, int]
    used: Mapping[str, int]


class SubjectKeys:
    """The keys of all people at one client, in an ErasableJournal; `secret` is the client's, for looking people up."""

    def __init__(self, journal: ErasableJournal, secret: bytes, random_bytes: RandomBytes) -> None:
        self._journal, self._secret, self._random_bytes = journal, secret, random_bytes
        self._strokes: int | None = None
        self._known: set[str] = set()  # pseudonyms that this process has seen: what `gone` compares with
        self._forget()

    def enrol(self, identifiers: Sequence[str]) -> list[SubjectId | None]:
        """Return the pseudonym of each identifier, None for a person who was erased; who is new gets a key, durably."""
        tags = {identifier: self._tag(identifier) for identifier in identifiers}
        with self._journal.transaction():
            self._refresh()
            fresh = [i for i, tag in tags.items() if tag not in self._by_tag and not self._is_gone(tag)]
            if fresh:
                self._journal.append([_entry("person", self._new(i)) for i in fresh])
        self._refresh()
        return [self._living(self._by_tag.get(tags[i])) for i in identifiers]

    def find(self, identifier: str) -> SubjectId | None:
        """Return the pseudonym of `identifier`, or None if the client holds no such person (any more)."""
        self._refresh()
        return self._living(self._by_tag.get(self._tag(identifier)))

    def was_erased(self, identifier: str) -> bool:
        """Return whether the person called `identifier` has been erased here."""
        self._refresh()
        return self._is_gone(self._tag(identifier))

    def holds(self, subject: str) -> bool:
        """Return whether `subject` is the pseudonym of a person who is here."""
        self._refresh()
        return subject in self._people and subject not in self._erasing

    def commit(self, subject: str, message: str) -> str:
        """Return the digest of `message` under the key of `subject`: unlinkable to anybody once the key is destroyed.

        Raises PermissionRecordError if there is no such person.
        """
        return "sha256:" + hmac.new(self.key(subject), message.encode(), "sha256").hexdigest()

    def key(self, subject: str) -> bytes:
        """Return the key of `subject`. Raises PermissionRecordError if there is no such person (any more)."""
        return self.keys([subject])[subject]

    def keys(self, subjects: Iterable[str]) -> dict[str, bytes]:
        """Return the key of each of `subjects`. Raises PermissionRecordError for one who is not here (any more)."""
        self._refresh()
        wanted = set(subjects)
        missing = sorted(wanted - self._people.keys())
        if missing:
            raise PermissionRecordError(f"there is no person {missing[0]!r} at this client: never there, or erased")
        return {subject: b64decode(self._people[subject].key) for subject in wanted}

    def gone(self) -> frozenset[str]:
        """Return the pseudonyms that this process has known and that are erased, or about to be: nobody reads these."""
        if self._strokes is None or self._journal.strokes() != self._strokes:
            self._refresh()
        return self._gone_here

    # ---- erasure, step by step; `rounds.erasure` keeps the order ------------------------------------------------

    def begin(self, erasing: Erasing) -> None:
        """Make it durable that `erasing` is to be done: a crash after this line finishes it on the next start.

        Raises PermissionRecordError if the person is not here, or is being erased already.
        """
        with self._journal.transaction():
            if not self.holds(erasing.pseudonym):
                raise PermissionRecordError(
                    f"there is no person {erasing.pseudonym!r} to erase: never there, or erased"
                )
            self._journal.append([_entry("erasing", erasing)])

    def pending(self) -> list[Erasing]:
        """Return the erasures that were begun and are not finished."""
        self._refresh()
        return list(self._erasing.values())

    def destroy(self, erasing: Erasing, at: str) -> None:
        """Destroy the person's key and the request itself; a tombstone and an erasure that names nobody stay."""
        with self._journal.transaction():
            self._refresh()
            tag = self._people[erasing.pseudonym].tag
            stone = canonical({"kind": "gone", "tag": self._gone_tag(tag)})
            self._journal.redact(dict.fromkeys(self._places[erasing.pseudonym], stone))
            done = Erasure(erasing.commitment, erasing.requested_at, at, erasing.pooled, erasing.used)
            self._journal.append([_entry("erasure", done)])
        self._refresh()

    def erasures(self) -> Sequence[Erasure]:
        """Return every finished erasure, in order."""
        self._refresh()
        return self._erasures

    def unscrubbed(self) -> bool:
        """Return whether something was destroyed whose bytes may still lie in some file of the client."""
        self._refresh()
        return self._unscrubbed

    def scrubbed(self) -> None:
        """Take the bytes out of this journal's file, then note that none is left anywhere."""
        self._journal.scrub()
        self._journal.append([canonical({"kind": "scrubbed"})])

    # ---- the fold -----------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._read = 0
        self._people: dict[str, Person] = {}
        self._by_tag: dict[str, str] = {}
        self._places: dict[str, list[int]] = {}
        self._tombstones: set[str] = set()
        self._erasing: dict[str, Erasing] = {}
        self._erasures: list[Erasure] = []
        self._unscrubbed = False
        self._gone_here: frozenset[str] = frozenset()

    def _refresh(self) -> None:
        self._strokes = self._journal.strokes()
        fresh = self._journal.read(self._read)
        if not fresh:
            return
        if self._read and any(parse(entry)["kind"] == "erasure" for entry in fresh):
            self._forget()  # entries that we have read before were replaced since
            fresh = self._journal.read()
        for entry in fresh:
            self._fold(self._read, parse(entry))
            self._read += 1
        self._known |= self._people.keys()
        self._gone_here = frozenset((self._known - self._people.keys()) | self._erasing.keys())

    def _fold(self, position: int, plain: dict[str, object]) -> None:
        match plain.pop("kind", None):
            case "person":
                person = from_plain(Person, plain, ParseError)
                self._people[person.pseudonym] = person
                self._by_tag[person.tag] = person.pseudonym
                self._places[person.pseudonym] = [position]
            case "erasing":
                erasing = from_plain(Erasing, plain, ParseError)
                self._erasing[erasing.pseudonym] = erasing
                self._places[erasing.pseudonym].append(position)
            case "gone":
                self._tombstones.add(str(plain["tag"]))
            case "erasure":
                self._erasures.append(from_plain(Erasure, plain, ParseError))
                self._unscrubbed = True
            case "scrubbed":
                self._unscrubbed = False
            case unknown:
                raise ParseError(f"the keys of the client's people hold an unknown entry {unknown!r}")

    def _new(self, identifier: str) -> Person:
        key = self._random_bytes(KEY_BYTES)
        return Person(self._tag(identifier), b64encode(key), pseudonym(key, identifier))

    def _living(self, subject: str | None) -> SubjectId | None:
        return None if subject is None or subject in self._erasing else SubjectId(subject)

    def _tag(self, identifier: str) -> str:
        return hmac.new(self._secret, b"person\0" + identifier.encode(), "sha256").hexdigest()

    def _gone_tag(self, tag: str) -> str:
        return hmac.new(self._secret, b"gone\0" + tag.encode(), "sha256").hexdigest()

    def _is_gone(self, tag: str) -> bool:
        return bool(self._tombstones) and self._gone_tag(tag) in self._tombstones


def _entry(kind: str, value: Person | Erasing | Erasure) -> bytes:
    return canonical({"kind": kind} | to_plain(value))
