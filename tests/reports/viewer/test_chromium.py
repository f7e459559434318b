"""The viewer in a real browser: nothing overflows, nothing is refused by the page's own policy, axe finds nothing.

Needs Playwright and a Chromium (Debian: `apt-get install chromium`); skipped loudly where there is none.
"""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from fedge.encoding import utc_now
from fedge.reports.bundle import Bundle
from fedge.reports.viewer.app import viewer
from fedge.reports.viewer.guard import Gate
from fedge.reports.viewer.shelf import Shelf
from fedge.running import Result
from tests.audit.forging import CLIENTS, Forger

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api", reason="PLAYWRIGHT ABSENT: pip install 'fedge[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="AXE ABSENT: pip install 'fedge[dev]'")

TOKEN = "the-token-of-this-test"
WCAG_AA = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
HOSTILE = "<script>document.title='broken into'</script>\u202e=1+1"


def chromium() -> str:
    """Return the program of a Chromium, or skip loudly."""
    found = os.environ.get("FEDGE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("CHROMIUM ABSENT: install Debian's package chromium, or set FEDGE_CHROMIUM to a browser's program")
    return found


@pytest.fixture(scope="module")
def address(finished: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a server over three bundles: whole, written by hostile clients, broken."""
    shelf = Shelf(map(Bundle, _bundles(finished, tmp_path_factory)), tmp_path_factory.mktemp("index"), (), utc_now)
    for check in shelf.check_all():
        check.result(60)
    listening = socket.create_server(("127.0.0.1", 0))
    host = f"127.0.0.1:{listening.getsockname()[1]}"
    app = viewer(shelf, Gate(TOKEN, "the-session-of-this-test", frozenset({host})))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://{host}"
    server.should_exit = True
    thread.join(20)
    listening.close()
    shelf.close()


def _bundles(finished: Result, places: pytest.TempPathFactory) -> list[Path]:
    hostile, broken = (Forger(finished.folder, places.mktemp(name)) for name in ("hostile", "broken"))
    number = hostile.index_of("DataUse", client="hospital-2", round=3)
    use = hostile.leaf(number)
    hostile.change(number, dataset=replace(use.dataset, lineage=HOSTILE, origin=HOSTILE))
    hostile.mend_chains()
    hostile.publish(CLIENTS)
    path = next((broken.bundle / "audit" / "tile" / "entries").rglob("2*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    named = []
    for forger, name in ((hostile, "hostile"), (broken, "broken")):
        named.append(forger.bundle.rename(forger.bundle.with_name(name)))
    return [finished.folder, *named]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a Chromium; without its sandbox, which needs rights that a container often lacks."""
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield running
        running.close()


class Tab:
    """A page of the browser that notes what its console says."""

    def __init__(self, browser: Any, address: str, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        self.page, self.address, self.said = self.context.new_page(), address, list[str]()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(f"{address}/signin?token={TOKEN}")

    def go(self, path: str) -> Any:
        """Open a page, and hold it to its width and to a silent console."""
        self.page.goto(self.address + path)
        wider = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{path} is {wider} pixels too wide"
        assert self.said == [], f"{path}: {self.said}"
        return self.page


@pytest.fixture
def paths(finished: Result) -> list[str]:
    use = next(e.index for e in finished.verification.entries if e.event == "data_use")
    name = finished.folder.name
    of_run = ["", "/entries", "/entries?text=nothing-at-all", f"/entries/{use}", f"/entries/{use}/receipt", "/clients",
              "/clients/hospital-1", "/rounds", "/rounds/2", "/checks"]  # fmt: skip
    more = ["/", "/receipts", f"/compare?a={name}&b=broken", "/broken", "/broken/entries?faulty=1", "/broken/checks"]
    return [f"/{name}{p}" for p in of_run] + more + ["/hostile", "/hostile/clients/hospital-2", "/hostile/entries"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_fits_and_axe_finds_nothing(
    browser: Any, address: str, paths: list[str], width: int, scheme: str
) -> None:
    tab = Tab(browser, address, width, scheme)
    for path in paths if scheme == "light" else paths[::3]:
        page = tab.go(path)
        found = axe.Axe().run(page, options=WCAG_AA)
        assert found.violations_count == 0, f"{path}\n{found.generate_report()}"


def test_the_officers_path_by_keyboard_and_button(browser: Any, address: str, finished: Result) -> None:
    tab = Tab(browser, address, 1280)
    page, name = tab.page, finished.folder.name
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_role("link", name=name).click()
    page.get_by_role("link", name="Entries", exact=True).click()
    page.get_by_label("Type").select_option("data_use")
    page.get_by_label("Client").fill("hospital-2")
    page.get_by_role("button", name="Search").click()
    page.locator("table.entries tbody a").first.click()
    assert "data use" in page.locator("h1").inner_text()
    assert page.locator("svg.proof g.root").count() == 1
    with page.expect_download() as download:
        page.get_by_role("link", name="Take the proof away").click()
    proof = download.value.path()
    page.get_by_role("link", name="Checks").click()
    page.get_by_role("button", name="Verify again now").click()
    assert "check 2 since" in page.locator("section.verdict").inner_text()
    page.get_by_role("link", name="Check a receipt").click()
    page.get_by_label("Receipts").set_input_files(proof)
    page.get_by_role("button", name="Check", exact=True).click()
    assert "It holds." in page.locator("section.verdict").inner_text()
    assert tab.said == []


def test_hostile_words_run_nothing_in_a_real_browser(browser: Any, address: str) -> None:
    tab = Tab(browser, address, 1280)
    for path in ("/hostile", "/hostile/clients/hospital-2", "/hostile/entries?text=%3Cscript%3Ealert(1)%3C/script%3E"):
        assert "broken into" not in tab.go(path).title()
    assert "<script>" in tab.go("/hostile/clients/hospital-2").locator("main").inner_text()
    assert "⟨U+202E⟩" in tab.page.locator("main").inner_text()


def test_without_the_cookie_the_browser_is_asked_to_sign_in(browser: Any, address: str) -> None:
    page = browser.new_context().new_page()
    page.goto(address)
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    assert page.locator("h1").inner_text() == "Bundles"
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_pages_print(browser: Any, address: str, finished: Result) -> None:
    tab = Tab(browser, address, 1280)
    for path in ("", "/entries/6", "/checks"):
        tab.go(f"/{finished.folder.name}{path}")
        assert tab.page.pdf(format="A4").startswith(b"%PDF")
    tab.page.emulate_media(media="print")
    assert not tab.page.get_by_role("button", name="Verify again now").is_visible()
