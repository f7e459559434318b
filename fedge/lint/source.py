"""Python source as the rules see it: its calls, what they were given, and whether they happen again and again.

The source is parsed, never imported or run. A value is known where it is written down: as a literal, as a name that is
assigned one literal, or as an entry of a Flower app's run configuration.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedge.errors import ConfigError

EVERY_ROUND = frozenset({"fit", "evaluate"})
"""Methods of a Flower client that run once a round; functions of an app say so by their decorator."""
DECORATORS = frozenset({"train", "evaluate", "query"})
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Call:
    """One call: its bare `name`, the function that it stands in, and whether it stands in a loop there."""

    name: str
    node: ast.Call
    place: str
    function: str | None
    looped: bool

    def argument(self, keyword: str, position: int | None = None) -> ast.expr | None:
        """Return the argument given by keyword or position, None if it was not given."""
        named = next((k.value for k in self.node.keywords if k.arg == keyword), None)
        if named is None and position is not None and position < len(self.node.args):
            return self.node.args[position]
        return named

    def says(self, keyword: str, value: object) -> bool:
        """Return whether `keyword` was given as this literal."""
        given = self.argument(keyword)
        return isinstance(given, ast.Constant) and given.value == value and type(given.value) is type(value)


@dataclass(frozen=True)
class Program:
    """All source of a script or an app; `config` is the run configuration of a Flower app."""

    modules: Mapping[str, ast.Module]
    config: Mapping[str, object] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    every_round: frozenset[str] = frozenset()
    literals: Mapping[str, object] = field(default_factory=dict)

    def named(self, *names: str) -> Iterator[Call]:
        """Yield the calls of functions or classes of these names."""
        return (call for call in self.calls if call.name in names)

    def repeated(self, call: Call) -> bool:
        """Return whether `call` happens again and again: in a loop, or in what runs every round."""
        return call.looped or call.function in self.every_round

    def number(self, node: ast.expr | None) -> float | None:
        """Return the number that `node` is known to be."""
        value: object = None
        match node:
            case ast.Constant(value):
                pass
            case ast.Name(name):
                value = self.literals.get(name)
            case ast.Subscript(ast.Attribute(attr="run_config"), ast.Constant(str(key))):
                value = self.config.get(key)
            case ast.Call(ast.Name("int" | "float"), [inner]):
                return self.number(inner)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def walk(self) -> Iterator[tuple[str, ast.AST]]:
        """Yield every node with its file."""
        for file, module in self.modules.items():
            for node in ast.walk(module):
                yield file, node


def program(sources: Mapping[str, bytes], config: Mapping[str, object] | None = None) -> Program:
    """Return the program of `sources`, by file name. Raises ConfigError for what is not Python."""
    modules = {file: _parsed(file, source) for file, source in sources.items()}
    calls = tuple(call for file, module in modules.items() for call in _calls(file, module))
    entries = {name for module in modules.values() for name in _entries(module)}
    return Program(modules, config or {}, calls, _reached(calls, entries), _literals(modules))


def read(files: Mapping[str, Path]) -> dict[str, bytes]:
    """Return the bytes of `files`. Raises ConfigError."""
    try:
        return {name: path.read_bytes() for name, path in files.items()}
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from error


def _parsed(file: str, source: bytes) -> ast.Module:
    try:
        return ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{file} is not Python that can be read: {error}") from error


def _calls(file: str, module: ast.Module) -> Iterator[Call]:
    """Yield every call with where it stands; a stack of our own, for sources nest deeper than Python recurses."""
    stack: list[tuple[ast.AST, str | None, bool]] = [(module, None, False)]
    while stack:
        node, function, looped = stack.pop()
        if isinstance(node, ast.Call) and (name := called(node)):
            yield Call(name, node, f"{file}:{node.lineno}", function, looped)
        if isinstance(node, Function):
            function, looped = node.name, False
        if isinstance(node, ast.For | ast.While | ast.AsyncFor):
            looped = True
        stack.extend((child, function, looped) for child in ast.iter_child_nodes(node))


def called(node: ast.expr) -> str | None:
    """Return the bare name of what a call (or a decorator) names: `PrivacyEngine` of `opacus.PrivacyEngine()`."""
    match node:
        case ast.Call(inner):
            return called(inner)
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return None


def _entries(module: ast.Module) -> Iterator[str]:
    """Yield the functions that run once a round by themselves."""
    for node in ast.walk(module):
        if isinstance(node, Function) and any(
            isinstance(d.func if isinstance(d, ast.Call) else d, ast.Attribute) and called(d) in DECORATORS
            for d in node.decorator_list
        ):
            yield node.name
        if isinstance(node, ast.ClassDef) and any((called(base) or "").endswith("Client") for base in node.bases):
            yield from (m.name for m in node.body if isinstance(m, Function) and m.name in EVERY_ROUND)


def _reached(calls: tuple[Call, ...], entries: set[str]) -> frozenset[str]:
    """Return the functions that run every round: entries, what is called in a loop, and what those call."""
    own = {call.function for call in calls if call.function}
    reached = set(entries) | {call.name for call in calls if call.looped and call.name in own}
    while True:
        more = {call.name for call in calls if call.function in reached and call.name in own} - reached
        if not more:
            return frozenset(reached)
        reached |= more


def _literals(modules: Mapping[str, ast.Module]) -> dict[str, object]:
    """Return the names that are given a value once, and that a literal."""
    given: Counter[str] = Counter()
    found: dict[str, object] = {}
    for node in (node for module in modules.values() for node in ast.walk(module)):
        match node:
            case ast.Name(name, ast.Store()) | ast.arg(name):
                given[name] += 1
            case ast.Assign([ast.Name(name)], ast.Constant(value)):
                found[name] = value
            case ast.AnnAssign(ast.Name(name), value=ast.Constant(value)):
                found[name] = value
    return {name: value for name, value in found.items() if given[name] == 1}
