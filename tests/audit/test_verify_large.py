"""A large log: other processes check its signatures, and the answer is that of one process, to the letter."""

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedge.audit import verify
from fedge.audit.verify import Verification
from fedge.running import Result
from tests.audit.forging import CLIENTS, Forger


@pytest.fixture
def forger(tmp_path: Path, finished: Result) -> Forger:
    return Forger(finished.folder, tmp_path)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every log taken for a large one, of a few batches."""
    monkeypatch.setattr(verify, "MANY", 0)
    monkeypatch.setattr(verify, "BATCH", 8)


@pytest.fixture
def checked_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the size of each batch whose signatures this very process checks."""
    sizes: list[int] = []
    check = verify._verified

    def counted(claims: Sequence[verify.Claim]) -> list[bool]:
        sizes.append(len(claims))
        return check(claims)

    monkeypatch.setattr(verify, "_verified", counted)
    return sizes


def swap_signature(forger: Forger, index: int) -> None:
    """Give entry `index` the signature that its signer has made for another entry, and publish it under good roots."""
    own = json.loads(forger.entries[index])
    (line,) = own["signatures"]
    others = (json.loads(entry)["signatures"][0] for n, entry in enumerate(forger.entries) if n != index)
    line["sig"] = next(other["sig"] for other in others if other["keyid"] == line["keyid"])
    forger.entries[index] = json.dumps(own, separators=(",", ":"), ensure_ascii=False).encode()
    forger.publish(CLIENTS)


def in_one_process(forger: Forger) -> Verification:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "MANY", len(forger.entries))
        return forger.verify()


@pytest.mark.usefixtures("large")
def test_other_processes_say_what_one_says(forger: Forger, checked_here: list[int]) -> None:
    found = forger.verify()
    assert found.holds, found.failures
    assert checked_here == []
    assert in_one_process(forger).plain == found.plain
    assert sum(checked_here) == len(forger.entries) > 2 * verify.BATCH


@pytest.mark.usefixtures("large")
def test_a_forged_signature_is_named_by_its_number(forger: Forger, checked_here: list[int]) -> None:
    middle = len(forger.entries) // 2
    swap_signature(forger, len(forger.entries) - 2)
    swap_signature(forger, middle)
    found = forger.verify()
    signer = verify.parse_entry(middle, forger.entries[middle])[0].signer
    assert found.failures == f"signatures of entries: entry {middle}: the signature of {signer} does not verify"
    assert 0 < sum(checked_here) < len(forger.entries)  # only the batches of which not all hold
    assert in_one_process(forger).plain == found.plain


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("python", ["/nowhere/python", "", "/bin/true", "/bin/cat"])
def test_without_other_processes_all_is_checked_here(
    forger: Forger, checked_here: list[int], monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    assert forger.verify().holds
    assert sum(checked_here) == len(forger.entries)
    swap_signature(forger, 9)
    assert "entry 9: the signature of" in forger.verify().failures


def test_the_search_for_cycles_goes_on_afterwards(forger: Forger) -> None:
    assert forger.verify().holds
    assert gc.isenabled()
    swap_signature(forger, 9)
    assert not forger.verify().holds
    assert gc.isenabled()


def test_the_other_process_says_which_hold(forger: Forger) -> None:
    """A 1 for a signature that holds, a 0 for one that does not, or that is not even of 64 bytes."""
    key = forger.server
    pieces = [key.public.raw, key.sign(b"said"), b"said"]
    pieces += [key.public.raw, key.sign(b"said"), b"not said"]
    pieces += [key.public.raw, b"", b"said"]
    asked = b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)
    command = [sys.executable, "-I", "-W", "error", verify.__file__, verify.HELPER]
    done = subprocess.run(command, input=asked, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"100", b"")
