"""The hashes of a log, stored beside its entries: growing, proving and restarting cost O(log n), whatever its length.

Every hash of a complete subtree is stored once, in the order in which it comes to be: the leaf, then the nodes that it
completes. That sequence only grows, so it is a Journal like the entries, appended in the same transaction. The hash of
the subtree (level, index) lies at a position that arithmetic gives; so a proof is one query, and nothing but the right
edge of the tree is kept in memory. The same order is that of Go's checksum database (golang.org/x/mod/sumdb/tlog).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedge.audit import merkle
from fedge.audit.merkle import EMPTY_ROOT, Address, cover, node_hash
from fedge.errors import StorageError
from fedge.journal import Journal


@dataclass(frozen=True)
class Edge:
    """The complete subtrees that make up a tree of `size` leaves, from the left, the largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @property
    def root(self) -> bytes:
        """The root of the tree."""
        return merkle.join(self.hashes) if self.hashes else EMPTY_ROOT


def grow(edge: Edge, leaves: Iterable[bytes]) -> tuple[Edge, list[bytes]]:
    """Return the edge after `leaves` were added, and every hash that came to be, in the order they are stored."""
    size, stack, stored = edge.size, list(edge.hashes), []
    for leaf in leaves:
        stack.append(leaf)
        stored.append(leaf)
        size += 1
        for _ in range(_completed(size)):
            right = stack.pop()
            stack[-1] = node_hash(stack[-1], right)
            stored.append(stack[-1])
    return Edge(size, tuple(stack)), stored


def count(size: int) -> int:
    """Return how many hashes a tree of `size` leaves stores."""
    return 2 * size - size.bit_count()


def position(address: Address) -> int:
    """Return where the hash of a complete subtree is stored."""
    level, index = address
    last = ((index + 1) << level) - 1
    return count(last) + level


def size_of(stored: int) -> int:
    """Return the number of leaves of a tree that stores `stored` hashes. Raises StorageError if none does."""
    size = stored // 2
    while count(size) < stored:
        size += 1
    if count(size) != stored:
        raise StorageError(f"{stored} hashes belong to no tree: the log's database is damaged; restore the latest copy")
    return size


class StoredTree:
    """The tree of the hashes in a Journal; `edge` is what `grow` continues."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        size = size_of(journal.size())
        self.edge = Edge(size, tuple(self.hashes(cover(0, size))))

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self.edge.size

    def store(self, leaves: Iterable[bytes]) -> Edge:
        """Append the hashes that `leaves` bring, and return the new edge; the caller adopts it once all is durable."""
        edge, stored = grow(self.edge, leaves)
        self._journal.append(stored, expected_size=count(self.size))
        return edge

    def hashes(self, addresses: Sequence[Address]) -> list[bytes]:
        """Return the hashes of complete subtrees; one query."""
        return self._journal.pick([position(a) for a in addresses])

    def leaves(self, start: int, stop: int) -> list[bytes]:
        """Return the hashes of leaves `start` to `stop`."""
        return self.hashes([(0, index) for index in range(start, stop)])

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves (all by default)."""
        return self.edge.root if size in {None, self.size} else merkle.root(self, size)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the proof that leaf `index` is in the tree of the first `size` leaves."""
        return merkle.inclusion(self, index, size)

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the first `new` leaves begin with the first `old` (0 < old <= new)."""
        return merkle.consistency(self, old, new)


def _completed(size: int) -> int:
    """Return how many subtrees leaf number `size` (counted from 1) completes: its trailing zero bits."""
    return (size & -size).bit_length() - 1
