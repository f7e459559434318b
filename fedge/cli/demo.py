"""`fedge demo`: five hospitals, and a person who withdraws from another process while they train."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Annotated

import typer

from fedge import running
from fedge.assemble import Assembled, permitted
from fedge.cli.live import LiveTable
from fedge.cli.output import console
from fedge.cli.report.build import build_command
from fedge.cli.run import print_results
from fedge.ids import client_id
from fedge.rounds.record import RoundRecord

SETTINGS = ("task=cancer", "evaluation.baselines=true", "population.budgets={hospital-5: 3.0}")
"""One hospital allows less than the others."""
HOSPITAL, AFTER_ROUND = "hospital-1", 5
"""Where a person withdraws, and when."""


def demo_command(
    out: Annotated[str, typer.Option(help="Where run folders go.")] = "runs",
    seed: Annotated[int, typer.Option(help="Of everything drawn in this simulation.")] = 7,
) -> None:
    """Five hospitals train one model on real patients, privately, under permissions, with a log."""
    console.print(
        "Five simulated hospitals hold 456 of the 569 real patient records of Breast Cancer Wisconsin; the other 113 "
        "are the public test set. Each hospital trains locally with differential privacy; no record leaves it. Some "
        "patients refused, some permissions have expired, and hospital-5 has set itself a smaller privacy budget. "
        f"After round {AFTER_ROUND} a patient of {HOSPITAL} withdraws, by a command in another process.\n",
        soft_wrap=True,
    )
    with LiveTable(console) as table:
        told = table.watch()
        begun: list[Assembled] = []

        def on_start(assembled: Assembled) -> None:
            begun.append(assembled)
            told.on_start(assembled)

        def on_round(record: RoundRecord) -> None:
            told.on_round(record)
            if record.round == AFTER_ROUND:
                _withdraw_somebody(begun[0])

        watch = replace(told, on_start=on_start, on_round=on_round)
        result = running.run(*SETTINGS, f"out={out}", f"seed={seed}", watch=watch)
    print_results([result])
    build_command([result.folder])


def _withdraw_somebody(assembled: Assembled) -> None:
    """Withdraw the first person whose records may be read, as anybody would: by the command, in its own process.

    The run learns of it only through the client's permission store, at its next batch.
    """
    site, purpose = assembled.sites[client_id(HOSPITAL)], assembled.config.purpose
    person = site.training.records.subjects[int(permitted(site, purpose)[0])]
    words = ["consent", "withdraw", str(assembled.folder.clients / HOSPITAL), str(person), "--purpose", purpose]
    done = subprocess.run([sys.executable, "-m", "fedge", *words], capture_output=True, text=True, check=True)
    console.print(f"another process: fedge consent withdraw … → {done.stdout.strip()}", style="dim", soft_wrap=True)
