"""What an order asks for, as a job on one data set: its privacy event, and what it is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedge.errors import ParseError
from fedge.learning.recipe import Recipe, event, from_record
from fedge.privacy.events import Event, Gaussian
from fedge.rounds.messages import WorkOrder

COUNT_SENSITIVITY = math.sqrt(2)
"""One record changes the pair (correct answers, records) by at most 1 in each place; so does one person, whose answers
count as their share of one (`learning.scoring`)."""


@dataclass(frozen=True)
class Job:
    """A training recipe, or (None) the noised count of correct answers; noise in units of `clip_norm`.

    `server_noise` is true where the update leaves without noise, and the server is to add it to a sum.

    Where the clip norm follows the data, `clip_norm` is the largest that it may become.
    """

    recipe: Recipe | None
    event: Event
    noise_multiplier: float
    clip_norm: float
    server_noise: bool = False


def job_of(order: WorkOrder) -> Job:
    """Return the job that `order` describes. Raises ParseError."""
    if order.work == "evaluate":
        return _evaluation(order)
    recipe = from_record(dict(order.recipe))
    privacy = recipe.privacy or recipe.client
    noise, clip = (privacy.noise_multiplier, privacy.largest_clip_norm) if privacy else (0.0, math.inf)
    return Job(recipe, event(recipe), noise, clip, recipe.client is not None and order.terms is None)


def _evaluation(order: WorkOrder) -> Job:
    unit = order.recipe.get("unit", "record")
    if set(order.recipe) - {"unit"} != {"noise_multiplier"} or unit not in {"record", "subject"}:
        raise ParseError("an evaluation is described by its noise_multiplier, and by the unit if that is a subject")
    try:
        noise = float(str(order.recipe["noise_multiplier"]))
        by_subject = unit == "subject"
        return Job(None, Gaussian(noise, unit="subject" if by_subject else "record"), noise, COUNT_SENSITIVITY)
    except ValueError as error:
        raise ParseError(f"not an evaluation: {error}") from error
