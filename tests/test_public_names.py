"""The public face: what `fedge` promises to name, and every error in its drawn tree with its exit code."""

import inspect
import re
from collections.abc import Iterator

import pytest

from fedge import errors
from fedge.errors import FedgeError

DRAWN = re.compile(
    r"^ *(?P<branch>(?:│   |    )*(?:├── |└── )?)(?P<name>[A-Z]\w+) *(?:exit (?P<code>\d+))?", re.MULTILINE
)


def drawn() -> Iterator[tuple[str, str | None, int | None]]:
    """Yield (name, its parent, exit code if one is drawn) for every error in the tree at the top of the file."""
    above: list[str] = []
    tree = "\n".join(line for line in (errors.__doc__ or "").splitlines() if line.startswith("    "))
    for found in DRAWN.finditer(tree):
        depth = len(found["branch"]) // 4
        del above[depth:]
        yield found["name"], above[-1] if above else None, int(found["code"]) if found["code"] else None
        above.append(found["name"])


TREE = list(drawn())


def test_every_error_is_drawn_and_every_drawn_error_is() -> None:
    here = {n for n, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, FedgeError)}
    assert {name for name, _, _ in TREE} == here


@pytest.mark.parametrize(("name", "parent", "code"), TREE, ids=[name for name, _, _ in TREE])
def test_error_stands_where_it_is_drawn(name: str, parent: str | None, code: int | None) -> None:
    kind = getattr(errors, name)
    assert kind.__bases__[0].__name__ == (parent or "Exception")
    assert kind.__doc__
    above = getattr(errors, parent) if parent else None
    assert kind.exit_code == (above.exit_code if code is None and above else code)


def test_exit_codes_tell_the_branches_apart() -> None:
    codes = [kind.exit_code for kind in FedgeError.__subclasses__() if kind.__module__ == errors.__name__]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
