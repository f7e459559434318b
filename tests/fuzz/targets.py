"""Every parser of foreign bytes, as a function that takes any bytes and fails only if the parser does.

A parser may refuse, with its own error; it may not fall over. What it accepts it prints back byte for byte, and where a
format is written twice, both writings accept the same.
"""

from collections.abc import Callable
from typing import TypeVar

from fedge.audit import tiles, verify
from fedge.audit.checkpoint import check_cosignature, parse_body
from fedge.audit.leaves import decode
from fedge.audit.note import COSIGNATURE, VerifierKey, parse, verifier_key
from fedge.audit.proof import parse_receipt
from fedge.audit.trust import parse_trust
from fedge.encoding import canonical
from fedge.encoding import parse as parse_json
from fedge.errors import AuditError
from fedge.signing import PrivateKey, envelope_bytes, parse_envelope

T = TypeVar("T")
Target = Callable[[bytes], None]
WITNESS_KEY = PrivateKey(b"w" * 32)
WITNESS = VerifierKey("w", COSIGNATURE, WITNESS_KEY.public)


def ours(ask: Callable[[], T]) -> T | None:
    """Return what a parser of the house makes of its input; None if it refuses with an error of its drawn tree."""
    try:
        return ask()
    except AuditError:
        return None


def theirs(ask: Callable[[], T]) -> T | None:
    """Return what a parser of the verifier makes of its input; None if it refuses with its one error."""
    try:
        return ask()
    except verify.Unproven:
        return None


def agree(first: object, second: object, data: bytes) -> None:
    assert (first is None) == (second is None), f"one accepts, the other refuses: {data!r}"


def text_of(data: bytes) -> str:
    """Return the UTF-8 in `data`: readers of files refuse the rest before it is parsed, so it is no use to a fuzzer."""
    return data.decode("utf-8", errors="ignore")


def json_bytes(data: bytes) -> None:
    found = ours(lambda: (parse_json(data),))
    agree(found, theirs(lambda: (verify.parse_json(data),)), data)
    if found is not None:
        assert canonical(found[0]) == data


def note(data: bytes) -> None:
    text = text_of(data)
    if (found := ours(lambda: parse(text))) is not None:
        assert found.text == text


def checkpoint(data: bytes) -> None:
    text = text_of(data)
    found = ours(lambda: parse_body(parse(text).body))
    agree(found, theirs(lambda: verify.parse_checkpoint(text)), data)
    if found is not None:
        assert found.body == parse(text).body


def cosignature(data: bytes) -> None:
    text = text_of(data)
    known = verify.parse_vkey(WITNESS.text)
    if (found := ours(lambda: parse(text))) is not None:
        for line in found.signatures:
            ours(lambda line=line: check_cosignature(found.body, line, WITNESS))  # type: ignore[misc]
    if (second := theirs(lambda: verify.parse_checkpoint(text))) is not None:
        theirs(lambda: verify.check_signatures(second, known, [known]))


def vkey(data: bytes) -> None:
    text = text_of(data)
    found, second = ours(lambda: verifier_key(text)), theirs(lambda: verify.parse_vkey(text))
    agree(found, second, data)
    if found is not None and second is not None:
        assert found.text == second.text == text


def receipt(data: bytes) -> None:
    text = text_of(data)
    found = ours(lambda: (r := parse_receipt(text), r.checkpoint)[0])
    agree(found, theirs(lambda: verify.parse_receipt(text)), data)
    if found is not None:
        assert found.text == text


def policy(data: bytes) -> None:
    text = text_of(data)
    found, second = ours(lambda: parse_trust(text)), theirs(lambda: verify.parse_policy(text))
    agree(found, second, data)
    if found is not None and second is not None:
        assert found.text == second.text == text


def bundle(data: bytes) -> None:
    found, second = ours(lambda: tiles.unpack(data)), theirs(lambda: verify.unpack(data))
    assert found == second, data
    if found is not None:
        assert tiles.pack(found) == data


def envelope(data: bytes) -> None:
    if (found := ours(lambda: parse_envelope(data))) is not None:
        assert envelope_bytes(found) == data


def leaf(data: bytes) -> None:
    found, second = ours(lambda: decode(data)), theirs(lambda: verify.parse_entry(0, data))
    agree(found, second, data)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (json_bytes, note, checkpoint, cosignature, vkey, receipt, policy, bundle, envelope, leaf)
}
