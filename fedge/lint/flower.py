"""What is found in a Flower app: its differential-privacy wrappers and mods, and what its clients send."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from fedge.lint.rules import (
    ADAPTIVE_CLIPPING,
    CLASSICAL,
    EXAMPLE_WEIGHTS,
    METRICS_LEAVE,
    SEED_IN_ROUND,
    SENSITIVITY,
    Finding,
)
from fedge.lint.script import Check, private
from fedge.lint.source import Call, Function, Program

FIXED = ("DifferentialPrivacyServerSideFixedClipping", "DifferentialPrivacyClientSideFixedClipping")
ADAPTIVE = ("DifferentialPrivacyServerSideAdaptiveClipping", "DifferentialPrivacyClientSideAdaptiveClipping")
LEGACY = ("DPFedAvgFixed", "DPFedAvgAdaptive")
WRAPPERS = (*FIXED, *ADAPTIVE, *LEGACY)
LOCAL = "LocalDpMod"
SCORES = re.compile(r"loss|acc|auc|f1|precision|recall|num[-_]?examples|n_samples", re.IGNORECASE)


def claims(program: Program) -> bool:
    """Return whether the app claims differential privacy."""
    return private(program) or any(program.named(LOCAL, *WRAPPERS))


def sensitivity(program: Program) -> Iterator[Finding]:
    """Find noise that is made for less than what clipping lets through."""
    for call in program.named(LOCAL):
        clip, given = (program.number(call.argument(*a)) for a in (("clipping_norm", 0), ("sensitivity", 1)))
        if clip is not None and given is not None and given < clip:
            yield Finding(SENSITIVITY, call.place, f"sensitivity {given:g}, clipping_norm {clip:g}")


def classical_gaussian(program: Program) -> Iterator[Finding]:
    """Find Flower's local mod, which uses the classical formula, above epsilon 1."""
    for call in program.named(LOCAL):
        epsilon = program.number(call.argument("epsilon", 2))
        if epsilon is not None and epsilon > 1:
            yield Finding(CLASSICAL, call.place, f"{LOCAL} with epsilon {epsilon:g}")


def example_weights(program: Program) -> Iterator[Finding]:
    """Find wrappers that do not check the weights of the strategy inside."""
    for call in program.named(*WRAPPERS):
        if call.argument("accountant") is None:
            yield Finding(EXAMPLE_WEIGHTS, call.place, f"{call.name} without an accountant")


def adaptive_clipping(program: Program) -> Iterator[Finding]:
    """Find wrappers whose norm follows the updates."""
    for call in program.named(*ADAPTIVE, "DPFedAvgAdaptive"):
        yield Finding(ADAPTIVE_CLIPPING, call.place, call.name)


def seeded_noise(program: Program) -> Iterator[Finding]:
    """Find a seed of numpy's global generator, from which Flower draws its noise."""
    if not any(program.named(LOCAL, *WRAPPERS)):
        return
    for call in program.named("seed"):
        if "random" in ast.unparse(call.node.func):
            yield Finding(SEED_IN_ROUND, call.place, f"{ast.unparse(call.node.func)}(), Flower's source of noise")


def metrics_leave(program: Program) -> Iterator[Finding]:
    """Find scores and counts in what a client's own functions return or put into a MetricRecord."""
    if not claims(program):
        return
    for call in program.named("MetricRecord"):
        if call.function in program.every_round:
            yield from _scores(call.place, _dict_of(program, call))
    for file, node in program.walk():
        if isinstance(node, Function) and node.name == "fit" and node.name in program.every_round:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Tuple):
                    yield from _scores(f"{file}:{inner.lineno}", inner.value.elts[-1])


def _scores(place: str, found: ast.expr | None) -> Iterator[Finding]:
    keys = [k.value for k in found.keys if isinstance(k, ast.Constant)] if isinstance(found, ast.Dict) else []
    leaving = [str(key) for key in keys if SCORES.search(str(key))]
    if leaving:
        yield Finding(METRICS_LEAVE, place, ", ".join(leaving))


def _dict_of(program: Program, call: Call) -> ast.expr | None:
    """Return the dictionary that a call is given, directly or by a name that is assigned one in the same function."""
    given = call.argument("metric_dict", 0)
    if not isinstance(given, ast.Name):
        return given
    assigned = [
        node.value
        for _, node in program.walk()
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == given.id for t in node.targets)
        and isinstance(node.value, ast.Dict)
    ]
    return assigned[0] if assigned else None


CHECKS: tuple[Check, ...] = (
    sensitivity,
    classical_gaussian,
    example_weights,
    adaptive_clipping,
    seeded_noise,
    metrics_leave,
)
