"""What is found in source that trains with Opacus, or does its own accounting."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from fedge.lint.rules import (
    ADAPTIVE_CLIPPING,
    BUDGET_IGNORED,
    CLASSICAL,
    EMPTY_BATCH,
    FEWER_STEPS,
    FRESH_ENGINE,
    GDP,
    INSECURE_NOISE,
    MIXES_RECORDS,
    NOT_POISSON,
    RATES_MULTIPLIED,
    SEED_IN_ROUND,
    WEIGHTED_LOSS,
    Finding,
)
from fedge.lint.source import Program, called

Check = Callable[[Program], Iterator[Finding]]
MAKE_PRIVATE = ("make_private", "make_private_with_epsilon")
NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "LazyBatchNorm1d", "LazyBatchNorm2d")
WITH_BATCH_NORM = re.compile(r"^(resnet|resnext|wide_resnet|densenet|mobilenet|efficientnet|vgg\d+_bn|googlenet)")
INSTANCE_NORMS = ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
LOSSES = ("CrossEntropyLoss", "NLLLoss", "cross_entropy", "nll_loss")
CLIENT_RATE = re.compile(r"client|fraction_(fit|train)|participation", re.IGNORECASE)
RECORD_RATE = re.compile(r"(record|sample|sampling|batch)_?(rate|prob|probability|fraction)$|^q$", re.IGNORECASE)


def private(program: Program) -> bool:
    """Return whether the source trains with Opacus."""
    return any(program.named("PrivacyEngine", *MAKE_PRIVATE))


def fresh_engine(program: Program) -> Iterator[Finding]:
    """Find engines made again and again where an epsilon is read."""
    if any(program.named("get_epsilon")):
        for call in program.named("PrivacyEngine"):
            if program.repeated(call):
                yield Finding(FRESH_ENGINE, call.place, _where("PrivacyEngine()", call.function))


def budget_ignored(program: Program) -> Iterator[Finding]:
    """Find a target epsilon that is granted again."""
    calls = list(program.named("make_private_with_epsilon"))
    for number, call in enumerate(calls):
        if program.repeated(call) or number > 0:
            yield Finding(BUDGET_IGNORED, call.place, _where("make_private_with_epsilon()", call.function))


def not_poisson(program: Program) -> Iterator[Finding]:
    """Find batches that are not drawn by coins."""
    for call in program.named(*MAKE_PRIVATE):
        if call.says("poisson_sampling", False):
            yield Finding(NOT_POISSON, call.place, "poisson_sampling=False")
    stepped = any(c.argument("sample_rate") is not None for c in program.named("step"))
    if stepped and not private(program):
        for call in program.named("DataLoader"):
            if call.says("shuffle", True):
                yield Finding(NOT_POISSON, call.place, "DataLoader(shuffle=True), and an accountant stepped by hand")


def classical_gaussian(program: Program) -> Iterator[Finding]:
    """Find sqrt(2 ln(1.25/delta)) / epsilon, unless epsilon is known to be at most 1."""
    for file, node in program.walk():
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _holds_formula(node.left):
            epsilon = program.number(node.right)
            if epsilon is None or epsilon > 1:
                known = "an epsilon that is not known" if epsilon is None else f"epsilon {epsilon:g}"
                yield Finding(CLASSICAL, f"{file}:{node.lineno}", f"ln(1.25/delta) with {known}")


def fewer_steps(program: Program) -> Iterator[Finding]:
    """Find loops over more epochs than the noise was set for."""
    made = [c for c in program.named("make_private_with_epsilon", "get_noise_multiplier") if c.argument("epochs")]
    planned = [(c.place, n) for c in made if (n := program.number(c.argument("epochs"))) is not None]
    for file, node in program.walk():
        match node:
            case ast.For(ast.Name(name), ast.Call(ast.Name("range" | "trange"), arguments)) if re.search(
                "epoch|round", name
            ):
                run = _length(program, arguments)
                for place, epochs in planned:
                    if run is not None and run > epochs:
                        seen = f"{run:g} {name}s are run, noise was set for {epochs:g} at {place}"
                        yield Finding(FEWER_STEPS, f"{file}:{node.lineno}", seen)


def mixes_records(program: Program) -> Iterator[Finding]:
    """Find layers whose output or statistics mix records."""
    if not private(program):
        return
    repaired = any(program.named("fix"))
    for call in program.calls:
        mixes = call.name in NORMS or (
            WITH_BATCH_NORM.match(call.name) is not None and call.argument("norm_layer") is None
        )
        if (mixes and not repaired) or (call.name in INSTANCE_NORMS and call.says("track_running_stats", True)):
            yield Finding(MIXES_RECORDS, call.place, f"{call.name}()")


def weighted_loss(program: Program) -> Iterator[Finding]:
    """Find a weighted mean over the batch."""
    if not private(program):
        return
    for call in program.named(*LOSSES):
        if call.argument("weight") is not None and not (
            call.says("reduction", "none") or call.says("reduction", "sum")
        ):
            yield Finding(WEIGHTED_LOSS, call.place, f"{call.name}(weight=…)")


def insecure_noise(program: Program) -> Iterator[Finding]:
    """Find an engine without its secure mode."""
    for call in program.named("PrivacyEngine"):
        if not call.says("secure_mode", True):
            yield Finding(INSECURE_NOISE, call.place, "PrivacyEngine without secure_mode=True")


def gdp(program: Program) -> Iterator[Finding]:
    """Find the accountant that understates."""
    for call in program.named("PrivacyEngine", "get_noise_multiplier", "create_accountant"):
        if call.says("accountant", "gdp") or call.says("mechanism", "gdp"):
            yield Finding(GDP, call.place, f"{call.name}(accountant='gdp')")
    for call in program.named("GaussianAccountant"):
        yield Finding(GDP, call.place, "GaussianAccountant()")


def seed_in_round(program: Program) -> Iterator[Finding]:
    """Find seeds that make the noise of rounds the same."""
    if private(program):
        for call in program.named("manual_seed", "manual_seed_all", "seed_everything"):
            if program.repeated(call):
                yield Finding(SEED_IN_ROUND, call.place, _where(f"{call.name}()", call.function))


def empty_batch(program: Program) -> Iterator[Finding]:
    """Find what an empty sample breaks."""
    if not private(program):
        return
    for call in program.named("DataLoader"):
        if call.says("drop_last", True):
            yield Finding(EMPTY_BATCH, call.place, "DataLoader(drop_last=True)")
    for call in program.named(*MAKE_PRIVATE):
        if call.says("grad_sample_mode", "ew"):
            yield Finding(EMPTY_BATCH, call.place, "grad_sample_mode='ew'")


def adaptive_clipping(program: Program) -> Iterator[Finding]:
    """Find a clipping norm that follows the gradients."""
    for call in program.named(*MAKE_PRIVATE):
        if call.says("clipping", "adaptive"):
            yield Finding(ADAPTIVE_CLIPPING, call.place, "clipping='adaptive'")


def rates_multiplied(program: Program) -> Iterator[Finding]:
    """Find the product of a client's and a record's rate."""
    for file, node in program.walk():
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            left, right = called(node.left) or "", called(node.right) or ""
            if any(CLIENT_RATE.search(a) and RECORD_RATE.search(b) for a, b in ((left, right), (right, left))):
                yield Finding(RATES_MULTIPLIED, f"{file}:{node.lineno}", f"{left} * {right}")


CHECKS: tuple[Check, ...] = (
    fresh_engine,
    budget_ignored,
    not_poisson,
    classical_gaussian,
    fewer_steps,
    mixes_records,
    weighted_loss,
    insecure_noise,
    gdp,
    seed_in_round,
    empty_batch,
    adaptive_clipping,
    rates_multiplied,
)


def _holds_formula(node: ast.expr) -> bool:
    """Return whether ln(1.25 / …) stands in `node`."""
    return any(
        isinstance(inner, ast.Call)
        and called(inner) in ("log", "ln")
        and any(isinstance(c, ast.Constant) and c.value == 1.25 for a in inner.args for c in ast.walk(a))
        for inner in ast.walk(node)
    )


def _length(program: Program, arguments: list[ast.expr]) -> float | None:
    """Return how often range(…) goes round, None if that is not known."""
    bounds = [program.number(a) for a in arguments]
    if len(bounds) == 1:
        return bounds[0]
    if len(bounds) == 2 and bounds[0] is not None and bounds[1] is not None:
        return bounds[1] - bounds[0]
    return None


def _where(what: str, function: str | None) -> str:
    return f"{what} in {function}(), which runs again and again" if function else f"{what} in a loop"
