"""Private selection: what it costs to try settings a *random* number of times and release only the best try.

Papernot and Steinke 2022, https://arxiv.org/abs/2110.03620: if the number of tries K is drawn from a truncated negative
binomial distribution, the best of K tries costs little more than one. Three conditions, all of them needed: K is drawn
anew and kept secret; each try, with the score that it is chosen by, has the cost that is named; and nothing of the
tries that were not chosen is ever seen by anybody.

The last one is why this changes nothing in a ledger: in a federation the server sees every update of every try, so
a parameter search over rounds adds up. It is for what one owner tries alone, or a trusted server keeps to itself.
"""

from __future__ import annotations

import math
import warnings

from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.rdp import RdpAccountant

from fedge.privacy.events import Event, Gaussian, NonPrivate, SampledGaussian
from fedge.privacy.noise import Dice


def epsilon(event: Event, delta: float, mean: float, shape: float = 1.0) -> float:
    """Return what the best of K tries costs, K of mean `mean`, each try one `event` (the score included).

    `shape` is the distribution's: 1 geometric, 0 logarithmic, infinity Poisson. Raises ValueError for a mean below 1.
    """
    if not mean >= 1:
        raise ValueError("the mean number of tries is at least 1")
    accountant = RdpAccountant(_ORDERS)
    match event:
        case NonPrivate():
            return math.inf
        case SampledGaussian(rate, noise, steps):
            one: DpEvent = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
        case Gaussian(noise, steps):
            one = GaussianDpEvent(noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library on the ends of its grid of orders
        accountant.compose(RepeatAndSelectDpEvent(SelfComposedDpEvent(one, steps), mean, shape))
        return float(accountant.get_epsilon(delta))


def tries(dice: Dice, mean: float) -> int:
    """Return a number of tries for `shape` 1: geometric from 1 up, of mean `mean`. It is a secret."""
    if mean == 1:
        return 1
    return max(1, math.ceil(math.log(float(dice.uniform(1)[0])) / math.log1p(-1 / mean)))


_ORDERS = [1.5, *(float(x) for x in range(2, 64)), 128.0, 256.0, 512.0]
