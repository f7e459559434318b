"""Merkle tree hashing and proofs of RFC 6962 / RFC 9162: pure functions on integers and bytes, and a growing tree.

    root([]) = SHA-256("")     leaf: SHA-256(0x00 || data)     node: SHA-256(0x01 || left || right)

A list of n leaves is split at the largest power of two below n. Source: https://www.rfc-editor.org/rfc/rfc9162,
sections 2.1.3.2 (inclusion) and 2.1.4.2 (consistency).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

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


Address = tuple[int, int]
"""(level, index): the complete subtree of 2**level leaves that begins at leaf index * 2**level."""


class Hashes(Protocol):
    """Where the hashes of a tree are to be had: in memory, or stored."""

    @property
    def size(self) -> int:
        """The number of leaves."""
        ...

    def hashes(self, addresses: Sequence[Address]) -> list[bytes]:
        """Return the hashes of complete subtrees."""
        ...


def cover(start: int, stop: int) -> list[Address]:
    """Return the complete subtrees that make up leaves start … stop - 1, from the left, the largest first.

    `start` is a multiple of the largest of them.
    """
    addresses = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        addresses.append((level, start >> level))
        start += 1 << level
    return addresses


def join(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of what complete subtrees, from the left and the largest first, make up together."""
    *rest, joined = hashes
    for left in reversed(rest):
        joined = node_hash(left, joined)
    return joined


def root(tree: Hashes, size: int | None = None) -> bytes:
    """Return the root of the first `size` leaves of `tree` (all by default)."""
    wanted = _checked(tree, size)
    return join(tree.hashes(cover(0, wanted))) if wanted else EMPTY_ROOT


def inclusion(tree: Hashes, index: int, size: int | None = None) -> list[bytes]:
    """Return the proof that leaf `index` is in the tree of the first `size` leaves."""
    wanted = _checked(tree, size)
    if not 0 <= index < wanted:
        raise ProofError(f"index {index} is not in a tree of size {wanted}")
    return _joined(tree, siblings(index, 0, wanted))


def consistency(tree: Hashes, old: int, new: int | None = None) -> list[bytes]:
    """Return the proof that the first `new` leaves begin with the first `old` (0 < old <= new)."""
    wanted = _checked(tree, new)
    if not 0 < old <= wanted:
        raise ProofError(f"a tree of size {wanted} cannot be shown to extend one of size {old}")
    return _joined(tree, _subproof(old, 0, wanted, whole=True))


class Tree:
    """A tree in memory that grows: appending costs O(1) hashes on average, a root or a proof O(log n).

    `_levels[k]` holds the hashes of all complete subtrees of 2**k leaves, from the left.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        self.extend(leaves)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0])

    def hashes(self, addresses: Sequence[Address]) -> list[bytes]:
        """Return the hashes of complete subtrees."""
        return [self._levels[level][index] for level, index in addresses]

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        for leaf in leaves:
            self._append(leaf)

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves (all by default)."""
        return root(self, size)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the proof that leaf `index` is in the tree of the first `size` leaves."""
        return inclusion(self, index, size)

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the first `new` leaves begin with the first `old` (0 < old <= new)."""
        return consistency(self, old, new)

    def _append(self, leaf: bytes) -> None:
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(node_hash(*self._levels[level][-2:]))
            level += 1


Range = tuple[int, int]
"""(start, stop): leaves start … stop - 1, one node of the tree."""


def _joined(tree: Hashes, ranges: Sequence[Range]) -> list[bytes]:
    """Return the hash of each range; all that is needed is asked for at once."""
    covers = [cover(*r) for r in ranges]
    found = iter(tree.hashes([address for c in covers for address in c]))
    return [join([next(found) for _ in c]) for c in covers]


def siblings(index: int, start: int, stop: int) -> list[Range]:
    """Return what stands beside the way from leaf `index` up to the root of leaves start … stop - 1, from below."""
    path: list[Range] = []
    while stop - start > 1:
        split = start + _split(stop - start)
        inside, beside = ((start, split), (split, stop)) if index < split else ((split, stop), (start, split))
        path.append(beside)
        start, stop = inside
    return path[::-1]


def _subproof(old: int, start: int, stop: int, *, whole: bool) -> list[Range]:
    if start + old == stop:
        return [] if whole else [(start, stop)]
    split = _split(stop - start)
    if old <= split:
        return [*_subproof(old, start, start + split, whole=whole), (start + split, stop)]
    return [*_subproof(old - split, start + split, stop, whole=False), (start, start + split)]


def _checked(tree: Hashes, size: int | None) -> int:
    if size is None:
        return tree.size
    if not 0 <= size <= tree.size:
        raise ProofError(f"the tree has {tree.size} leaves, not {size}")
    return size


def _split(width: int) -> int:
    """Return the largest power of two below `width` (at least 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(h) != HASH_BYTES for h in hashes):
        raise ProofError("a hash of a proof does not have 32 bytes")
