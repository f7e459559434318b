"""The old file or the new one, never a part: in a kill, on a full disk, in a folder that cannot be written."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedge.errors import StorageError
from fedge.files import write_atomically

WRITER = """
import sys, itertools
from pathlib import Path
from fedge.files import write_atomically
for n in itertools.count():
    write_atomically(Path(sys.argv[1]), bytes([n % 256]) * 200_000)
    print(n, flush=True)
"""
LIMITED = """
import resource, sys
from pathlib import Path
from fedge.errors import StorageError
from fedge.files import write_atomically
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), b"n" * 5000)
except StorageError as error:
    print(error)
"""


def test_content_mode_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    write_atomically(path, b"one", mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o600)
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_killed_while_writing_leaves_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    content = path.read_bytes()
    assert len(content) == 200_000
    assert len(set(content)) == 1


def test_a_full_disk_keeps_the_old_file_and_names_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert "check free space" in done.stdout
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomically(tmp_path / "file" / "below", b"x")
