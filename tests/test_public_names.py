"""The public face: what `fedge` promises to name, and every error in its drawn tree with its exit code."""

import inspect
import re
from collections.abc import Iterator

import pytest

import fedge
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


# ---- names ------------------------------------------------------------------------------------------------------

PUBLIC = {
    "__version__", "run", "resume", "Result", "Watch", "RunConfig", "Task", "Data", "Records", "accuracy",
    "cross_entropy", "verify_run", "Verification", "check_house", "FedgeError",
}  # fmt: skip
"""What people's code may rely on; a name may be added here, and none is taken away without a new major version."""


def test_the_public_names_are_these() -> None:
    assert set(fedge.__all__) == PUBLIC
    assert len(fedge.__all__) == len(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_can_be_had_is_listed_and_says_what_it_is(name: str) -> None:
    value = getattr(fedge, name)
    assert name in dir(fedge)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"'runn'.*it offers: .*resume"):
        _ = fedge.runn  # type: ignore[attr-defined]
