"""A client that crashes between two questions says the same bytes afterwards; a killed run ends as it would have."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedge.assemble import Hooks
from fedge.check import check_house
from fedge.errors import RoundError
from fedge.params import digest as digest_of
from fedge.rounds.messages import Parcel
from fedge.running import Result, resume, run
from tests.secagg.sessions import FIVE, ONE, SHARED, Stage, secure


class DiedError(BaseException):
    """The process is gone; nothing of the client's code catches it."""


def same(first: Parcel, second: Parcel) -> bool:
    return first.statements == second.statements and digest_of(first.tensors) == digest_of(second.tensors)


def restarted(stage: Stage) -> None:
    """Bring every client back from what is on its disk."""
    again = secure(stage.here.folder, *stage.overrides, clock=stage.here.clock)
    stage.here.assembled = replace(stage.here.assembled, sites=again.assembled.sites)


def ordered(stage: Stage) -> tuple[object, bool]:
    return stage.orders[ONE], False


def introduced(stage: Stage) -> tuple[object, bool]:
    return stage.opened(), False


def masking(stage: Stage) -> tuple[object, bool]:
    return stage.mask_request(ONE, stage.sealed()), True


def confirming(stage: Stage) -> tuple[object, bool]:
    stage.masked()
    return stage.confirm(FIVE), False


def unmasking(stage: Stage) -> tuple[object, bool]:
    return stage.confirmed(), False


@pytest.mark.parametrize("lead", [ordered, introduced, masking, confirming, unmasking], ids=lambda f: f.__name__)
def test_the_same_question_gets_the_same_bytes_after_a_crash(
    tmp_path: Path, lead: Callable[[Stage], tuple[object, bool]]
) -> None:
    stage = Stage(tmp_path)
    message, model = lead(stage)
    first = stage.say(ONE, message, model=model)
    restarted(stage)
    assert same(stage.say(ONE, message, model=model), first)
    lineage = stage.here.site(ONE).training.lineage
    assert len(stage.here.site(ONE).ledger.spent(lineage)) == (lead not in (ordered, introduced))


@pytest.mark.parametrize("message", ["step", "reveal"])
def test_a_step_gets_the_same_bytes_after_a_crash(tmp_path: Path, message: str) -> None:
    stage = Stage(tmp_path, *SHARED, "training.steps=1")
    stage.say(ONE, stage.opened())
    first = stage.say(ONE, stage.step(1, 1), model=True)
    if message == "reveal":
        first = stage.say(ONE, stage.reveal(1, 1))
    restarted(stage)
    asked = stage.step(1, 1) if message == "step" else stage.reveal(1, 1)
    assert same(stage.say(ONE, asked, model=message == "step"), first)
    assert len(stage.here.site(ONE).ledger.spent(stage.here.site(ONE).training.lineage)) == 1


def dying(stage: Stage, step: str) -> None:
    """Let the first client die when it reaches `step`."""

    def reached(name: str) -> None:
        if name == step:
            raise DiedError

    stage.here.assembled.sites[ONE] = replace(stage.here.site(ONE), reached=reached)  # type: ignore[index]


@pytest.mark.parametrize(
    ("step", "noise"), [("learned", "seeded"), ("kept", "seeded"), ("reserved", "secure"), ("kept", "secure")]
)
def test_a_crash_while_masking_leaves_one_vector_under_one_mask(tmp_path: Path, step: str, noise: str) -> None:
    """Masks are used once: what was kept is sent, and if nothing was kept nothing had left."""
    stage = Stage(tmp_path, f"privacy.noise={noise}")
    request = stage.mask_request(ONE, stage.sealed())
    dying(stage, step)
    with pytest.raises(DiedError):
        stage.say(ONE, request, model=True)
    restarted(stage)
    site = stage.here.site(ONE)
    kept = site.memory.answer_to(stage.session.run, stage.orders[ONE].substance)
    said = stage.say(ONE, request, model=True)
    assert same(stage.say(ONE, request, model=True), said)
    assert (kept is not None) == (step in {"kept", "committed"})
    assert kept is None or kept.tensors == digest_of(said.tensors)
    twice = noise == "secure" and step in {"reserved", "learned"}  # computed anew with other noise: it costs anew
    assert len(site.ledger.spent(site.training.lineage)) == 1 + twice


def test_a_masked_vector_that_is_lost_is_not_made_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    request = stage.mask_request(ONE, stage.sealed())
    stage.say(ONE, request, model=True)
    (tmp_path / "clients" / ONE / "answer.safetensors").unlink()
    with pytest.raises(RoundError, match="cannot be sent a second time"):
        stage.say(ONE, request, model=True)


@pytest.mark.parametrize("step", ["learned", "kept", "committed"])
def test_a_crash_at_the_last_word_makes_one_statement(tmp_path: Path, step: str) -> None:
    stage = Stage(tmp_path, *SHARED, "training.steps=1")
    stage.say(ONE, stage.opened())
    dying(stage, step)
    for message, model in ((stage.step(1, 1), True), (stage.reveal(1, 1), False)):
        try:
            stage.say(ONE, message, model=model)
        except DiedError:
            restarted(stage)
            stage.say(ONE, message, model=model)
    site = stage.here.site(ONE)
    assert [a.work for a in site.memory.answers(stage.session.run)] == ["train"]
    assert len(site.ledger.spent(site.training.lineage)) == 1


# ---- the whole run, killed ----------------------------------------------------------------------------------------

SMALL = (
    "rounds=2",
    "training.steps=3",
    "evaluation.federated=none",
    "population.clients=3",
    "population.shares=[0.5,0.3,0.2]",
    "privacy.secure_aggregation=true",
)
MODES = {"sum": (), "steps": ("privacy.noise_at=distributed",)}
KILLS = [
    ("sum", "server", "answered", 2),
    ("sum", "client", "unmask", 5),
    ("steps", "client", "reveal", 7),
    ("steps", "client", "kept", 14),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return {name: run(*SMALL, *more, f"out={tmp_path_factory.mktemp(name)}") for name, more in MODES.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "party", "step", "nth"), KILLS)
def test_kill_restart_same_model(
    tmp_path: Path, undisturbed: dict[str, Result], mode: str, party: str, step: str, nth: int
) -> None:
    command = [sys.executable, "-m", "tests.rounds.dying", str(tmp_path), party, step, str(nth), *SMALL, *MODES[mode]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (folder,) = tmp_path.iterdir()
    assert [p.text for p in check_house(folder) if not p.kept] == []
    result = resume(folder, hooks=Hooks())
    assert [p.text for p in check_house(folder) if not p.kept] == []
    assert result.verification.holds, result.verification.checks
    assert digest(result.model) == digest(undisturbed[mode].model), "the resumed run ends with another model"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
