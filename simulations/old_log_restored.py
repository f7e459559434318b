"""An older copy of the server's log is put back."""

from __future__ import annotations

import shutil
from pathlib import Path

import fedge
from simulations.scenario import Claim, Scenario, run, sound


def play(out: Path) -> list[Claim]:
    """Finish a run, then put back the log as it was when the run had only been opened, and try to go on."""
    result = run(out)
    server = result.folder / "server"
    kept = server.with_name("server.kept")
    shutil.copytree(server, kept)
    for file in server.glob("log.db*"):
        file.unlink()
    said = _try_to_resume(result.folder)
    shutil.rmtree(server)
    kept.rename(server)
    return [
        Claim("the server refuses to go on behind its own published checkpoint", "older" in said or "fork" in said),
        Claim("nothing was changed by trying", fedge.verify_run(result.folder).holds),
        *sound(result),
    ]


def _try_to_resume(folder: Path) -> str:
    try:
        fedge.resume(folder)
    except fedge.FedgeError as error:
        return str(error)
    return ""


SCENARIO = Scenario(
    "old_log_restored",
    "After a disk failure the operator puts back an empty log. Going on with it would fork the history that the "
    "hospitals have vouched for: the server refuses, and says what to restore.",
    play,
)
