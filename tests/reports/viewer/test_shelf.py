"""While a bundle is being checked nothing of it is shown; while it is checked anew, what the check before has found."""

import threading
from datetime import datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fedge.encoding import utc_now
from fedge.reports.bundle import Bundle
from fedge.reports.viewer import app
from fedge.reports.viewer.checking import Checked, check
from fedge.reports.viewer.shelf import Shelf
from fedge.running import Result
from tests.reports.test_report import Page
from tests.reports.viewer.conftest import GATE, HOST, SESSION


class Slow:
    """A check that ends when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, bundle: Bundle, policy: Path | None, path: Path, at: datetime) -> Checked:
        assert self.go.wait(30)
        return check(bundle, policy, path, at)


def browser(shelf: Shelf) -> TestClient:
    return TestClient(app.viewer(shelf, GATE), f"http://{HOST}", cookies={GATE.cookie: SESSION})


def test_nothing_is_shown_before_the_verifier_has_ended(
    finished: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "PATIENCE", 0.01)
    slow = Slow()
    shelf = Shelf([Bundle(finished.folder)], tmp_path, (), utc_now, slow)
    (checking,) = shelf.check_all()
    page, name = browser(shelf), finished.folder.name
    assert "being checked" in Page(page.get("/").text).text
    for address in (f"/{name}", f"/{name}/entries", f"/{name}/checks"):
        text = Page(page.get(address).text).text
        assert "The verifier is at work" in text
        assert "hospital" not in text
    assert "at work" in page.post(f"/{name}/checks").text  # is not begun twice
    slow.go.set()
    checking.result(30)
    assert shelf.volumes[name].checks == 1
    assert "hospital-1" in page.get(f"/{name}").text
    slow.go.clear()
    text = Page(page.post(f"/{name}/checks").text).text
    assert "It is being checked anew" in text
    assert "no round missing" in text
    slow.go.set()
    shelf.close()


def test_a_bundle_that_could_never_be_checked_says_why(finished: Result, tmp_path: Path) -> None:
    def killed(*_: object) -> Checked:
        raise MemoryError("its process was killed; perhaps there is too little memory")

    shelf = Shelf([Bundle(finished.folder)], tmp_path, (), utc_now, killed)
    shelf.check_all()[0].result(30)
    page = browser(shelf)
    assert "too little memory" in page.get("/").text
    text = page.get(f"/{finished.folder.name}").text
    assert "too little memory" in text
    assert "Check again" in text


def test_bundles_of_one_name_are_told_apart(finished: Result, tmp_path: Path) -> None:
    shelf = Shelf([Bundle(finished.folder)] * 3, tmp_path, (), utc_now)
    name = finished.folder.name
    assert list(shelf.volumes) == [name, f"{name}-2", f"{name}-3"]
    odd = tmp_path / "../ö <b>&%2f"
    assert list(Shelf([Bundle(odd), Bundle(Path("/"))], tmp_path, (), utc_now).volumes) == ["b-2f", "bundle"]
