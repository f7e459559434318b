"""What the pages say is what the log says: each link leads somewhere, each search finds what is there, and no more."""

import re
from collections.abc import Callable
from html import unescape

import pytest
from starlette.testclient import TestClient

from fedge.audit.verify import Entry, parse_policy
from fedge.reports.proved import proved
from fedge.reports.viewer import index
from fedge.running import Result
from tests.audit.forging import CLIENTS, Forger
from tests.reports.test_report import Page
from tests.reports.viewer.conftest import Open


def links(html: str) -> set[str]:
    return {unescape(a.get("href") or "") for tag, a in Page(html).tags if tag == "a" and a["href"][:1] != "#"}


def rows(html: str) -> list[str]:
    return re.findall(r'<tr[^>]*><td class="n"><a href="[^"]*/entries/(\d+)">', html)


def test_the_overview_says_at_a_glance_whether_a_bundle_is_intact(browser: TestClient, finished: Result) -> None:
    text = Page(browser.get("/").text).text
    assert finished.folder.name in text
    assert "The log holds, as far as it was shown" in text  # nobody has given a policy
    assert str(len(finished.verification.entries)) in text


def test_with_the_auditors_own_policy_everything_is_proven(opening: Open, finished: Result) -> None:
    page = opening(finished.folder, policies=(finished.folder / "audit" / "policy.txt",)).get("/").text
    assert "The log holds" in page
    assert "as far as" not in page


def test_every_link_of_every_page_leads_to_a_page(browser: TestClient) -> None:
    seen, waiting = set[str](), {"/"}
    while waiting:
        address = waiting.pop()
        seen.add(address)
        answer = browser.get(address)
        assert answer.status_code == 200, address
        if "text/html" in answer.headers["content-type"]:
            there = {urljoined(address, link) for link in links(answer.text)}
            waiting |= {t for t in there if t not in seen and len(seen) < 400}
    assert len(seen) > 60


def urljoined(address: str, link: str) -> str:
    return address.partition("?")[0] + link if link.startswith("?") else link


def test_a_run_says_what_its_log_says(browser: TestClient, finished: Result, home: str) -> None:
    text = Page(browser.get(home).text).text
    for client in ("hospital-1", "hospital-2", "hospital-3"):
        assert client in text
    assert "3 of 3" in text
    assert "published seed" in text
    assert "does not prove" in text
    assert "compliant" not in text.lower()


def said(entry: Entry) -> str:
    return f"{entry.event} {entry.signer} {dict(entry.payload)}".lower()


SEARCHES: dict[str, Callable[[Entry], bool]] = {
    "event=data_use": lambda e: e.event == "data_use",
    "client=hospital-2": lambda e: e.payload.get("client") == "hospital-2",
    "round=2": lambda e: e.payload.get("round") == 2,
    "event=data_use&client=hospital-1&round=1": lambda e: (
        (e.event, e.signer, e.payload.get("round")) == ("data_use", "hospital-1", 1)
    ),
    "text=withdrawal": lambda e: "withdrawal" in said(e),
    "text=HOSPITAL-3": lambda e: "hospital-3" in said(e),
    "text=hospital-1+withdr": lambda e: "hospital-1" in said(e) and "withdr" in said(e),
    "event=no_such_event": lambda _: False,
    "client=hospital": lambda _: False,
    "text=%22+OR+NOT+NEAR(": lambda _: False,
    "text=...": lambda _: False,
    "round=abc": lambda _: True,
    "text=+": lambda _: True,
}


@pytest.mark.parametrize("query", SEARCHES)
def test_a_search_finds_what_is_there_and_nothing_else(
    browser: TestClient, finished: Result, home: str, query: str
) -> None:
    wanted = [str(e.index) for e in finished.verification.entries if SEARCHES[query](e)]
    assert rows(browser.get(f"{home}/entries?{query}").text) == wanted[: index.PAGE]


def test_a_search_by_digest_and_by_period(browser: TestClient, finished: Result, home: str) -> None:
    entries = finished.verification.entries
    digest, second = entries[0].payload["config_digest"], entries[9].payload["at"][:19]
    found = rows(browser.get(f"{home}/entries", params={"text": digest[:20]}).text)
    assert found == [str(e.index) for e in entries if digest in said(e)]
    found = rows(browser.get(f"{home}/entries", params={"since": second, "until": second}).text)
    assert found == [str(e.index) for e in entries if e.payload["at"][:19] == second]


def test_pages_of_a_search_do_not_overlap_and_end(browser: TestClient, finished: Result, home: str) -> None:
    first = browser.get(f"{home}/entries").text
    assert len(rows(first)) == min(index.PAGE, len(finished.verification.entries))
    far = browser.get(f"{home}/entries?page=999999").text
    assert rows(far)  # the last page


def test_an_entry_shows_all_its_members_its_signature_and_its_proof(
    browser: TestClient, finished: Result, home: str
) -> None:
    for entry in finished.verification.entries:
        html = browser.get(f"{home}/entries/{entry.index}").text
        page = Page(html)
        assert "Proof of inclusion as a tree" in html
        assert "root" in page.text
        for name, value in entry.payload.items():
            assert name.replace("_", " ") in page.text
            if isinstance(value, str):
                assert value in page.text
        assert finished.verification.root in html  # the last step of the table
    use = next(e for e in finished.verification.entries if e.event == "data_use")
    assert "ATTESTED" in browser.get(f"{home}/entries/{use.index}").text


def test_the_proof_that_is_taken_away_holds_without_the_viewer(
    browser: TestClient, finished: Result, home: str
) -> None:
    policy = parse_policy((finished.folder / "audit" / "policy.txt").read_text())
    for entry in finished.verification.entries:
        answer = browser.get(f"{home}/entries/{entry.index}/proof")
        assert "attachment" in answer.headers["content-disposition"]
        found = proved(answer.text, policy)
        assert (found.entry.raw, found.enough) == (entry.raw, True)


def test_a_client_and_a_round_are_what_their_entries_say(browser: TestClient, finished: Result, home: str) -> None:
    uses = [e for e in finished.verification.entries if e.event == "data_use" and e.signer == "hospital-1"]
    html = browser.get(f"{home}/clients/hospital-1").text
    assert [r for r in rows(html) if int(r) in {e.index for e in uses}] == [str(e.index) for e in uses]
    assert uses[0].payload["dataset"]["lineage"] in html
    assert "withdrawal effective" in Page(html).text
    closing = next(e for e in finished.verification.entries if e.event == "round_close" and e.payload["round"] == 2)
    html = browser.get(f"{home}/rounds/2").text
    assert closing.payload["model_out"] in html
    for part in closing.payload["participants"]:
        assert f"/clients/{part['client']}" in html
    for address in ("/clients/hospital-9", "/rounds/99", "/entries/9999"):
        assert browser.get(home + address).status_code == 404


def test_the_button_has_the_files_checked_anew(browser: TestClient, home: str) -> None:
    assert "check 1 since" in browser.get(f"{home}/checks").text
    assert browser.post(f"{home}/checks").headers["location"] == f"{home}/checks"
    html = browser.get(f"{home}/checks").text
    assert "check 2 since" in html
    assert "no round missing" in html


def test_two_runs_side_by_side(opening: Open, finished: Result) -> None:
    name = finished.folder.name
    browser = opening(finished.folder, finished.folder)
    html = browser.get(f"/compare?a={name}&b={name}-2").text
    assert "are the same in both" in html
    assert "only as far as" not in html.replace("as far as it was shown", "")
    assert browser.get("/compare?a=x&b=y").status_code == 200


def test_what_differs_between_two_runs_is_marked(opening: Open, finished: Result, forger: Forger) -> None:
    forger.change(0, purpose="marketing", code_version="another 2.0")
    forger.publish(CLIENTS)
    text = Page(opening(finished.folder, forger.bundle).get(f"/compare?a={finished.folder.name}&b=bundle").text).text
    assert "2 changes, 2 of them possibly a substantial modification" in text
    assert "marketing" in text
    assert "another 2.0" in text
    assert "compared only as far as its entries are intact" in text


@pytest.mark.parametrize("page", ["", "/entries", "/entries/3", "/clients/hospital-1", "/rounds/1", "/checks"])
def test_there_is_no_script_no_style_in_the_page_and_nothing_from_elsewhere(
    browser: TestClient, home: str, page: str
) -> None:
    html = browser.get(home + page).text
    tags = Page(html).tags
    assert {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "img", "base", "style"} == set()
    for _, attributes in tags:
        assert not [n for n in attributes if n.startswith("on") or n == "style"]
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "?", "#"))
            assert not (attributes.get(name) or "").startswith("//")
