"""Who states a fact: signatures over type and bytes, keys that only their owner can read."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from fedge.encoding import b64encode
from fedge.errors import FedgeError, ParseError, SignatureError, StorageError
from fedge.signing import (
    PrivateKey,
    PublicKey,
    envelope_bytes,
    generate,
    load_private,
    parse_envelope,
    public_key,
    save_private,
    seal,
    unseal,
)

KEY, OTHER = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)
KIND = "application/vnd.fedge.test+json"


def test_the_first_vector_of_rfc_8032() -> None:
    """https://www.rfc-editor.org/rfc/rfc8032#section-7.1, TEST 1: the empty message."""
    key = PrivateKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")


def test_the_signed_bytes_are_dsse_v1() -> None:
    """https://github.com/secure-systems-lab/dsse/blob/master/protocol.md: PAE(type, body)."""
    envelope = seal("http://example.com/HelloWorld", "hello", KEY)
    KEY.public.verify(envelope.signature, b'DSSEv1 29 http://example.com/HelloWorld 7 "hello"')


def test_seal_then_unseal_is_the_body() -> None:
    body = {"a": [1, None, "é"]}
    assert unseal(parse_envelope(envelope_bytes(seal(KIND, body, KEY))), KIND, KEY.public) == body


def test_one_type_never_passes_for_another() -> None:
    with pytest.raises(SignatureError, match="expected a"):
        unseal(seal("update", {}, KEY), "refusal", KEY.public)


def test_the_type_is_signed() -> None:
    envelope = seal("update", {}, KEY)
    renamed = type(envelope)("refusal", envelope.payload, envelope.key_id, envelope.signature)
    with pytest.raises(SignatureError, match="does not verify"):
        unseal(renamed, "refusal", KEY.public)


def test_another_key_does_not_verify() -> None:
    envelope = seal(KIND, {}, KEY)
    with pytest.raises(SignatureError, match="signed by key"):
        unseal(envelope, KIND, OTHER.public)
    claimed = type(envelope)(KIND, envelope.payload, OTHER.public.key_id, envelope.signature)
    with pytest.raises(SignatureError, match="does not verify"):
        unseal(claimed, KIND, OTHER.public)


@given(st.data())
def test_one_flipped_bit_is_noticed(data: st.DataObject) -> None:
    original = envelope_bytes(seal(KIND, {"n": 1, "text": "abc"}, KEY))
    place = data.draw(st.integers(0, 8 * len(original) - 1))
    flipped = bytearray(original)
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(FedgeError):
        unseal(parse_envelope(bytes(flipped)), KIND, KEY.public)


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"signatures": []},
        {"signatures": [{"keyid": "a", "sig": ""}] * 2},
        {"signatures": [{"keyid": "a"}]},
        {"signatures": [{"keyid": 1, "sig": ""}]},
        {"signatures": "no"},
        {"payload": "===="},
        {"payload": 5},
        {"payloadType": None},
    ],
)
def test_what_is_no_envelope(change: dict[str, object]) -> None:
    plain = json.loads(envelope_bytes(seal(KIND, {}, KEY))) | change
    with pytest.raises((ParseError, SignatureError)):
        unseal(parse_envelope(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()), KIND, KEY.public)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"text"', b"\xff", b"{}"])
def test_garbage_is_no_envelope(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_envelope(data)


def test_a_public_key_has_a_text_form() -> None:
    assert public_key(KEY.public.text) == KEY.public
    assert KEY.public.key_id == hashlib.sha256(KEY.public.raw).hexdigest()[:16]


@pytest.mark.parametrize("text", ["", "ed25519", "ed25519:", "rsa:AAAA", "ed25519:" + b64encode(b"short"), "ed25519:!"])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(ParseError):
        public_key(text)


def test_a_point_that_is_none_verifies_nothing() -> None:
    with pytest.raises(SignatureError):
        PublicKey(b"\xff" * 32).verify(bytes(64), b"")


# ---- key files --------------------------------------------------------------------------------------------------


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "client.key"
    key = generate(os.urandom)
    save_private(key, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_private(path) == key


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    save_private(KEY, tmp_path / "key")
    with pytest.raises(StorageError, match="a key already"):
        save_private(OTHER, tmp_path / "key")
    assert load_private(tmp_path / "key") == KEY


def test_a_key_that_others_can_read_is_refused_and_the_fix_named(tmp_path: Path) -> None:
    save_private(KEY, tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(StorageError, match="chmod 600"):
        load_private(tmp_path / "key")


def test_a_key_file_that_is_missing_or_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        load_private(tmp_path / "none")
    for name, content in {"garbage": b"-----BEGIN", "curve": _p256()}.items():
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ParseError):
            load_private(path)


def test_a_private_key_does_not_print_itself() -> None:
    assert str(KEY.seed) not in repr(KEY)
    assert KEY.seed.hex() not in repr(KEY)


def _p256() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
