"""In which form an update travels between the two parties: as the order's recipe says, and no other.

The client packs after the noise, the server unpacks what it then has to judge; both know the public seed of a mask from
the order. See `learning.compression` for why this costs no privacy.
"""

from __future__ import annotations

from fedge.errors import ParseError, RoundError
from fedge.learning.compression import compressed, expanded
from fedge.learning.recipe import Recipe, from_record
from fedge.params import Params, check_like
from fedge.privacy.noise import Dice
from fedge.rounds.messages import WorkOrder

PLAIN = "safetensors"
"""Format of an update that travels as it is."""


def travelling(change: Params, recipe: Recipe, order: WorkOrder, dice: Dice) -> Params:
    """Return the change to the model in the form in which it leaves the client."""
    how = recipe.compression
    return change if how is None else compressed(change, how, order.substance, dice)


def arrived(tensors: Params, order: WorkOrder, like: Params) -> Params:
    """Return what `tensors` say, in the shapes of `like`. Raises RoundError if it is not what was ordered."""
    how = None if order.work == "evaluate" or order.terms is not None else _recipe(order).compression
    if how is not None:
        return expanded(tensors, how, order.substance, like)
    check_like(tensors, like)
    return tensors


def format_of(order: WorkOrder) -> str:
    """Return what the log calls the form of the answer to `order`, whether or not it can be carried out."""
    if order.work == "evaluate" or order.terms is not None:
        return PLAIN
    try:
        how = _recipe(order).compression
    except RoundError:
        return PLAIN
    return PLAIN if how is None else how.format


def _recipe(order: WorkOrder) -> Recipe:
    try:
        return from_record(dict(order.recipe))
    except ParseError as error:
        raise RoundError("the order names a recipe that is none") from error
