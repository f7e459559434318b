"""`fedge consent erase`: a person is forgotten at one client, for good."""

from __future__ import annotations

from typing import Annotated

import typer

from fedge.cli.clients import ClientArgument, IdentifierOption, SubjectArgument, one_client, person, stores_of
from fedge.cli.output import console
from fedge.encoding import utc_now
from fedge.rounds import erasure


def erase_command(
    client: ClientArgument,
    subject: SubjectArgument,
    identifier: IdentifierOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a person: destroy their key and what is stored of them, and never load their records again.

    Cannot be undone. The log keeps commitments that lead nowhere without the key, and every proof stays valid. No model
    is untrained by this; the client's next answer names the models that include the person, and fedge unlearn retrains.
    """
    stores = stores_of(one_client(client))
    erasure.finish(stores, utc_now)
    found = person(stores, subject, identifier)
    if not yes:
        typer.confirm(f"Erase {subject} at {stores.folder.root} for good?", abort=True)
    done = erasure.erase(stores, found, utc_now)
    console.print(f"erased; the log will name the person by {done.commitment}, which now leads nowhere", soft_wrap=True)
    for run, first in done.used.items():
        console.print(
            f"every model of {run} from round {first} on includes the person; to retrain without: "
            f"fedge unlearn RUN --erasure {done.commitment} --exact",
            soft_wrap=True,
        )
    console.print("The data source itself, backups and copies elsewhere are yours to erase.", style="dim")
