"""The coordinator: rounds as a generator; the caller owns stopping, printing and what comes between rounds.

    cohort → orders → answers → tally → new state → [prepare] → entries → checkpoint → cosigned → publish → release

Order of effect 3, log before release: the new model lies in a pending file until its round is in the log and a
quorum of witnesses has cosigned the checkpoint. Nothing here imports the client: the two parties share messages only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fedge import params as parameters
from fedge.audit.leaves import (
    ROLL,
    Evaluation,
    Leaf,
    Participant,
    RoundClose,
    RoundRoll,
    RunClose,
    RunResumed,
    RunRoll,
    RunStopped,
    UpdateRejected,
)
from fedge.encoding import Clock, decimal, timestamp
from fedge.errors import LogConflictError, RoundError
from fedge.ids import ClientId
from fedge.learning.aggregation import Aggregation, Combined, Contribution, Memory
from fedge.learning.central import Central
from fedge.learning.recipe import from_record, to_record
from fedge.params import Params
from fedge.rounds.book import Book
from fedge.rounds.evaluation import LIKE, evaluation
from fedge.rounds.exchange import Exchange
from fedge.rounds.messages import Fleet
from fedge.rounds.plan import Plan
from fedge.rounds.record import RoundRecord
from fedge.rounds.sampling import Permuter, cohort, rested_cohort
from fedge.rounds.sealing import Sealer
from fedge.rounds.secure.descent import EVERYBODY, learn_together
from fedge.rounds.state import State, StateStore
from fedge.rounds.tally import Tally
from fedge.signing import PrivateKey

T = TypeVar("T")


@dataclass(frozen=True)
class Coordinator:
    """Everything the server's side of a run is handed.

    `score` says how good a model is on the server's public test set; `dice` makes the source of randomness of a round;
    `reached` is called with the names of the lines where a crash matters. With `central` the server adds the noise.
    """

    plan: Plan
    initial: Params
    book: Book
    sealer: Sealer
    states: StateStore
    fleet: Fleet
    key: PrivateKey
    aggregation: Aggregation
    score: Callable[[Params], Mapping[str, float]]
    dice: Callable[[int], Permuter]
    clock: Clock
    reached: Callable[[str], None] = lambda _step: None
    central: Central | None = None

    def rounds(self) -> Iterator[RoundRecord]:
        """Open or resume the run, then yield each round after it was released."""
        state = self.open()
        while state.round < self.plan.opening.rounds_planned:
            state, record = self._round(state)
            yield record

    # ---- open, resume, stop, close ------------------------------------------------------------------------------

    def open(self) -> State:
        """Return the state to go on from: the one to start with, or the last whose round the log has closed."""
        if self.book.opening is None:
            self.book.append(self._exchange.enrol())
        elif not self.book.finished:
            self._exchange.greet()
            released = self.states.released()
            model = released.model if released else self.plan.opening.initial_model
            self.book.append([RunResumed(self.plan.run, self._now(), self.book.done, model)])
        state = self._recovered()
        released = self.states.released()
        if released is None or (released.round, released.model) != (state.round, state.model):
            self._release(state)
        return state

    def stop(self, reason: str) -> None:
        """Record that the run was stopped; it can be resumed."""
        done = self.book.done
        self.book.append([RunStopped(self.plan.run, self._now(), done, reason)])
        self.sealer.seal(self.fleet, done)

    def close(self, evaluation_noise: float | None) -> Evaluation | None:
        """Ask the clients how good the model is, with this much noise (None: do not ask), then close the log."""
        state = self._recovered()
        if self.book.finished:
            return None
        found = self._evaluate(state, evaluation_noise) if evaluation_noise is not None else None
        counts = {str(client): len(self.book.chain(client).entries) for client in self.book.enrolled}
        self.book.append(self._last(state, counts))
        self.sealer.seal(self.fleet, state.round)
        return found

    def _recovered(self) -> State:
        """Return the state that the log says is the latest; it lies in the released or in the pending file."""
        first = State(0, self.initial)
        closed = self.book.closed
        expected = (self.book.done, closed.model_out if closed else self.plan.opening.initial_model)
        for state in (self.states.released(), self.states.pending(), first):
            if state is not None and (state.round, state.model) == expected:
                return state
        raise LogConflictError(
            f"the log has closed round {expected[0]} with model {expected[1]}, which is not among the server's files: "
            "they were lost or replaced. Restore the server's folder; nothing is released without it"
        )

    # ---- one round ----------------------------------------------------------------------------------------------

    def _round(self, state: State) -> tuple[State, RoundRecord]:
        round_, began = state.round + 1, self.clock()
        exchange = self._exchange
        asked = self._cohort(exchange.reachable(), round_)
        tallies, heard = self._heard(exchange, round_, state, asked)
        answered = self.clock()
        updates, kept = self._noised(state, round_, heard)
        combined, reason = self._combined(state, round_, updates)
        new = State(round_, combined.params, {**combined.memory, **kept})
        scores = {name: value for name, value in self.score(new.params).items() if math.isfinite(value)}
        judged = self.clock()
        closing = self._closing(state, new, tallies, reason)
        self.states.prepare(new)
        self.reached("prepared")
        statements = [s for t in tallies for s in t.statements]
        self.book.append(
            [*self._rejections(round_, tallies), *self._rolls(closing), self._central(new, scores)], statements
        )
        self.reached("appended")
        self._release(new)
        seconds = {
            "clients": (answered - began).total_seconds(),
            "combine_and_score": (judged - answered).total_seconds(),
            "log_and_seal": (self.clock() - judged).total_seconds(),
        }
        down, up = _bytes(state, tallies)
        return new, RoundRecord(
            round=round_,
            attempt=closing.attempt,
            participants=tuple(t.part for t in tallies),
            void=closing.void,
            reason=reason,
            model_in=state.model,
            model_out=new.model,
            scores=scores,
            seconds=seconds,
            bytes_down=down,
            bytes_up=up,
        )

    def _cohort(self, reachable: Sequence[ClientId], round_: int) -> tuple[ClientId, ...]:
        """Return whom to ask. Where answers are sampled in secret that is everybody: the log tells who was asked."""
        plan, dice = self.plan, self.dice(round_)
        if self.central is None:
            return cohort(reachable, plan.fraction, plan.minimum_clients, dice)
        separation = self.central.level.separation
        if separation == 1:
            return cohort(reachable, 1.0, plan.minimum_clients, dice)
        asked = self.book.asked
        return rested_cohort(reachable, plan.fraction, plan.minimum_clients, dice, asked, round_, separation)

    def _heard(
        self, exchange: Exchange, round_: int, state: State, asked: Sequence[ClientId]
    ) -> tuple[Sequence[Tally], Sequence[Contribution] | str]:
        """Return what each answer counts for, and the updates, or the reason why they are none."""
        plan = self.plan
        if plan.terms is not None:  # nobody sees an update: their mean stands for all of them
            said = learn_together(exchange, plan.terms, round_, state, asked)
            return said.tallies, said.reason or [Contribution(EVERYBODY, said.mean or {})]
        tallies = exchange.ask("train", round_, state, asked, self._recipe(state), state.params)
        weigh = plan.weighting == "examples"
        updates = [
            Contribution(t.part.client, t.tensors, t.size if weigh else 1.0) for t in tallies if t.tensors is not None
        ]
        if len(updates) < max(plan.minimum_updates, self.aggregation.needs):
            return tallies, "too_few_updates"
        return tallies, updates

    def _recipe(self, state: State) -> Mapping[str, object]:
        if self.central is None:
            return self.plan.recipe
        return to_record(self.central.recipe(from_record(dict(self.plan.recipe)), state.memory))

    def _noised(
        self, state: State, round_: int, heard: Sequence[Contribution] | str
    ) -> tuple[Sequence[Contribution] | str, Memory]:
        """Return what is combined, and what the server's mechanism remembers: one noisy mean stands for all updates.

        A void round is a step of the mechanism, too: what the noise of later rounds takes back, and who may be asked
        again when, are counted in rounds.
        """
        if self.central is None:
            return heard, {}
        updates = {} if isinstance(heard, str) else {str(c.client): c.delta for c in heard}
        said = self.central.release(updates, state.memory, state.params, round_)
        return (heard if isinstance(heard, str) else [Contribution(EVERYBODY, said.mean)]), said.memory

    def _combined(
        self, state: State, round_: int, updates: Sequence[Contribution] | str
    ) -> tuple[Combined, str | None]:
        """Return the next model, or the old one and the reason why the round is void."""
        old = Combined(state.params, state.memory)
        if isinstance(updates, str):
            return old, updates
        combined = self.aggregation.combine(state.params, state.memory, updates, round_)
        try:
            parameters.check_like(combined.params, state.params)
        except RoundError:
            return old, "model_not_finite"
        return combined, None

    def _release(self, state: State) -> None:
        """Order of effect 3, log before release: sealed and published first, then the model becomes the released one.

        If we crash in between, the log names a model that nobody has seen, and `open` releases it.
        """
        self.sealer.seal(self.fleet, state.round)
        self.reached("sealed")
        self.states.release(state)
        self.reached("released")

    # ---- entries ------------------------------------------------------------------------------------------------

    def _last(self, state: State, counts: Mapping[str, int]) -> list[Leaf]:
        """Return the entries that close the log; long counts begin before the last of them."""
        run, now, (*rolls, last) = self.plan.run, self._now(), parted(sorted(counts.items()))
        return [
            *(RunRoll(run, now, dict(roll)) for roll in rolls),
            RunClose(run, now, state.round, dict(last), state.model),
        ]

    def _rolls(self, closing: RoundClose) -> list[Leaf]:
        """Return `closing` with as many participants as an entry has room for, after entries with those before."""
        *rolls, last = parted(closing.participants)
        return [
            *(RoundRoll(closing.run, closing.at, closing.round, tuple(roll)) for roll in rolls),
            replace(closing, participants=tuple(last)),
        ]

    def _closing(self, state: State, new: State, tallies: Sequence[Tally], reason: str | None) -> RoundClose:
        parts = tuple(Participant(t.part.client, t.part.outcome, t.part.reason) for t in tallies)
        return RoundClose(
            run=self.plan.run,
            at=self._now(),
            round=new.round,
            attempt=1 + self.book.resumed,
            participants=parts,
            accepted=sum(p.outcome == "accepted" for p in parts),
            model_in=state.model,
            model_out=new.model,
            void=reason is not None,
            reason=reason,
            aggregation=self.aggregation.name,
        )

    def _rejections(self, round_: int, tallies: Sequence[Tally]) -> list[Leaf]:
        return [
            UpdateRejected(self.plan.run, self._now(), t.part.client, round_, t.part.reason or "unknown", t.update)
            for t in tallies
            if t.part.outcome == "rejected"
        ]

    def _central(self, state: State, scores: Mapping[str, float]) -> Evaluation:
        values = {name: decimal(value) for name, value in scores.items()}
        return Evaluation(self.plan.run, self._now(), state.round, "central", state.model, values, None, None)

    def _evaluate(self, state: State, noise_multiplier: float) -> Evaluation | None:
        recipe = {"noise_multiplier": decimal(noise_multiplier)}
        if self.plan.opening.privacy_statement.unit == "subject":
            recipe["unit"] = "subject"
        exchange = self._exchange
        tallies = exchange.ask("evaluate", state.round, state, exchange.reachable(), recipe, LIKE)
        found = evaluation(self.plan.run, self._now(), state.round, state.model, tallies, noise_multiplier)
        rejections = self._rejections(state.round, tallies)
        self.book.append([*rejections, *([found] if found else [])], [s for t in tallies for s in t.statements])
        return found

    @property
    def _exchange(self) -> Exchange:
        return Exchange(self.plan, self.book, self.fleet, self.key, self.clock, self.reached)

    def _now(self) -> str:
        return timestamp(self.clock())


def parted(items: Sequence[T]) -> list[Sequence[T]]:
    """Return `items` in parts for which an entry has room; at least one, of which the last may be empty."""
    return [items[i : i + ROLL] for i in range(0, max(1, len(items)), ROLL)]


def _bytes(state: State, tallies: Sequence[Tally]) -> tuple[int, int]:
    model = sum(array.nbytes for array in state.params.values())
    return model * len(tallies), sum(t.octets for t in tallies)
