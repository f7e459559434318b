"""`fedge approve`: the owner looks at how the records have changed since they were approved, and approves them anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedge.cli.clients import one_client, stores_of
from fedge.cli.output import Format, FormatOption, console, print_json
from fedge.encoding import timestamp, utc_now
from fedge.rounds.approval import changes


def approve_command(
    client: Annotated[Path, typer.Argument(metavar="CLIENT", help="One client's folder.")],
    show: Annotated[bool, typer.Option("--show", help="Only show what changed; approve nothing.")] = False,
    output: FormatOption = Format.text,
) -> None:
    """Approve the records that a client was found to hold, after showing how many were added, changed or are gone.

    A client whose records differ from what was approved refuses every order (cohort_drift) until this is run. Nothing
    needs to be stopped: the next order is judged by the new approval.
    """
    approvals = stores_of(one_client(client)).approvals
    drifted = []
    for lineage in approvals.lineages():
        before, found = approvals.approved(lineage), approvals.found(lineage)
        if found is None:
            continue
        differ = changes(before or found.without(range(len(found.ids))), found)
        if not show:
            approvals.approve(found, timestamp(utc_now()))
        drifted.append(
            {
                "data_set": lineage,
                "added": differ.added,
                "changed": differ.changed,
                "gone": differ.gone,
                "approved_before": before.root if before else None,
                "found": found.root,
                "approved": not show,
            }
        )
    if output is Format.json:
        print_json(drifted)
        return
    for row in drifted:
        console.print(
            f"{row['data_set']}: {row['added']} added, {row['changed']} changed, {row['gone']} gone; "
            + (f"approved as {row['found']}" if row["approved"] else f"found {row['found']}, not approved"),
            soft_wrap=True,
        )
    if not drifted:
        console.print("Nothing to approve: no records were found that differ from the approved ones.")
