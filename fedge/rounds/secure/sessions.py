"""What a client remembers of its latest session in each run: its secret, and what it has said to what.

Durable before anything is sent, so that after a crash the same question gets the same bytes, and another question in
the place of one already answered gets nothing: a server that asks twice learns no more than one that asks once. When
the last word is said the secret is erased; so is a whole session when the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast

from fedge import params as parameters
from fedge.encoding import b64decode, b64encode, canonical, digest, from_plain, parse, to_plain
from fedge.errors import ParseError, RoundError, StorageError
from fedge.files import write_atomically
from fedge.params import Params

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """A statement of the server (base64) and the statements that answer it; no answer yet: it is only pinned."""

    request: str
    answer: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Where a session of several steps stands.

    `updates` are the digests of the masked vectors that were revealed or may be; `pool` and `used` are bitmaps of
    records; `reserved` is the place of the spend in the ledger; `cpu_ms`, `bytes_in` and `bytes_out` are what all steps
    took so far.
    """

    step: int
    attempt: int
    participants: tuple[str, ...]
    revealed: bool
    updates: tuple[str, ...]
    pool: str
    used: str
    snapshot: str
    reserved: int
    began: str
    cpu_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True)
class Session:
    """One session: `order` is the statement that opened it, `secret` the source of all its secrets (base64).

    `summed` says for the orders of this round (by substance) in which sums (digest of who is in them) this client has
    let its update be.
    """

    run: str
    session: str
    round: int
    order: str
    secret: str = field(repr=False)
    said: Mapping[str, Said] = field(default_factory=dict)
    progress: Progress | None = None
    summed: Mapping[str, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether its last word was said."""
        return not self.secret

    def answered(self, stage: str, request: bytes) -> tuple[bytes, ...] | None:
        """Return what was said to this very request; None if nothing was.

        Raises RoundError if another request was taken up in its place.
        """
        known = self.said.get(stage)
        if known is None:
            return None
        if known.request != b64encode(request):
            raise RoundError(f"the server asks for {stage} again, and asks for something else; it was answered once")
        return tuple(b64decode(a) for a in known.answer) or None

    def request(self, stage: str) -> bytes:
        """Return the request of `stage`. Raises RoundError if it has not come."""
        if stage not in self.said:
            raise RoundError(f"the server is ahead of itself: {stage} has not been asked for")
        return b64decode(self.said[stage].request)

    def saying(self, stage: str, request: bytes, answer: tuple[bytes, ...] = ()) -> Session:
        """Return the session in which `answer` has been said to `request`, or, without one, `request` is pinned."""
        said = Said(b64encode(request), tuple(b64encode(a) for a in answer))
        return replace(self, said={**self.said, stage: said})

    def in_sum(self, summed: Mapping[str, str]) -> Session:
        """Return the session that remembers `summed`."""
        return replace(self, summed=summed)

    def ended(self, stage: str) -> Session:
        """Return the session without its secrets: what is left says only its last word again."""
        return replace(self, secret="", said={k: v for k, v in self.said.items() if k == stage}, progress=None)


class Sessions:
    """The latest session of each run: one file each, readable by its owner alone, and a masked vector beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, Session] = {}
        self._known: tuple[bytes, object] | None = None

    def of(self, run: str) -> Session | None:
        """Return the latest session in `run`. Raises ParseError for a damaged file."""
        if run not in self._held:
            path = self._path(run)
            try:
                self._held[run] = from_plain(Session, parse(path.read_bytes()), ParseError)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise StorageError(f"cannot read {path}: {error.strerror}") from error
        return self._held[run]

    def known(self, statement: bytes, read: Callable[[], T]) -> T:
        """Return what `read` makes of `statement`; of the latest one it is remembered while this process lives."""
        if self._known is None or self._known[0] != statement:
            self._known = (statement, read())
        return cast(T, self._known[1])

    def keep(self, session: Session, vector: Params | None = None) -> Session:
        """Make `session` the latest of its run, durably; the masked vector first, so that it can be sent again."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if vector is not None:
            write_atomically(self._vector(session.run), parameters.to_bytes(vector), mode=0o600)
        write_atomically(self._path(session.run), canonical(to_plain(session)), mode=0o600)
        self._held[session.run] = session
        return session

    def vector(self, run: str, digest: str) -> Params:
        """Return the masked vector kept last, whose digest is `digest`. Raises RoundError if it is another."""
        try:
            vector = parameters.load(self._vector(run))
        except StorageError as error:
            raise RoundError("the masked vector is gone; it cannot be made a second time") from error
        if parameters.digest(vector) != digest:
            raise RoundError("the masked vector was replaced; it cannot be made a second time")
        return vector

    def _path(self, run: str) -> Path:
        return self._folder / f"{_name(run)}.json"

    def _vector(self, run: str) -> Path:
        return self._folder / f"{_name(run)}.safetensors"


def _name(run: str) -> str:
    """Return a file's name for `run`: a server chooses the run's name, and could choose a path."""
    return digest(run.encode()).removeprefix("sha256:")[:32]
