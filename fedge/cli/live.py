"""A run as it goes on: a live table on a terminal, one line a round in a pipe or a file."""

from __future__ import annotations

from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fedge import results
from fedge.assemble import Assembled
from fedge.cli.output import number
from fedge.reports.words import octets
from fedge.rounds.record import Participation, RoundRecord
from fedge.running import Watch
from fedge.soundness import FEW_CLIENTS

SHOWN = 30


class LiveTable:
    """Shows rounds, scores, who answered and refused, epsilon spent and left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None
        self._records: list[RoundRecord] = []
        self._headline, self._planned, self._note = "score", 0, ""

    def __enter__(self) -> LiveTable:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note = ""
        if self._live:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def watch(self) -> Watch:
        """Return what `running` calls."""
        return Watch(self._started, self._round, self._stopping, self._step)

    def _started(self, assembled: Assembled) -> None:
        self._headline, self._planned = assembled.task.headline, assembled.config.rounds
        config = assembled.config
        privacy = (
            "no privacy" if config.privacy.unit == "none"
            else f"epsilon {config.privacy.epsilon:g} at delta {config.privacy.delta:g} for each {config.privacy.unit}"
        )  # fmt: skip
        self._console.print(
            f"[bold]{assembled.task.name}[/]: {len(assembled.sites)} clients, {config.rounds} rounds, "
            f"{config.strategy.name}, {privacy}, noise {config.privacy.noise}; engine {config.engine}",
            soft_wrap=True,
        )
        repeated = results.repeated_subjects(assembled.sites.training(name).subjects for name in assembled.sites)
        if config.privacy.unit == "record" and repeated:
            self._console.print(
                f"[bold red]{repeated} people own more than one record: an epsilon for one record does not protect "
                "them.[/] Use privacy=subject to protect the person.",
                soft_wrap=True,
            )
        if config.privacy.unit == "client" and len(assembled.sites) < FEW_CLIENTS:
            self._console.print(
                f"[bold yellow]{len(assembled.sites)} clients are few for client-level privacy:[/] noise that hides a "
                f"whole client leaves little to learn below about {FEW_CLIENTS}. privacy=subject or record protect "
                "people or records, with far less noise.",
                soft_wrap=True,
            )
        done = assembled.book.done
        if done:
            self._console.print(f"[dim]going on after round {done}[/]")

    def _round(self, record: RoundRecord) -> None:
        self._records.append(record)
        if self._live:
            self._live.update(self._table())
        else:
            self._console.print(_line(record, self._headline, self._planned), soft_wrap=True)

    def _stopping(self) -> None:
        self._say("finishing this round, then stopping; press Ctrl-C again to stop at once")

    def _step(self, what: str) -> None:
        self._say(f"{what} …")

    def _say(self, text: str) -> None:
        self._note = text
        if self._live:
            self._live.update(self._table())
        else:
            self._console.print(f"[dim]{text}[/]")

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, caption=self._note or None, caption_style="dim", caption_justify="left")
        for name in ("round", self._headline, "loss", "answered", "refused", "epsilon spent", "epsilon left", "up"):
            table.add_column(name, justify="right")
        for record in self._records[-SHOWN:]:
            table.add_row(*_cells(record, self._headline, self._planned))
        return table


def _cells(record: RoundRecord, headline: str, planned: int) -> list[str]:
    spent = [p.epsilon_total for p in record.participants if p.epsilon_total is not None]
    left = [p.budget_epsilon - p.epsilon_total for p in record.participants if _has_budget(p)]  # type: ignore[operator]
    refused = [p for p in record.participants if p.outcome != "accepted"]
    score = record.scores.get(headline)
    return [
        f"{record.round}/{planned}",
        f"{number(score, 3)}{' void' if record.void else ''}",
        number(record.scores.get("loss"), 3),
        f"{record.accepted}/{len(record.participants)}",
        ", ".join(f"{p.client} ({(p.reason or p.outcome).replace('_', ' ')})" for p in refused) or "—",
        number(max(spent)) if spent else "—",
        f"{number(min(left))} … {number(max(left))}" if left else "—",
        octets(record.bytes_up),
    ]


def _line(record: RoundRecord, headline: str, planned: int) -> str:
    round_, score, loss, answered, refused, spent, left, up = _cells(record, headline, planned)
    return (
        f"round {round_}  {headline} {score}  loss {loss}  answered {answered}  refused {refused}  "
        f"epsilon spent {spent}, left {left}  up {up}"
    )


def _has_budget(part: Participation) -> bool:
    return part.epsilon_total is not None and part.budget_epsilon is not None and part.budget_epsilon < float("inf")
