"""What is exported is read and verified by a reader that shares no code with fedge, over HTTP from a static server."""

import ast
import functools
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fedge.audit.log import AuditLog
from fedge.audit.trust import Trust
from fedge.audit.witness import Witness
from fedge.export import export
from fedge.journal import MemoryJournal
from fedge.running import Result
from fedge.signing import PrivateKey
from tests.audit import c2sp_reader as reader
from tests.conftest import Clock

LOG, WITNESS = PrivateKey(b"l" * 32), PrivateKey(b"w" * 32)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def served(finished: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Yield an exported run and the address it is served at."""
    to = tmp_path_factory.mktemp("public") / "log"
    export(finished.folder, to)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(to))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield to, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def http(address: str) -> Callable[[str], bytes]:
    def fetch(path: str) -> bytes:
        with urllib.request.urlopen(f"{address}/{path}", timeout=10) as answer:
            return bytes(answer.read())

    return fetch


def test_shares_no_code() -> None:
    tree = ast.parse(Path(reader.__file__).read_text(encoding="utf-8"))
    imported = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not [name for name in imported if name.startswith(("fedge", "tests"))]


def test_an_exported_run_is_read_over_http(served: tuple[Path, str], finished: Result) -> None:
    to, address = served
    words = dict(line.split(" ", 1) for line in (to / "keys.txt").read_text().splitlines() if line.startswith("log "))
    size, root, entries = reader.read(http(f"{address}/audit"), words["log"])
    assert (size, root.hex()) == (finished.verification.size, finished.verification.root)
    assert entries == [e.raw for e in finished.verification.entries]
    cosigned = [
        reader.opened((to / "audit" / "checkpoint").read_text(), line.rpartition(" ")[2])
        for line in (to / "keys.txt").read_text().splitlines()
        if line.startswith("client ")
    ]
    assert len(cosigned) == 3
    assert all(found is not None and found[1] for found in cosigned)
    receipts = sorted((to / "receipts").rglob("*.tlog-proof"))
    assert len(receipts) == len([e for e in finished.verification.entries if e.by_client])
    assert {reader.proved(p.read_text(), words["log"]) for p in receipts} <= set(entries)


def grown(folder: Path, sizes: list[int]) -> tuple[AuditLog, str]:
    """Publish a log at each of these sizes, one after the other, as rounds do."""
    log = AuditLog(MemoryJournal("entries"), "fedge/test", LOG)
    witness = Witness("w", WITNESS, MemoryJournal(), Clock())
    trust = Trust(log.vkey, {"w": witness.vkey}, {"w": "one"}, 1)
    for size in sizes:
        log.append([str(i).encode() for i in range(log.size, size)])
        log.publish(folder, log.signed_checkpoint(), trust, lambda _: None)
    return log, log.vkey.text


@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [255, 256],
        [256, 257],
        [100, 300, 1000],
        pytest.param([5, 700, 700, 65_537], marks=pytest.mark.slow, id="three_levels"),
    ],
)
def test_tiles_of_a_log_that_grew(tmp_path: Path, sizes: list[int]) -> None:
    _, vkey = grown(tmp_path, sizes)
    size, _, entries = reader.read(lambda path: (tmp_path / path).read_bytes(), vkey)
    assert entries == [str(i).encode() for i in range(size)]
    shown = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    needed = {reader.tile(str(level), n, width) for level, n, width in reader.tiles_of(size)}
    needed |= {reader.tile("entries", n, width) for level, n, width in reader.tiles_of(size) if level == 0}
    assert shown == needed | {"checkpoint", "policy.txt"}, "no partial tile of an older checkpoint stays behind"


def test_full_tiles_are_never_written_again(tmp_path: Path) -> None:
    log, _ = grown(tmp_path, [600])
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("tile/*/00[01]")}
    assert len(before) == 4
    log.append([b"more"])
    trust = Trust(log.vkey, {}, {}, 1)
    log.publish(tmp_path, log.signed_checkpoint(), trust, lambda _: None)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_paths_are_written_as_the_standard_says() -> None:
    assert reader.tile("0", 1234067, 256) == "tile/0/x001/x234/067"
    assert reader.tile("entries", 0, 12) == "tile/entries/000.p/12"
