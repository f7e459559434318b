"""The drawn proof climbs to the root for every entry of every tree, and says so in red where it does not."""

import xml.etree.ElementTree as ET

import pytest

from fedge.audit.merkle import Tree, leaf_hash
from fedge.reports.viewer.tree import Node, climb, draw

LARGEST = 40
TREES = {size: Tree(leaf_hash(bytes([n])) for n in range(size)) for size in range(1, LARGEST + 1)}


@pytest.mark.parametrize("size", TREES)
def test_it_climbs_to_the_root_of_every_tree(size: int) -> None:
    tree = TREES[size]
    for index in range(size):
        leaf = leaf_hash(bytes([index]))
        steps = climb(index, size, leaf, tree.inclusion(index))
        top = steps[-1].node if steps else Node((index, index + 1), leaf)
        assert top == Node((0, size), tree.root())
        for step in steps:  # what is beside the way is what a subtree of these entries hashes to
            first, stop = step.sibling.entries
            assert step.sibling.hash == Tree(leaf_hash(bytes([n])) for n in range(first, stop)).root()


def test_a_proof_of_another_length_is_none() -> None:
    with pytest.raises(ValueError, match="zip"):
        climb(3, 8, b"x" * 32, [b"y" * 32])


def test_the_drawing_is_whole_and_shows_a_false_root_as_broken() -> None:
    tree = TREES[13]
    leaf = Node((5, 6), leaf_hash(bytes([5])))
    steps = climb(5, 13, leaf.hash, tree.inclusion(5))
    whole, broken = draw(leaf, steps, tree.root()), draw(leaf, steps, b"z" * 32)
    kinds = [g.get("class") for g in ET.fromstring(whole).iter("g")]
    assert (kinds.count("leaf"), kinds.count("root"), kinds.count("broken")) == (1, 1, 0)
    assert kinds.count("given") == len(steps)
    assert kinds.count("computed") == len(steps) - 1
    assert [g.get("class") for g in ET.fromstring(broken).iter("g")].count("broken") == 1
    assert "NOT the signed root" in broken
    for text in ("entry 5", "entry 4", "8 – 12", "root, 0 – 12"):
        assert text in whole


def test_a_log_of_one_entry_is_its_own_root() -> None:
    leaf = Node((0, 1), leaf_hash(b"\x00"))
    assert "the only entry is the root" in draw(leaf, [], leaf.hash)
