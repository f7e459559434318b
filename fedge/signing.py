"""Ed25519 keys and DSSE envelopes: who states a fact.

A signed fact is a DSSE envelope (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, v1) around
canonical JSON. The signature covers the payload type as well, so an update can never pass for a refusal.
Private keys live in files with mode 0600 and never appear in a message, a log or an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.encoding import b64decode, b64encode, canonical, parse
from fedge.errors import ParseError, SignatureError, StorageError
from fedge.files import write_atomically

RandomBytes = Callable[[int], bytes]
PASSPHRASE = "FEDGE_KEY_PASSPHRASE"
"""The environment variable that the roof reads the passphrase of key files from, and hands down."""


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key, 32 raw bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise ParseError("an Ed25519 public key has 32 bytes")

    @property
    def text(self) -> str:
        """`ed25519:<base64>`; the inverse of `public_key`."""
        return "ed25519:" + b64encode(self.raw)

    @property
    def key_id(self) -> str:
        """First 16 hex digits of SHA-256 of the raw key: how logs name a party."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise SignatureError unless `signature` (64 bytes) over `message` is this key's."""
        try:
            self._key.verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise SignatureError(f"signature of key {self.key_id} does not verify") from error

    @cached_property
    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)


@dataclass(frozen=True)
class PrivateKey:
    """An Ed25519 private key; its repr shows only the public half."""

    seed: bytes = field(repr=False)

    @cached_property
    def public(self) -> PublicKey:
        """The public half."""
        raw = self._key.public_key()
        return PublicKey(raw.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return self._key.sign(message)

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def generate(random_bytes: RandomBytes) -> PrivateKey:
    """Return a new key from 32 bytes of `random_bytes`, e.g. `os.urandom`."""
    return PrivateKey(random_bytes(32))


def public_key(text: str) -> PublicKey:
    """Return the key of `ed25519:<base64>`; the inverse of `PublicKey.text`."""
    kind, _, rest = text.partition(":")
    if kind != "ed25519":
        raise ParseError(f"{text[:16]!r} is not an ed25519 public key")
    return PublicKey(b64decode(rest))


def save_private(key: PrivateKey, path: Path, passphrase: str | None = None) -> None:
    """Write `key` as PKCS#8 PEM to a new file that only its owner can read; never over another key.

    With a passphrase the file is encrypted, and of no use to whoever copies it.
    """
    if path.exists():
        raise StorageError(f"cannot write the key file {path}: there is a key already")
    write_atomically(path, _pem(key, passphrase), mode=0o600)


def protect_private(path: Path, old: str | None, new: str | None) -> None:
    """Write the key in `path` anew under passphrase `new` (None: under none); the key stays the same."""
    write_atomically(path, _pem(load_private(path, old), new), mode=0o600)


def _pem(key: PrivateKey, passphrase: str | None) -> bytes:
    how = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    return Ed25519PrivateKey.from_private_bytes(key.seed).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how
    )


def load_private(path: Path, passphrase: str | None = None) -> PrivateKey:
    """Read a key that `save_private` wrote; refuses a file that others may read.

    A passphrase given for a key that has none is not used: one passphrase may serve a folder of both.
    """
    try:
        mode, pem = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the key file {path}: {error.strerror}") from error
    if mode & 0o077:
        raise StorageError(f"the key file {path} is open to others; run: chmod 600 {path}")
    protected = b"ENCRYPTED PRIVATE KEY" in pem
    if protected and not passphrase:
        raise StorageError(f"the key file {path} is protected by a passphrase; give it in {PASSPHRASE}")
    try:
        key = serialization.load_pem_private_key(pem, password=(passphrase or "").encode() if protected else None)
    except (ValueError, TypeError) as error:
        if protected:
            raise StorageError(f"the passphrase does not open the key file {path}, or the file is damaged") from error
        raise ParseError(f"{path} is not a private key in PEM form") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ParseError(f"{path} is not an Ed25519 key")
    return PrivateKey(
        key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    )


@dataclass(frozen=True)
class Envelope:
    """A DSSE v1 envelope with one signature: `payload` are canonical JSON bytes of type `payload_type`."""

    payload_type: str
    payload: bytes
    key_id: str
    signature: bytes


def seal(payload_type: str, body: Any, key: PrivateKey) -> Envelope:
    """Sign plain `body` as a DSSE envelope."""
    payload = canonical(body)
    return Envelope(payload_type, payload, key.public.key_id, key.sign(_pae(payload_type, payload)))


def unseal(envelope: Envelope, payload_type: str, key: PublicKey) -> Any:
    """Return the plain body of `envelope` after checking its type, key and signature.

    Raises SignatureError or ParseError.
    """
    if envelope.payload_type != payload_type:
        raise SignatureError(f"expected a {payload_type}, found a {envelope.payload_type}")
    if envelope.key_id != key.key_id:
        raise SignatureError(f"signed by key {envelope.key_id}, expected {key.key_id}")
    key.verify(envelope.signature, _pae(envelope.payload_type, envelope.payload))
    return parse(envelope.payload)


def envelope_bytes(envelope: Envelope) -> bytes:
    """Return the canonical JSON bytes of `envelope`: this is what a log leaf holds."""
    return canonical(
        {
            "payload": b64encode(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [{"keyid": envelope.key_id, "sig": b64encode(envelope.signature)}],
        }
    )


def parse_envelope(data: bytes) -> Envelope:
    """Return the envelope of `envelope_bytes`; any other spelling raises ParseError."""
    try:
        plain = parse(data)
        (signature,) = plain["signatures"]
        envelope = Envelope(
            plain["payloadType"], b64decode(plain["payload"]), signature["keyid"], b64decode(signature["sig"])
        )
        same = envelope_bytes(envelope) == data
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ParseError("not a DSSE envelope with one signature") from error
    if not same:
        raise ParseError("DSSE envelope has members that do not belong there")
    return envelope


def _pae(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
