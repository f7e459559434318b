"""Merkle tree hashing and proofs of RFC 6962 / RFC 9162: pure functions on integers and bytes, and a growing tree.

    root([]) = SHA-256("")     leaf: SHA-256(0x00 || data)     node: SHA-256(0x01 || left || right)

A list of n leaves is split at the largest power of two below n. Source: https://www.rfc-editor.org/rfc/rfc9162,
sections 2.1.3.2 (inclusion) and 2.1.4.2 (consistency).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from fedge.errors import ProofError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds `data`."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless `proof` shows that `leaf` is the hash at `index` of the tree of `size` with `root`."""
    if not 0 <= index < size:
        raise ProofError(f"index {index} is not in a tree of size {size}")
    _check_hashes([leaf, root, *proof])
    node, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("the inclusion proof is too short")
    if found != root:
        raise ProofError(f"entry {index} is not in the tree of size {size} with this root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Raise ProofError unless `proof` shows that the tree of size `new` begins with the tree of size `old`.

    Size 0 is always rejected: everything begins with nothing, so there is nothing to prove.
    """
    if not 0 < old <= new:
        raise ProofError(f"a tree of size {new} cannot be shown to extend one of size {old}")
    _check_hashes([old_root, new_root, *proof])
    if old == new:
        if proof or old_root != new_root:
            raise ProofError(f"two different trees of size {old}: a fork")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise ProofError("the consistency proof is empty")
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or before != old_root or after != new_root:
        raise ProofError(f"the tree of size {new} does not extend the one of size {old}: entries were changed")


class Tree:
    """A tree that grows: appending costs O(1) hashes on average, a root or a proof O(log n).

    `levels[k]` holds the hashes of all complete subtrees of 2**k leaves, from the left.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        self.extend(leaves)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0])

    def level(self, k: int) -> Sequence[bytes]:
        """Return the hashes of the complete subtrees of 2**k leaves."""
        return self._levels[k] if k < len(self._levels) else []

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        for leaf in leaves:
            self._append(leaf)

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves (all by default)."""
        wanted = self._checked(self.size if size is None else size)
        return self._range(0, wanted) if wanted else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the proof that leaf `index` is in the tree of the first `size` leaves."""
        wanted = self._checked(self.size if size is None else size)
        if not 0 <= index < wanted:
            raise ProofError(f"index {index} is not in a tree of size {wanted}")
        return self._path(index, 0, wanted)

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the first `new` leaves begin with the first `old` (0 < old <= new)."""
        wanted = self._checked(self.size if new is None else new)
        if not 0 < old <= wanted:
            raise ProofError(f"a tree of size {wanted} cannot be shown to extend one of size {old}")
        return self._subproof(old, 0, wanted, whole=True)

    def _append(self, leaf: bytes) -> None:
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(node_hash(*self._levels[level][-2:]))
            level += 1

    def _range(self, start: int, stop: int) -> bytes:
        """Return the hash of leaves start … stop - 1; `start` is a multiple of the subtree that it begins."""
        width = stop - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._levels[level][start >> level]
        split = start + _split(width)
        return node_hash(self._range(start, split), self._range(split, stop))

    def _path(self, index: int, start: int, stop: int) -> list[bytes]:
        if stop - start == 1:
            return []
        split = start + _split(stop - start)
        if index < split:
            return [*self._path(index, start, split), self._range(split, stop)]
        return [*self._path(index, split, stop), self._range(start, split)]

    def _subproof(self, old: int, start: int, stop: int, *, whole: bool) -> list[bytes]:
        if start + old == stop:
            return [] if whole else [self._range(start, stop)]
        split = _split(stop - start)
        if old <= split:
            return [*self._subproof(old, start, start + split, whole=whole), self._range(start + split, stop)]
        rest = self._subproof(old - split, start + split, stop, whole=False)
        return [*rest, self._range(start, start + split)]

    def _checked(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ProofError(f"the tree has {self.size} leaves, not {size}")
        return size


def _split(width: int) -> int:
    """Return the largest power of two below `width` (at least 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(h) != HASH_BYTES for h in hashes):
        raise ProofError("a hash of a proof does not have 32 bytes")
