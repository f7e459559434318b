"""The document: what a report says, in a language, as blocks that HTML and PDF print.

A function of the report, its digest and the log's entries (to list them), and of nothing else: the same report gives
the same document, so that an edited one is found by making it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedge.audit.verify import Entry
from fedge.reports.document import annex_iv, data, gdpr, keeping, opening, results
from fedge.reports.document.blocks import Block, Heading
from fedge.reports.document.say import Say
from fedge.reports.references import parse_refs
from fedge.reports.words import Words, words

LISTED = 2_000
"""Entries that a page lists; of a longer log it lists those that figures name, and the CSV has all."""
NAMED = 20
"""References of one figure that are looked at for that list: of a thousand entries the page shows how many."""


@dataclass(frozen=True)
class Document:
    """A titled sequence of blocks; `digest` is that of the report that it was made from."""

    words: Words
    title: str
    digest: str
    blocks: Sequence[Block]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Anchor and title of each section."""
        return [(b.anchor, b.text) for b in self.blocks if isinstance(b, Heading) and b.level == 2]


def document(report: Mapping[str, Any], digest: str, logs: Sequence[Sequence[Entry]] = ()) -> Document:
    """Return the document of `report`, whose canonical bytes have `digest`; `logs` are its runs' entries, if listed."""
    spoken = words(report["language"])
    says = [Say(spoken, run, index) for index, run in enumerate(report["runs"])]
    blocks = [*_front(report, digest, says), *_annexes(says)]
    for say, entries in zip(says, logs, strict=False):
        blocks += keeping.entries(say, _listed(say.run, entries), len(entries))
    return Document(spoken, opening.title(spoken, report), digest, tuple(blocks))


def _front(report: Mapping[str, Any], digest: str, says: Sequence[Say]) -> Iterator[Block]:
    yield from opening.verdicts(says)
    if len(says) == 1 and says[0].run["run"]["run"]["value"] is not None:
        yield opening.tiles(says[0])
    yield from opening.scope(says[0].words, report, digest)
    yield from opening.limits(says)
    if len(says) > 1:
        yield from opening.many(says)
    for say in says:
        if len(says) > 1:
            yield Heading(1, say.run["name"])
        if say.run["run"]["run"]["value"] is not None:
            for part in (opening.run, data.who, data.data, data.permission, results.privacy, results.quality):
                yield from part(say)
            yield from results.wrong(say)
        yield from results.intact(say)
        yield from results.time(say)


def _annexes(says: Sequence[Say]) -> Iterator[Block]:
    for say in says:
        if say.run["run"]["run"]["value"] is None:
            continue
        if len(says) > 1:
            yield Heading(1, say.run["name"])
        yield from results.rounds(say)
        yield from annex_iv.annex_iv(say)
        yield from annex_iv.art_12(say)
        yield from gdpr.ropa(say)
        yield from gdpr.dpia(say)
        yield from keeping.retention(say)
        yield from keeping.resources(say)
    yield from keeping.ending(says[0])


def _listed(run: Mapping[str, Any], entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries that the page lists."""
    if len(entries) <= LISTED:
        return entries
    named = sorted({n for text in references(run) for n, _ in zip(parse_refs(text), range(NAMED), strict=False)})[
        :LISTED
    ]
    wanted = frozenset(named)
    return [e for e in entries if e.index in wanted]


def references(value: Any) -> Iterable[str]:
    """Yield the references of every figure and row in a report, wherever they stand."""
    if isinstance(value, Mapping):
        if "grade" in value and value.get("entries"):
            yield value["entries"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)
