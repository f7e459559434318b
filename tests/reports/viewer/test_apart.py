"""What is done in another process comes back: its answer, its error, or that it was killed."""

import os
import signal
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import pytest

from fedge.encoding import utc_now
from fedge.reports.bundle import Bundle
from fedge.reports.viewer.apart import Apart
from fedge.reports.viewer.checking import check
from fedge.running import Result


def test_a_check_in_another_process_finds_the_same(finished: Result, tmp_path: Path) -> None:
    at, bundle = utc_now(), Bundle(finished.folder)
    here = check(bundle, None, tmp_path / "here.db", at)
    there = Apart()(check, bundle, None, tmp_path / "there.db", at)
    assert (there.verification, there.evidence, there.report, there.counts) == (
        here.verification, here.evidence, here.report, here.counts,
    )  # fmt: skip
    assert there.path.read_bytes() == here.path.read_bytes()


def test_errors_come_back_and_a_killed_process_is_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Apart()(os.stat, tmp_path / "nowhere")
    with pytest.raises(MemoryError, match="killed"):
        Apart()(signal.raise_signal, signal.SIGKILL)


def test_what_goes_on_can_be_ended() -> None:
    apart, ended = Apart(), list[str]()

    def work() -> None:
        with pytest.raises(MemoryError):
            apart(time.sleep, 3600)
        ended.append("ended")

    thread = threading.Thread(target=work)
    thread.start()
    while not active_children() and thread.is_alive():
        thread.join(0.01)
    apart.close()
    thread.join(20)
    assert ended == ["ended"]
