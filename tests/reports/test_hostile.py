"""What a client may call its data: none of it does harm in any form of the report."""

import csv
import io
import json
import re
import unicodedata
import zlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from fedge.pack.forms import HTML, PDF, Forms, forms
from fedge.reports import tables
from fedge.reports.judged import Judged
from fedge.reports.markdown import escaped
from fedge.reports.report import Request
from fedge.reports.visible import FORMULA, HIDDEN, NUMBER, csv_cell, visible
from fedge.running import Result
from tests.reports.test_report import Page, hostile

CORPUS = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "attributes": "\" onmouseover=\"alert(1)\" x='",
    "ends a style": "</style></svg></title><script>alert(1)</script>",
    "template": "{{7*7}}{% for x in y %}",
    "formula": "=HYPERLINK(\"http://evil.example\",\"click\")",
    "formula after spaces": "   @SUM(A1:A9)",
    "formula of a command": "+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "tab": "\t=1+1",
    "newlines": "a\r\nb\n=1\n---\nlicense: mit",
    "quotes": 'a","b";c\'d',
    "turned around": "invoice\u202egnp.exe\u2066x\u2069",
    "no width": "hos\u200bpital\u2060-1\ufeff",
    "control": "a\x00b\x07\x1b[31mred\x7f",
    "piled up": "Z" + "\u0301" * 500,
    "surrogate-like": "\U0010ffff\ue000",
    "typst": "#include \"/etc/passwd\" $x$ *bold* @ref <label> \\ // /*",
    "markdown": "![x](http://evil.example/x.png) [a](javascript:alert(1)) | `code` <b>",
    "yaml": "*alias: &anchor !!python/object/apply:os.system ['id']",
    "long": "W" * 1000,
    "json": '"}],"runs":[]',
}  # fmt: skip


WORDS = list(CORPUS.values())


def made(finished: Result, turn: int) -> Forms:
    """Return a report whose every text is one of the corpus, another for each member of an entry and each `turn`."""

    def word(key: str) -> str:
        return WORDS[(zlib.crc32(key.encode()) + turn) % len(WORDS)]

    found = hostile(finished.verification, word)
    return forms([Judged(word("run"), found, found.entries)], Request("2026-11-24T09:30:00.000Z", "fedge"))


@pytest.fixture(params=range(0, len(CORPUS), 4), scope="module")
def poisoned_forms(request: pytest.FixtureRequest, finished: Result) -> Forms:
    return made(finished, request.param)


@pytest.fixture(scope="module")
def clean(finished: Result) -> Page:
    return Page(finished.report.read_text())


def file(forms_: Forms, name: str) -> str:
    return b"".join(forms_.parts()[name]()).decode()


def no_hidden(text: str) -> None:
    assert [c for c in text if unicodedata.category(c) in HIDDEN and c not in "\n\t\r"] == []


def test_the_page_has_no_tag_or_attribute_more(poisoned_forms: Forms, clean: Page) -> None:
    html = file(poisoned_forms, HTML)
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags} | {"p", "h3"}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not [
        v for _, attributes in page.tags for n, v in attributes.items() if n == "href" and not str(v).startswith("#")
    ]
    no_hidden(html)


def test_no_cell_of_a_table_is_a_formula(poisoned_forms: Forms) -> None:
    for name, (columns, _) in tables.TABLES.items():
        text = file(poisoned_forms, name)
        no_hidden(text)
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {len(columns) + 1}
        bad = [c for row in rows for c in row if c.lstrip().startswith(FORMULA) and not NUMBER.fullmatch(c)]
        assert bad == []


def test_the_card_keeps_its_metadata(poisoned_forms: Forms) -> None:
    (name,) = [n for n in poisoned_forms.parts() if n.startswith("model-card")]
    text = file(poisoned_forms, name)
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert set(yaml.safe_load(head)) == {"language", "license", "license_name", "library_name", "tags", "model-index"}
    assert yaml.safe_load(head)["license"] == "other"
    assert not re.search(r"(?<!\\)<(script|img|b)\b|(?<!\\)!?\[[^\\\]]*\]\(", body)
    no_hidden(body)


def test_the_bill_of_materials_is_json(poisoned_forms: Forms) -> None:
    (name,) = [n for n in poisoned_forms.parts() if n.startswith("ml-bom")]
    found = json.loads(file(poisoned_forms, name))
    assert found["specVersion"] == "1.6"
    no_hidden(json.dumps(found, ensure_ascii=False))


def test_the_pdf_carries_nothing_out(finished: Result) -> None:
    for turn in (0, 7, 14):
        data = b"".join(made(finished, turn).parts()[PDF]())
        text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)
        assert "root:" not in text and "does not prove" in text
        assert b"/JavaScript" not in data and b"/URI" not in data


@given(st.text(max_size=80))
def test_visible_text_has_nothing_hidden_and_stays_if_it_is_plain(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in HIDDEN and c not in "\n\t"]
    if text.isascii() and text.isprintable():
        assert shown == text


@given(st.text(max_size=40))
def test_a_cell_is_a_number_or_no_formula(text: str) -> None:
    cell = csv_cell(text)
    assert NUMBER.fullmatch(cell) or not cell.lstrip().startswith(FORMULA)


@pytest.mark.parametrize(
    ("text", "cell"), [("-0.5", "-0.5"), ("1e-05", "1e-05"), ("-", "'-"), ("=1", "'=1"), ("a", "a")]
)
def test_numbers_stay_numbers(text: str, cell: str) -> None:
    assert csv_cell(text) == cell


def test_markdown_is_escaped() -> None:
    assert escaped("[a](b) <c> `d` *e* _f_ # g | h") == r"\[a\]\(b\) \<c\> \`d\` \*e\* \_f\_ \# g \| h"
