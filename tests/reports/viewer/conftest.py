"""A viewer over bundles, with a browser's part played by Starlette's test client."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fedge.encoding import utc_now
from fedge.reports.bundle import Bundle
from fedge.reports.viewer.app import viewer
from fedge.reports.viewer.guard import Gate
from fedge.reports.viewer.shelf import Shelf
from fedge.running import Result
from tests.audit.forging import Forger

TOKEN, SESSION, HOST = "the-token-of-this-test", "the-session-of-this-test", "127.0.0.1:8733"
GATE = Gate(TOKEN, SESSION, frozenset({HOST}))
Open = Callable[..., TestClient]


@pytest.fixture
def forger(finished: Result, tmp_path: Path) -> Forger:
    """Return the public files of the finished run, and all keys."""
    return Forger(finished.folder, tmp_path)


@pytest.fixture
def opening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Return a function from folders of runs to a browser that is signed in (or not)."""
    with ExitStack() as stack:

        def client(*roots: Path, signed_in: bool = True, policies: tuple[Path, ...] = ()) -> TestClient:
            shelf = Shelf(map(Bundle, roots), tmp_path_factory.mktemp("index"), policies, utc_now)
            stack.callback(shelf.close)
            for check in shelf.check_all():
                check.result(60)
            cookies = {GATE.cookie: SESSION} if signed_in else {}
            return stack.enter_context(
                TestClient(
                    viewer(shelf, GATE), f"http://{HOST}", raise_server_exceptions=False, follow_redirects=False,
                    cookies=cookies,
                )
            )  # fmt: skip

        yield client


@pytest.fixture
def browser(opening: Open, finished: Result) -> TestClient:
    """Return a browser that is signed in, over the finished run."""
    return opening(finished.folder)


@pytest.fixture
def home(finished: Result) -> str:
    """Return the address of the finished run."""
    return f"/{finished.folder.name}"
