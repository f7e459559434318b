"""A client's own signing key, and how another takes its place while runs go on.

The order of effects: the new key is durable in `client.key.next` before anybody is told of it; the old key states the
change (`key_rotate`) in every run that the client speaks in, durable before it is sent; then the new key takes the old
one's place. If we crash in between, what has been stated is not stated again, and the exchange is completed by the next
order. The old key is not kept: whatever it signs later, no log takes in.
"""

from __future__ import annotations

from pathlib import Path

from fedge.files import write_atomically
from fedge.signing import PrivateKey, RandomBytes, generate, load_private, save_private


class ClientKey:
    """The key in a client's folder, read once; `passphrase` opens the file."""

    def __init__(self, path: Path, passphrase: str | None = None) -> None:
        self._path, self._passphrase = path, passphrase
        self.current = load_private(path, passphrase)

    def wanted(self) -> PrivateKey | None:
        """Return the key that is to replace the current one, or None if no change was asked for."""
        path = next_key(self._path)
        if not path.exists():
            return None
        key = load_private(path, self._passphrase)
        if key == self.current:  # we crashed when the exchange was done but for this
            path.unlink()
            return None
        return key

    def switch(self) -> None:
        """Put the wanted key into the current one's place."""
        path = next_key(self._path)
        write_atomically(self._path, path.read_bytes(), mode=0o600)
        self.current = load_private(self._path, self._passphrase)
        path.unlink()


class DerivedKey(ClientKey):
    """A key that lies in no file, so that none can take its place: that of a client among thousands simulated ones."""

    def __init__(self, key: PrivateKey) -> None:
        self.current = key

    def wanted(self) -> PrivateKey | None:
        """Return None: it stays."""
        return None


def next_key(path: Path) -> Path:
    """Return where the key lies that is to replace the one in `path`."""
    return path.with_name(path.name + ".next")


def ask_for_change(path: Path, random_bytes: RandomBytes, passphrase: str | None = None) -> PrivateKey:
    """Lay a new key beside the one in `path`; the client changes to it with its next answer.

    Raises StorageError if a change is asked for already, or the current key cannot be read.
    """
    load_private(path, passphrase)
    fresh = generate(random_bytes)
    save_private(fresh, next_key(path), passphrase)
    return fresh
