"""The tree: published vectors, a plain recursion as oracle, and the verifier's second writing of it."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedge.audit import verify
from fedge.audit.merkle import EMPTY_ROOT, Tree, leaf_hash, node_hash, verify_consistency, verify_inclusion
from fedge.errors import ProofError

# Of the reference implementation of RFC 6962, https://github.com/google/certificate-transparency (merkle tree tests).
DATA = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MOST = 300
LEAVES = [leaf_hash(str(i).encode()) for i in range(MOST)]


# ---- the oracle: RFC 6962, section 2.1, word for word ------------------------------------------------------------


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def plain_root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(plain_root(leaves[:k]), plain_root(leaves[k:]))


def plain_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*plain_path(m, leaves[:k]), plain_root(leaves[k:])]
    return [*plain_path(m - k, leaves[k:]), plain_root(leaves[:k])]


def plain_proof(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    return plain_subproof(m, leaves, whole=True)


def plain_subproof(m: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [plain_root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*plain_subproof(m, leaves[:k], whole=whole), plain_root(leaves[k:])]
    return [*plain_subproof(m - k, leaves[k:], whole=False), plain_root(leaves[:k])]


# ---- golden numbers ----------------------------------------------------------------------------------------------


def test_the_roots_of_rfc_6962() -> None:
    leaves = [leaf_hash(bytes.fromhex(d)) for d in DATA]
    assert EMPTY_ROOT.hex() == ROOTS[0]
    assert [Tree(leaves[:n]).root().hex() for n in range(9)] == ROOTS
    assert [verify.Tree(leaves).root(n).hex() for n in range(9)] == ROOTS


def vectors(folder: Path, kind: str) -> list[dict[str, object]]:
    found = [json.loads(p.read_text()) for p in sorted((folder / "vectors" / "merkle" / kind).rglob("*.json"))]
    assert len(found) > 50, f"only {len(found)} vectors of {kind} in {folder}"
    return found


def raw(text: object) -> bytes:
    return base64.b64decode(str(text))


def hashes(texts: object) -> list[bytes]:
    return [raw(t) for t in texts or []]  # type: ignore[attr-defined]


def test_every_inclusion_vector(shared: Path) -> None:
    wanted = {True: 0, False: 0}
    for case in vectors(shared, "inclusion"):
        arguments = (case["leafIdx"], case["treeSize"], raw(case["leafHash"]), hashes(case["proof"]), raw(case["root"]))
        assert _accepts_inclusion(*arguments) != case["wantErr"], case["desc"]  # type: ignore[arg-type]
        assert _verifier_accepts(*arguments) != case["wantErr"], case["desc"]  # type: ignore[arg-type]
        wanted[bool(case["wantErr"])] += 1
    assert min(wanted.values()) > 0, "the vectors hold cases of both kinds"


def test_every_consistency_vector(shared: Path) -> None:
    wanted = {True: 0, False: 0}
    for case in vectors(shared, "consistency"):
        roots = raw(case["root1"]), raw(case["root2"])
        try:
            verify_consistency(int(str(case["size1"])), int(str(case["size2"])), hashes(case["proof"]), *roots)
            accepted = True
        except ProofError:
            accepted = False
        assert accepted != case["wantErr"], case["desc"]
        wanted[bool(case["wantErr"])] += 1
    assert min(wanted.values()) > 0, "the vectors hold cases of both kinds"


def _accepts_inclusion(index: int, size: int, leaf: bytes, proof: list[bytes], root: bytes) -> bool:
    try:
        verify_inclusion(index, size, leaf, proof, root)
    except ProofError:
        return False
    return True


def _verifier_accepts(index: int, size: int, leaf: bytes, proof: list[bytes], root: bytes) -> bool:
    try:
        return verify.root_of_proof(index, size, leaf, proof) == root
    except verify.Unproven:
        return False


# ---- the fast tree against the oracle, for every size ------------------------------------------------------------


def test_roots_of_every_size() -> None:
    tree, second = Tree(LEAVES), verify.Tree(LEAVES)
    for size in range(MOST):
        expected = plain_root(LEAVES[:size])
        assert tree.root(size) == expected
        assert second.root(size) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 100, 127, 128, 129, 255, 256, 257, 299])
def test_proofs_of_a_size(size: int) -> None:
    tree, leaves = Tree(LEAVES), LEAVES[:size]
    for index in range(size):
        assert tree.inclusion(index, size) == plain_path(index, leaves)
    for old in range(1, size + 1):
        assert tree.consistency(old, size) == plain_proof(old, leaves)


def test_every_proof_of_every_size_verifies() -> None:
    """One index and one older size for each size, so that each is met; the oracle above compares whole sizes."""
    tree = Tree(LEAVES)
    roots = [tree.root(n) for n in range(MOST + 1)]
    for size in range(1, MOST):
        index, old = (size * 7919) % size, (size * 104729) % size + 1
        for place in {0, index, size // 2, size - 1}:
            proof = tree.inclusion(place, size)
            verify_inclusion(place, size, LEAVES[place], proof, roots[size])
            assert verify.root_of_proof(place, size, LEAVES[place], proof) == roots[size]
        for before in {1, old, size}:
            verify_consistency(before, size, tree.consistency(before, size), roots[before], roots[size])


def test_consistency_from_nothing_is_refused() -> None:
    with pytest.raises(ProofError, match="cannot be shown"):
        verify_consistency(0, 5, [], EMPTY_ROOT, Tree(LEAVES).root(5))
    with pytest.raises(ProofError, match="cannot be shown"):
        Tree(LEAVES).consistency(0, 5)


def test_two_trees_of_one_size_are_a_fork() -> None:
    with pytest.raises(ProofError, match="a fork"):
        verify_consistency(2, 2, [], Tree(LEAVES[:2]).root(), Tree(LEAVES[1:3]).root())
