"""What a client or a server has written is text on every page, whatever it is made of."""

import re
from dataclasses import replace

import pytest

from tests.audit.forging import CLIENTS, Forger
from tests.reports.test_report import Page
from tests.reports.viewer.conftest import Open

CORPUS = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(2)>'",
    "</title></style></svg><svg onload=alert(3)>",
    "{{1234*5678}}{% raw %}",
    "javascript:alert(4)",
    "=cmd|'/C calc'!A0",
    "@SUM(1+1)*cmd|x",
    "safe\u202egnp.exe",
    "zero\u200bwidth\u2066isolate\ufeff",
    "pile" + "\u0301" * 40,
    "&lt;b&gt;&#60;",
    "e" * 1000,
    "entry 99999999999999",
    "人" * 300,
    "\U000e0041tag",
)
TAGS = {"script", "img", "iframe", "object", "embed", "base", "style"}


@pytest.mark.parametrize("text", CORPUS)
def test_strings_of_a_client_are_text_on_every_page(forger: Forger, opening: Open, text: str) -> None:
    number = forger.index_of("DataUse", client="hospital-2", round=3)
    leaf = forger.leaf(number)
    forger.change(
        number,
        dataset=replace(leaf.dataset, lineage=text, origin=text, version=text),
        resources=replace(leaf.resources, device=text),
    )
    forger.mend_chains()
    forger.mend_close()
    forger.publish(CLIENTS)
    browser = opening(forger.bundle)
    pages = ["", "/entries", f"/entries/{number}", "/clients", "/clients/hospital-2", "/rounds/3", "/checks"]
    for address in ["/", "/compare?a=bundle&b=bundle", *("/bundle" + p for p in pages)]:
        answer = browser.get(address)
        assert answer.status_code == 200
        check(answer.text)
    shown = Page(browser.get(f"/bundle/entries/{number}").text).text
    for hidden in "\u202e\u200b\u2066\ufeff\U000e0041":
        assert hidden not in shown
        if hidden in text:
            assert f"⟨U+{ord(hidden):04X}⟩" in shown
    assert text[1:4] in shown
    assert text in shown or not text.isascii()


@pytest.mark.parametrize("text", CORPUS)
def test_what_is_asked_for_is_text_too(forger: Forger, opening: Open, text: str) -> None:
    browser = opening(forger.bundle)
    for name in ("text", "client", "event", "round", "since", "until", "page", "faulty", "a", "b", "token"):
        address = {"a": "/compare", "b": "/compare", "token": "/signin"}.get(name, "/bundle/entries")
        answer = browser.get(address, params={name: text})
        assert answer.status_code in {200, 401}
        check(answer.text)
    for address in (f"/{text}", f"/bundle/clients/{text}", f"/bundle/rounds/{text}", f"/bundle/entries/{text}"):
        answer = browser.get(address)
        assert answer.status_code == 404
        check(answer.text)


@pytest.mark.parametrize("text", CORPUS)
def test_the_name_of_a_file_that_is_sent_is_text(forger: Forger, opening: Open, text: str) -> None:
    answer = opening(forger.bundle).post("/receipts", files={"receipt": (text, text.encode())})
    assert answer.status_code == 200
    assert "It does not hold" in answer.text
    check(answer.text)


def check(html: str) -> None:
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & TAGS
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "action"):
            assert re.match(r"[/?#]|$", attributes.get(name) or "")
    assert "7006652" not in html  # a template in a string is not carried out
