"""The house's rules over its own source: imports point down, some arrows never are, nothing asks the world in secret.

Each rule is a function from the package's modules to faults; each is shown to see a violation planted in a copy.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fedge"

FLOORS: tuple[frozenset[str], ...] = (
    frozenset(
        {"ids", "errors", "encoding", "signing", "bell", "journal", "packed", "postgres", "params", "files", "erasable"}
    ),
    frozenset({"privacy", "consent", "policy", "audit", "secagg"}),
    frozenset({"learning"}),
    frozenset({"rounds"}),
    frozenset({"flower", "simulation", "deploy", "reports", "edge", "redteam"}),
    frozenset(
        {
            "", "__main__", "cli", "compose", "config", "assemble", "running", "results", "recovered", "artefacts",
            "tracking", "soundness", "carrying", "stopping", "check", "storage", "lint",
            "reconcile", "export", "unlearning", "pack", "calibration",
        }
    ),
)  # fmt: skip
"""Rooms by floor, 0 is the ground; "" is the package's own public face."""
PILLARS, SHELL = FLOORS[1], FLOORS[4]

KEEPERS: Mapping[str, tuple[str, ...]] = {
    "flwr": ("flower", "deploy", "cli"),
    "grpc": ("flower", "deploy", "cli"),
    "hydra": ("compose",),
    "omegaconf": ("compose",),
    "torch": ("learning", "edge", "redteam", "tracking"),
    "psycopg": ("postgres",),
    "starlette": ("reports.viewer",),
    "uvicorn": ("cli.report.serve",),
    "opacus": ("learning.checks", "learning.clipping", "privacy.accountant"),
}
"""Outside library -> the only rooms or files that may know it (tracking: torch's TensorBoard writer, if asked for)."""

NEVER: tuple[tuple[str, str], ...] = (
    ("rounds.client", "rounds.coordinator"),
    ("rounds.coordinator", "rounds.client"),
    ("audit.verify", "audit.log"),
)
"""Arrows that may not be, not even by way of others."""
ALONE = "audit.verify"
"""The one file that an auditor reads: it imports nothing of the house, every format is written there a second time."""

LEARNING_MAY_ASK = frozenset({"privacy.events", "privacy.factorisation", "privacy.noise"})
REPORTS_MAY_READ = frozenset({"audit", "encoding", "errors", "files", "params", "ids", "reports", "rounds.folder"})
LIVE = frozenset({"audit.log", "audit.witness"})
"""Parts of the log's room that write or wait; a report reads verified entries."""

WORLD = frozenset(
    {
        "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns",
        "time.monotonic", "time.perf_counter", "time.process_time", "time.sleep", "os.environ", "os.getenv",
        "os.urandom", "os.getrandom", "socket.gethostname", "platform.node",
    }
)  # fmt: skip
DICE = frozenset({"random", "secrets", "uuid"})
ASKS_THE_WORLD: Mapping[str, frozenset[str]] = {
    "encoding": frozenset({"datetime.now"}),  # utc_now, which the roof hands down
    "privacy.noise": frozenset({"os.urandom"}),  # the key of noise in production
    "audit.verify": frozenset({"datetime.now"}),  # its own command line: how old is too old
}
"""On floors 0 to 3: who may ask for what, because its docstring says so."""

MOST_LINES = 400
LONG = frozenset({"audit.verify"})
"""Files that may be longer than MOST_LINES, each for a reason: the verifier is one file, for an auditor to hold."""


@dataclass(frozen=True)
class Module:
    """One file: its name below the package, its text, and what it says of others (also inside functions)."""

    name: str
    text: str
    modules: frozenset[str]

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def floor(self) -> int:
        return next((n for n, rooms in enumerate(FLOORS) if self.room in rooms), -1)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def inside(self) -> set[str]:
        """The modules of the package that it imports, anywhere."""
        return {found for name in self._imported() if (found := _known(name, self.modules)) is not None}

    @cached_property
    def outside(self) -> set[str]:
        """The top names of everything else that it imports."""
        return {name.partition(".")[0] for name in self._imported() if not name.startswith("fedge")}

    def _imported(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                yield from (f"{base}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                yield from (str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


Modules = Mapping[str, Module]
Rule = Callable[[Modules], list[str]]


def _known(dotted: str, modules: frozenset[str]) -> str | None:
    """Return which module `dotted` (a module, or a name in one) stands for: the longest that exists."""
    if dotted != "fedge" and not dotted.startswith("fedge."):
        return None
    parts = dotted.split(".")[1:]
    return next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in modules), "")


def read(package: Path) -> Modules:
    texts = {_name(path.relative_to(package)): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    return {name: Module(name, text, frozenset(texts)) for name, text in texts.items()}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def with_line(modules: Modules, name: str, line: str) -> Modules:
    """Return the house with `line` added to one of its files, or in a new file."""
    before = modules[name].text if name in modules else '"""New."""\n'
    names = frozenset(modules) | {name}
    return dict(modules) | {name: Module(name, f"{before}\n{line}\n", names)}


# ---- the rules --------------------------------------------------------------------------------------------------


def every_room_is_on_a_floor(modules: Modules) -> list[str]:
    return [f"{m.name}: {m.room!r} is on no floor" for m in modules.values() if m.floor < 0]


def imports_point_down(modules: Modules) -> list[str]:
    return [
        f"{m.name} (floor {m.floor}) imports {other} (floor {modules[other].floor})"
        for m in modules.values()
        if m.room != "cli"  # all commands are one room, and it may import everything
        for other in m.inside
        if modules[other].floor > m.floor or (other == "" and m.floor < 5)
    ]


def pillars_stand_alone(modules: Modules) -> list[str]:
    return _crossings(modules, PILLARS)


def shell_rooms_stand_alone(modules: Modules) -> list[str]:
    return _crossings(modules, SHELL)


def _crossings(modules: Modules, rooms: frozenset[str]) -> list[str]:
    return [
        f"{m.name} imports {other}"
        for m in modules.values()
        for other in m.inside
        if m.room in rooms and modules[other].room in rooms and modules[other].room != m.room
    ]


def learning_asks_little(modules: Modules) -> list[str]:
    return [
        f"{m.name} imports {other}"
        for m in modules.values()
        for other in m.inside
        if m.room == "learning" and modules[other].room in PILLARS and other not in LEARNING_MAY_ASK
    ]


def libraries_stay_in_their_rooms(modules: Modules) -> list[str]:
    return [
        f"{m.name} imports {library}"
        for m in modules.values()
        for library in m.outside & KEEPERS.keys()
        if not any(m.name == place or m.name.startswith(f"{place}.") for place in KEEPERS[library])
    ]


def some_arrows_never_are(modules: Modules) -> list[str]:
    return [f"{start} reaches {end}" for start, end in NEVER if end in _reach(modules, start)]


def the_verifier_stands_alone(modules: Modules) -> list[str]:
    return [f"{ALONE} imports {other}" for other in modules[ALONE].inside]


def no_cycle(modules: Modules) -> list[str]:
    return [f"{name} reaches itself" for name in modules if name in _reach(modules, name)]


def _reach(modules: Modules, start: str) -> set[str]:
    """Return every module that `start` imports, itself or by way of others; the public face is followed by nobody."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for other in modules[waiting.pop()].inside - seen - {""}:
            seen.add(other)
            waiting.append(other)
    return seen


def reports_touch_nothing_live(modules: Modules) -> list[str]:
    return [
        f"{m.name} imports {other}"
        for m in modules.values()
        for other in m.inside
        if m.room == "reports"
        and (other in LIVE or not any(other == r or other.startswith(f"{r}.") for r in REPORTS_MAY_READ))
    ]


def nothing_asks_the_world(modules: Modules) -> list[str]:
    """Clock, dice and environment are arguments on floors 0 to 3."""
    return [
        f"{m.name} asks {what}"
        for m in modules.values()
        if 0 <= m.floor <= 3
        for what in {*_asked(m), *(f"module {d}" for d in m.outside & DICE)}
        if what not in ASKS_THE_WORLD.get(m.name, frozenset())
    ]


def _asked(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            yield from (name for name in WORLD if dotted == name or dotted.endswith(f".{name}"))
            if dotted.startswith(("np.random.", "numpy.random.")) and not dotted.endswith(
                (".default_rng", "Generator")
            ):
                yield dotted
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.endswith("default_rng") and not node.args:
                yield "an unseeded generator"
            if called.endswith("utc_now"):
                yield "utc_now()"
        if isinstance(node, ast.ImportFrom) and node.module in {"time", "os"}:
            yield from (f for alias in node.names if (f := f"{node.module}.{alias.name}") in WORLD)


def files_are_short(modules: Modules) -> list[str]:
    lines = {m.name: m.text.count("\n") for m in modules.values() if m.name not in LONG}
    return [f"{name} has {count} lines" for name, count in lines.items() if count > MOST_LINES]


def every_file_says_its_idea(modules: Modules) -> list[str]:
    return [f"{m.name} has no docstring" for m in modules.values() if not ast.get_docstring(m.tree)]


PLANTED: tuple[tuple[Rule, str, str], ...] = (
    (every_room_is_on_a_floor, "utils", "X = 1"),
    (imports_point_down, "encoding", "from fedge.audit.log import AuditLog"),
    (imports_point_down, "privacy.ledger", "def late():\n    import fedge.rounds.client"),
    (imports_point_down, "learning.models", "from fedge import __version__"),
    (pillars_stand_alone, "consent.store", "from fedge.privacy import ledger"),
    (shell_rooms_stand_alone, "simulation.fleet", "import fedge.flower.wire"),
    (learning_asks_little, "learning.task", "from fedge.privacy.ledger import Ledger"),
    (libraries_stay_in_their_rooms, "rounds.client", "import torch"),
    (libraries_stay_in_their_rooms, "rounds.messages", "from flwr.app import Message"),
    (libraries_stay_in_their_rooms, "signing", "def late():\n    import grpc"),
    (libraries_stay_in_their_rooms, "config", "from omegaconf import OmegaConf"),
    (libraries_stay_in_their_rooms, "privacy.noise", "import opacus"),
    (some_arrows_never_are, "rounds.client", "from fedge.rounds.coordinator import Coordinator"),
    (some_arrows_never_are, "rounds.exchange", "from fedge.rounds import client"),
    (some_arrows_never_are, "audit.verify", "from fedge.audit import log"),
    (the_verifier_stands_alone, "audit.verify", "from fedge.errors import AuditError"),
    (no_cycle, "errors", "import fedge.encoding"),
    (reports_touch_nothing_live, "reports.render", "from fedge.privacy.ledger import Ledger"),
    (reports_touch_nothing_live, "reports.evidence", "import fedge.audit.log"),
    (nothing_asks_the_world, "rounds.admission", "from datetime import datetime\nNOW = datetime.now()"),
    (nothing_asks_the_world, "audit.merkle", "import os\nX = os.environ.get('X')"),
    (nothing_asks_the_world, "signing", "from os import urandom"),
    (nothing_asks_the_world, "privacy.noise", "import time\nX = time.time()"),
    (nothing_asks_the_world, "learning.training", "import random"),
    (nothing_asks_the_world, "learning.training", "X = np.random.default_rng()"),
    (nothing_asks_the_world, "learning.training", "X = np.random.normal()"),
    (nothing_asks_the_world, "rounds.client", "from fedge.encoding import utc_now\nX = utc_now()"),
    (files_are_short, "ids", "\n" * MOST_LINES),
)
RULES = (*dict.fromkeys(rule for rule, _, _ in PLANTED), every_file_says_its_idea)


@pytest.fixture(scope="module")
def house() -> Modules:
    return read(PACKAGE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(house: Modules, rule: Rule) -> None:
    assert rule(house) == []


@pytest.mark.parametrize(("rule", "name", "line"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_rule_sees_what_is_planted(house: Modules, rule: Rule, name: str, line: str) -> None:
    assert rule(with_line(house, name, line)) != []


def test_a_file_without_a_docstring_is_seen(tmp_path: Path) -> None:
    (tmp_path / "ids.py").write_text("X = 1\n")
    assert every_file_says_its_idea(read(tmp_path)) == ["ids has no docstring"]


def test_the_house_is_read_at_all(house: Modules) -> None:
    assert len(house) > 80
    assert "learning.loader" in house["rounds.client"].inside
    assert house["rounds.client"].floor == 3


# ---- what importing loads ---------------------------------------------------------------------------------------


def loaded_by(statement: str) -> set[str]:
    """Return the top names of all modules that a fresh Python has loaded after `statement`."""
    ask = f"{statement}; import sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split())


HEAVY = {"torch", "numpy", "flwr", "opacus", "sklearn", "hydra", "dp_accounting"}


def test_the_verifier_loads_nothing_heavy() -> None:
    assert loaded_by("import fedge.audit.verify") & HEAVY == set()


def test_importing_fedge_is_light() -> None:
    assert loaded_by("import fedge") & (HEAVY | {"cryptography"}) == set()


def test_what_is_loaded_is_really_seen() -> None:
    assert "numpy" in loaded_by("import fedge.params")
