"""Foreign bytes: any at all, and real ones that were cut, doubled or bent, into every parser of `tests/fuzz`."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedge.audit.checkpoint import cosign
from fedge.audit.leaves import MAX_LEAF_BYTES
from fedge.audit.note import Note, parse
from fedge.encoding import canonical
from fedge.running import Result
from fedge.signing import parse_envelope
from tests.audit.forging import Forger
from tests.fuzz.targets import TARGETS, WITNESS, WITNESS_KEY

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
PIECES = [b"\n", b"\n\n", b" ", b"0", b"=", b"+", b'"', b"\\", b",", b"\xe2\x80\x94 ", b"\xc2\xa0", b"\xff", b"9" * 20]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, finished: Result) -> dict[str, list[bytes]]:
    """Return real inputs of each parser, from a real run."""
    forger = Forger(finished.folder, tmp_path_factory.mktemp("seeds"))
    audit, entries = forger.bundle / "audit", forger.entries
    note = (audit / "checkpoint").read_bytes()
    body = parse(note.decode()).body
    receipts = sorted((forger.bundle / "receipts").rglob("*.tlog-proof"))
    return {
        "json_bytes": [parse_envelope(e).payload for e in entries] + [canonical({"a": [1, None, "é"], "b": {}})],
        "note": [note],
        "checkpoint": [note],
        "cosignature": [Note(body, (cosign(body, WITNESS.name, WITNESS_KEY, datetime.now(UTC)),)).text.encode()],
        "vkey": [WITNESS.text.encode()],
        "receipt": [p.read_bytes() for p in receipts],
        "policy": [(audit / "policy.txt").read_bytes()],
        "bundle": [p.read_bytes() for p in (audit / "tile" / "entries").rglob("*") if p.is_file()],
        "envelope": list(entries),
        "leaf": list(entries),
    }


@st.composite
def bent(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return `seed` after a few changes of the kinds that forgers and faults make."""
    data = seed
    for _ in range(draw(st.integers(0, 3))):
        start, stop = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        stop = min(stop, start + draw(st.integers(0, 40)))
        middle = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8), st.just(data[start:stop] * 2)))
        data = data[:start] + middle + data[stop:]
    return data


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_bent_input(seeds: dict[str, list[bytes]], name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(bent(data.draw(st.sampled_from(seeds[name])))))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(data=st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda t: t.encode("utf-8", "ignore"))))
def test_any_input(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_real_input_is_accepted(seeds: dict[str, list[bytes]], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the targets would fuzz nothing but refusals."""
    from tests.fuzz import targets

    accepted: list[object] = []

    def seen(ask: Callable[[], object]) -> object:
        accepted.append(ask())  # raises if a real input is refused
        return accepted[-1]

    monkeypatch.setattr(targets, "ours", seen)
    for seed in seeds[name]:
        TARGETS[name](seed)
    assert all(found is not None for found in accepted)
    assert accepted


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\xff\xfe", b"[" * 100_000, b"9" * 5_000, b"\n" * 5_000, b"\x00" * (MAX_LEAF_BYTES + 1)],
    ids=["empty", "zero", "not_utf_8", "deep", "endless_number", "blank_lines", "oversized"],
)
def test_what_breaks_parsers(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_the_entry_names_its_targets() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz"], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 1
    assert "targets: json_bytes, note" in done.stderr
