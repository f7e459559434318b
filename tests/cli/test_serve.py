"""`fedge report serve` as a user runs it: the link it prints signs in, a signal ends it, nothing of it is left."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from fedge.errors import ConfigError
from fedge.running import Result
from tests.conftest import Run


@contextmanager
def serving(*arguments: str | Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield the process of a server and the link that it prints."""
    command = [sys.executable, "-m", "fedge", "report", "serve", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"TMPDIR": str(folder)}
    )
    assert process.stdout is not None
    try:
        printed = ""
        while (line := process.stdout.readline()) and not (link := re.search(r"http://\S+", line)):
            printed += line
        assert link is not None, printed
        yield process, link[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_link_signs_in_and_a_signal_ends_it(finished: Result, tmp_path: Path, ending: signal.Signals) -> None:
    with serving(finished.folder, "--port", "0", folder=tmp_path) as (process, link):
        with httpx.Client(follow_redirects=True) as browser:
            front = browser.get(link)
            assert front.status_code == 200
            assert finished.folder.name in front.text
            while "being checked" in front.text:
                front = browser.get("/".join(link.split("/")[:3]) + "/")
            assert "The log holds" in front.text
        assert httpx.get("/".join(link.split("/")[:3])).status_code == 401
        process.send_signal(ending)
        assert process.wait(20) == 0
        assert not list(tmp_path.iterdir()), "the index is gone"


def test_what_cannot_be_served_says_what_to_do(finished: Result, fedge: Run, tmp_path: Path) -> None:
    code, _, err = fedge("report", "serve", tmp_path)
    assert code != 0
    assert "holds no run" in err
    code, _, err = fedge("report", "serve", finished.folder, "--host", "0.0.0.0")
    assert code == ConfigError.exit_code
    assert "--name" in err
    code, _, err = fedge("report", "serve", finished.folder, "--policy", finished.folder / "config.json", "--port", "0")
    assert code == ConfigError.exit_code
    assert "policy" in err


def test_a_port_that_is_taken_is_named(finished: Result, fedge: Run, taken: int) -> None:
    code, _, err = fedge("report", "serve", finished.folder, "--port", taken)
    assert code == ConfigError.exit_code
    assert "--port 0" in err


@pytest.fixture
def taken() -> Iterator[int]:
    """Yield a port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_without_its_extra_the_command_says_which(
    finished: Result, fedge: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = fedge("report", "serve", finished.folder)
    assert code == ConfigError.exit_code
    assert "pip install 'fedge[viewer]'" in err
