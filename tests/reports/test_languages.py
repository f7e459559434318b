"""Every language has every text, and no placeholder is lost; the law's dates have sources."""

import ast
import re
from pathlib import Path

import pytest

from fedge.audit.leaves import EVENTS
from fedge.errors import ConfigError
from fedge.reports.words import LANGUAGES, law, words

PACKAGE = Path(__file__).parents[2] / "fedge"
SOURCES = [*sorted((PACKAGE / "reports").rglob("*.py"))]


def keys(language: str) -> set[tuple[str, str]]:
    return {(section, key) for section, texts in words(language).texts.items() for key in texts}


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_there_with_its_placeholders(language: str) -> None:
    english, other = words("en").texts, words(language).texts
    assert keys(language) == keys("en")
    lost = [(s, k) for s, k in keys("en") if placeholders(english[s][k]) != placeholders(other[s][k])]
    assert lost == []
    empty = {(s, k) for s, k in keys("en") if not other[s][k]}
    assert empty == {(s, k) for s, k in keys("en") if not english[s][k]}


@pytest.mark.parametrize("language", [n for n in LANGUAGES if n != "en"])
def test_it_is_really_another_language(language: str) -> None:
    english, other = words("en").texts, words(language).texts
    sentences = [(s, k) for s, k in keys("en") if len(english[s][k].split()) > 3]
    assert [(s, k) for s, k in sentences if english[s][k] == other[s][k]] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_event_of_the_log_has_words(language: str) -> None:
    assert set(words(language).texts["events"]) == set(EVENTS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_claims_to_be_compliant(language: str) -> None:
    said = " ".join(text for texts in words(language).texts.values() for text in texts.values()).lower()
    assert not re.search(r"complian|konform(?!itätserkl)|conforme|cumple con el reglamento", said)


def test_every_key_that_the_code_asks_for_is_there() -> None:
    asked = {
        node.args[0].value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
        if isinstance(node.args[0].value, str) and re.fullmatch(r"[a-z0-9]+\.[a-z0-9_]+", node.args[0].value)
        if ast.unparse(node.func) in {"say", "words", "say.line", "self"}
    }
    assert len(asked) > 50
    assert {tuple(key.split(".", 1)) for key in asked} <= keys("en")


def test_an_unknown_language_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'fr'; known: en, de, es"):
        words("fr")


def test_each_date_of_the_law_has_a_source() -> None:
    assert re.fullmatch(r"\d{4}-\d\d", law()["as_of"])
    for rule in law()["rule"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", rule["from"]) and "Regulation (EU)" in rule["source"]
        assert ("law", rule["what"]) in keys("en")
