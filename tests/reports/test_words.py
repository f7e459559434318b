"""Every reason code that the code can write into the log has words for people."""

import ast
from collections.abc import Iterator
from pathlib import Path

from fedge.consent.grants import Reason
from fedge.policy import ClientPolicy, Facts, rule_of
from fedge.reports.words import REASONS

PACKAGE = Path(__file__).parents[2] / "fedge"
FACTS = Facts("t", "p", 5, 100, 1.0, 1.0, 0.1, 0.1, True)


def literal_codes() -> Iterator[str]:
    """Yield the reasons that client and coordinator name in their source."""
    for path in (PACKAGE / "rounds").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).rpartition(".")[2]
                places = {"Refused": 0, "_failed": 3, "Participation": 2, "_part": 2, "came_to": 0, "_stated": 4}
                if called in places and len(node.args) > places[called]:
                    yield from _text(node.args[places[called]])
                for keyword in node.keywords:
                    if keyword.arg == "reason":
                        yield from _text(keyword.value)
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                yield from _text(node.value.elts[-1])


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def test_codes_of_client_and_server() -> None:
    codes = set(literal_codes())
    assert {
        "order_expired",
        "task_error",
        "withdrawn_in_flight",
        "too_few_updates",
        "bad_update",
        "session_cut",
    } <= codes
    assert codes - REASONS.keys() == set()


def test_codes_of_permissions() -> None:
    assert {r.name for r in Reason if r != Reason.admitted} - REASONS.keys() == set()


def test_codes_of_the_owners_policy() -> None:
    strict = ClientPolicy(
        require_secure_noise=True, tasks=("a",), purposes=("a",), minimum_cohort=9, minimum_noise_multiplier=9.0,
        maximum_clip_norm=0.1, maximum_epsilon_per_round=0.01,
    )  # fmt: skip
    loose = ClientPolicy(tasks=(), purposes=(), minimum_noise_multiplier=0.0, maximum_clip_norm=9.0)
    assert rule_of(loose)(FACTS).allowed
    assert rule_of(strict)(FACTS).code in REASONS
