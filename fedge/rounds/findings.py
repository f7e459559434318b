"""What a client has found against a server's log: durable, with the evidence, until the data's owner clears it.

A finding is two checkpoints that the log's key has signed and that no append-only log can have, and the server's own
signed request that showed the second. Whoever has the public keys can judge it without trusting the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedge.encoding import canonical, from_plain, parse, to_plain
from fedge.errors import ConfigError, ParseError
from fedge.journal import Journal


@dataclass(frozen=True)
class Finding:
    """Log of `run`: the notes `pinned` and `shown` contradict each other; `request` is base64 of what showed it."""

    run: str
    at: str
    text: str
    pinned: str
    shown: str
    request: str


@dataclass(frozen=True)
class Cleared:
    """The owner works for the log of `run` again, and why: the pin stays, so a log that is still false is found again.

    `at` is an RFC 3339 time.
    """

    run: str
    at: str
    because: str


class Findings:
    """Findings and what became of them, in a Journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def history(self) -> Sequence[Finding | Cleared]:
        """Return all of them in order, with what other processes have written."""
        return [_decode(entry) for entry in self._journal.read()]

    def against(self, run: str) -> Finding | None:
        """Return the latest finding against the log of `run` that is not cleared."""
        latest = next((e for e in reversed(self.history()) if e.run == run), None)
        return latest if isinstance(latest, Finding) else None

    def keep(self, finding: Finding) -> None:
        """Make `finding` durable."""
        self._journal.append([canonical({"kind": "finding"} | to_plain(finding))])

    def clear(self, run: str, at: str, because: str) -> None:
        """Work for the log of `run` again. Raises ConfigError if nothing is found against it."""
        with self._journal.transaction():
            if self.against(run) is None:
                raise ConfigError(f"nothing is found against the log of run {run!r}; there is nothing to clear")
            self._journal.append([canonical({"kind": "cleared"} | to_plain(Cleared(run, at, because)))])


def _decode(entry: bytes) -> Finding | Cleared:
    plain = parse(entry)
    kind = {"finding": Finding, "cleared": Cleared}.get(plain.pop("kind", ""))
    if kind is None:
        raise ParseError("the client's findings hold an unknown entry")
    found: Finding | Cleared = from_plain(kind, plain, ParseError)
    return found
