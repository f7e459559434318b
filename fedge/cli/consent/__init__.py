"""`fedge consent`: give, withdraw, bring in, send out and look at permissions, on the client's own machine."""

from __future__ import annotations

import typer

from fedge.cli.consent import bring, give, look, send
from fedge.cli.erase import erase_command

app = typer.Typer(
    help="Permissions of the people whose records a client holds.", no_args_is_help=True, add_completion=False
)
for act in ("grant", "withdraw", "refuse", "revoke"):
    app.command(act, epilog=give.EXAMPLES[act], help=give.HELP[act])(give.command(act))
app.command("import", epilog=bring.IMPORT_EXAMPLES)(bring.import_file)
app.command("watch", epilog="Example:  fedge consent watch runs/RUN/clients/hospital-1 inbox")(bring.watch)
app.command("export", epilog=send.EXAMPLES)(send.export)
app.command("check", epilog=look.CHECK_EXAMPLES)(look.check)
app.command("show", epilog="Example:  fedge consent show runs/RUN/clients/hospital-1 -p health-research")(look.show)
app.command("history", epilog="Example:  fedge consent history runs/RUN/clients/hospital-1 p-0123456789abcdef")(
    look.history
)
app.command("list")(look.list_people)
app.command("erase", epilog="Example:  fedge consent erase runs/RUN/clients/hospital-1 patient-00042 --identifier")(
    erase_command
)
