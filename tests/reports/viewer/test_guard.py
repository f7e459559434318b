"""The guard: without token, from another site, by another name, or too much: nothing of a bundle is answered."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fedge.reports.viewer.guard import HEADERS, MAX_UPLOAD
from fedge.running import Result
from tests.reports.viewer.conftest import GATE, HOST, SESSION, TOKEN, Open

PAGES = ("", "/entries", "/entries/0", "/entries/0/proof", "/clients", "/rounds/1", "/checks")


def test_without_sign_in_nothing_of_a_bundle_is_said(opening: Open, finished: Result, home: str) -> None:
    stranger = opening(finished.folder, signed_in=False)
    for address in ("/", "/receipts", "/compare", "/no-such-run", *(home + page for page in PAGES)):
        answer = stranger.get(address)
        assert answer.status_code == 401
        assert finished.folder.name not in answer.text
        assert "hospital" not in answer.text
    assert stranger.post(f"{home}/checks").status_code == 401
    assert stranger.post("/receipts", files={"receipt": ("a", b"b")}).status_code == 401


def test_the_printed_link_signs_in_once_and_the_cookie_is_kept_from_scripts(opening: Open, finished: Result) -> None:
    stranger = opening(finished.folder, signed_in=False)
    answer = stranger.get(f"/signin?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{GATE.cookie}={SESSION};")
    for word in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert word.lower() in cookie.lower()
    assert "expires" not in cookie.lower()  # gone with the browser
    assert TOKEN not in cookie
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", "é" * len(TOKEN), SESSION])
def test_another_token_does_not(opening: Open, finished: Result, token: str) -> None:
    stranger = opening(finished.folder, signed_in=False)
    answer = stranger.get("/signin", params={"token": token})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    stranger.cookies.set(GATE.cookie, token.encode("ascii", "replace").decode() or "x")
    if token != SESSION:
        assert stranger.get("/").status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8733", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8733.evil.example", ""]
)
def test_a_name_that_the_server_was_not_started_for_is_turned_away(browser: TestClient, host: str) -> None:
    answer = browser.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "hospital" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_nothing_but_reading_and_checking_is_a_method(browser: TestClient, home: str, method: str) -> None:
    for address in ("/", home, f"{home}/checks", "/style.css", "/signin"):
        assert browser.request(method, address).status_code == 405


def test_post_is_for_checks_and_receipts_alone(browser: TestClient, home: str) -> None:
    for address in ("/", home, f"{home}/entries", f"{home}/entries/0", "/compare", "/style.css", "/signin"):
        assert browser.post(address).status_code == 405
    assert browser.post(f"{home}/checks").status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_on_another_page_has_nothing_checked(browser: TestClient, home: str, headers: dict[str, str]) -> None:
    assert browser.post(f"{home}/checks", headers=headers).status_code == 403
    own = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    assert browser.post(f"{home}/checks", headers=own).status_code == 303


def test_what_is_sent_is_cut_off(browser: TestClient) -> None:
    answer = browser.post("/receipts", files={"receipt": ("large.tlog-proof", b"x" * (MAX_UPLOAD + 1))})
    assert answer.status_code == 413
    assert "Traceback" not in answer.text


def test_a_length_that_lies_does_not_help(browser: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = browser.post("/receipts", content=(b"y" * 65536 for _ in range(MAX_UPLOAD // 65536 + 2)), headers=headers)
    assert answer.status_code in {400, 413}


@pytest.mark.parametrize(
    "body", [b"", b"no form", b"--b\r\n", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"]
)
def test_a_form_that_is_none_is_a_clear_answer(browser: TestClient, body: bytes) -> None:
    answer = browser.post("/receipts", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code in {200, 400}
    assert "Traceback" not in answer.text


def test_every_answer_bears_the_headers_that_keep_a_browser_from_more(browser: TestClient, home: str) -> None:
    for address in ("/", home, "/style.css", "/icon.svg", "/no-such-run", f"{home}/entries/0/proof"):
        answer = browser.get(address)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    assert browser.get("/", headers={"Host": "evil.example"}).headers["X-Frame-Options"] == "DENY"
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/style.css/../../../etc/passwd",
     "{home}/entries/..%2f..%2fserver%2fserver.key", "{home}/server/server.key", "{home}/clients/..%2f..%2fserver",
     "{home}/clients/hospital-1%2fclient.key", "{home}/entries/-1", "{home}/entries/1e3",
     "{home}/entries/99999999999999999999",
         "{home}/rounds/99999999999999999999", "{home}/entries/%00", "//etc/passwd", "/C:%5cwindows"],
)  # fmt: skip
def test_no_path_is_made_of_an_address(browser: TestClient, home: str, path: str) -> None:
    answer = browser.get(path.replace("{home}", home))
    assert answer.status_code == 404
    assert not re.search("root:|PRIVATE KEY|Traceback", answer.text)


def test_a_fault_is_told_to_the_terminal_and_not_to_the_browser(
    opening: Open, finished: Result, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = opening(finished.folder)

    def fails(_: object) -> object:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("fedge.reports.viewer.app.views.totals", fails)
    answer = browser.get(f"/{finished.folder.name}")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "the secret of the house" in caplog.text
