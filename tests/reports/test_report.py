"""The report: nothing hostile gets in, nothing from elsewhere is loaded, and each figure cites an entry that exists."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from fedge.audit.verify import Verification
from fedge.reports import plots
from fedge.reports.evidence import gather
from fedge.reports.judged import Judged
from fedge.reports.render import render
from fedge.reports.report import Request
from fedge.running import Result

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"&{{7*7}}</style></svg>'


class Page(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


Word = Callable[[str], str]


def poisoned(value: Any, keep: frozenset[str] = frozenset(), word: Word = lambda _key: HOSTILE, key: str = "") -> Any:
    """Return `value` with every free text replaced by something hostile; what the page computes with stays."""
    if isinstance(value, Mapping):
        return {k: v if k in keep else poisoned(v, keep, word, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(v, keep, word, key) for v in value]
    return word(key) if isinstance(value, str) else value


COMPUTED = frozenset(
    {"at", "withdrawn_at", "effective_at", "values", "privacy", "delta", "round", "scope", "work", "outcome", "event",
     "epsilon_total", "budget_epsilon", "noise_std"}
)  # fmt: skip


def hostile(verification: Verification, word: Word = lambda _key: HOSTILE) -> Verification:
    entries = tuple(
        replace(e, payload=poisoned(e.payload, COMPUTED, word), signer=word("client")) for e in verification.entries
    )
    checks = tuple(replace(c, text=word("text"), name=word("name")) for c in verification.checks)
    return replace(verification, entries=entries, checks=checks, root=word("root"), cosigned_by=(word("organisation"),))


def page_of(verification: Verification) -> str:
    return render([Judged("run", verification, verification.entries)], Request("2026-11-24T09:30:00.000Z", "fedge"))


def test_the_page_is_whole(finished: Result) -> None:
    page = Page(finished.report.read_text())
    assert "The log holds." in page.text
    for client in ("hospital-1", "hospital-2", "hospital-3"):
        assert client in page.text
    assert "does not prove" in page.text
    assert "published seed" in page.text
    assert "compliant" not in page.text.lower()


ACTIVE = {"script", "iframe", "object", "embed", "link", "img", "form", "base"}


def test_it_has_no_script_and_asks_nothing_of_the_network(finished: Result) -> None:
    html = finished.report.read_text()
    page = Page(html)
    assert {tag for tag, _ in page.tags} & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "img",
        "form",
        "base",
    } == set()
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html)
    policies = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_hostile_strings_are_text_and_nothing_else(finished: Result) -> None:
    html = page_of(hostile(finished.verification))
    clean, page = Page(finished.report.read_text()), Page(html)
    assert "<script" not in html
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert "{{7*7}}" in page.text  # a template in a string is not carried out


def test_every_figure_cites_an_entry_that_is_there(finished: Result) -> None:
    page = Page(finished.report.read_text())
    links = [a.get("href") or "" for tag, a in page.tags if tag == "a"]
    cited = {link.removeprefix("#") for link in links if "-entry-" in link}
    there = {a["id"] for _, a in page.tags if a.get("id")}
    assert cited
    assert cited <= there
    assert there >= {f"r0-entry-{e.index}" for e in finished.verification.entries}


def test_a_log_that_does_not_hold_says_so_first(finished: Result) -> None:
    failed = replace(finished.verification.checks[0], grade="FAILED", text="the root differs")
    html = page_of(replace(finished.verification, checks=(failed, *finished.verification.checks[1:])))
    assert "The log does not hold." in html
    assert html.index("The log does not hold.") < html.index("What was run")
    assert "the root differs" in html
    assert "The log holds." not in html


def test_a_log_without_entries_is_a_page_too(finished: Result) -> None:
    empty = replace(finished.verification, entries=(), root="", size=0, cosigned_by=(), quorum=0)
    assert "A log that cannot be read" in page_of(empty)


def test_what_is_said_is_what_the_entries_say(finished: Result) -> None:
    evidence = gather(finished.verification.entries)
    assert [r.accepted for r in evidence.rounds] == [3, 3, 3]
    assert len(evidence.withdrawals) == 1
    for client in evidence.clients:
        uses = [e.payload for e in finished.verification.entries if e.index in client.entries]
        assert {u["client"] for u in uses} == {client.client}
        stated = [float(u["privacy"]["epsilon_total"]) for u in uses if u["work"] == "train"]
        assert client.epsilon_total == max(stated)
        assert client.budget == 4.0
    assert max(c.epsilon_total or 0 for c in evidence.clients) == pytest.approx(finished.epsilon)


def test_nothing_is_left_of_an_empty_log() -> None:
    evidence = gather(())
    assert (evidence.clients, evidence.rounds, evidence.run, evidence.closed) == ((), (), {}, None)


# ---- plots ------------------------------------------------------------------------------------------------------

INF, NAN = float("inf"), float("nan")
SERIES: dict[str, dict[str, list[tuple[float, float]]]] = {
    "nothing": {},
    "an empty line": {"a": []},
    "one point": {"a": [(1, 0.5)]},
    "level": {"a": [(1, 0.5), (2, 0.5)]},
    "zero": {"a": [(1, 0.0), (2, 0.0)]},
    "infinite": {"a": [(1, INF), (2, 1.0)]},
    "infinite at the end": {"a": [(1, 1.0), (2, INF)]},
    "no number": {"a": [(1, NAN), (2, 1.0)]},
    "only infinite": {"a": [(1, INF)]},
    "tiny": {"a": [(1, 1e-300), (2, 2e-300)]},
    "huge": {"a": [(1, -1e300), (2, 1e300)]},
    "many lines": {f"c{i}": [(1, i), (2, i + 1)] for i in range(20)},
    "many points": {"a": [(i, i % 7) for i in range(1000)]},
    "hostile": {HOSTILE: [(1, 1.0), (2, 2.0)]},
}


def check_drawing(figure: str) -> None:
    assert "<script" not in figure
    ET.fromstring(f"<root>{figure}</root>".replace("&nbsp;", " "))
    assert not re.search(r'="[^"]*\b(nan|inf)\b', figure)
    if (file := plots.standalone(figure)) is not None:
        ET.fromstring(file)


@pytest.mark.parametrize("name", SERIES)
def test_lines_draw_anything(name: str) -> None:
    for limits in (None, {"budget": 2.0}, {"budget": INF}, {HOSTILE: 1.0}):
        check_drawing(plots.lines(SERIES[name], HOSTILE, "x & y", "<y>", limits=limits))


STACKS = [{}, {"a": {}}, {"a": {"x": 0.0}}, {"a": {"x": 1.0}, HOSTILE: {HOSTILE: 2.0, "y": 1.0}}]


@pytest.mark.parametrize("stacks", STACKS)
def test_bars_and_heat_draw_anything(stacks: dict[str, dict[str, float]]) -> None:
    check_drawing(plots.bars(stacks, "bars", "n"))
    check_drawing(plots.heat(stacks, "heat"))


def test_nothing_recorded_is_said() -> None:
    assert "Nothing was recorded" in plots.lines({}, "t", "x", "y")
    assert plots.standalone(plots.lines({}, "t", "x", "y")) is None
