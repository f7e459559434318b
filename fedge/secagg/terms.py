"""The terms of a session, fixed by the server's order and judged by every client before it takes part.

They say how numbers become integers that cannot wrap, how many clients may collude with the server or drop out, and
whether each adds its share of the noise. What the noise shares of n clients add up to when up to `dropouts` of them are
missing and `colluding` others have told the server theirs is what the privacy ledger counts:

    share of each: total standard deviation / sqrt(n - dropouts - colluding)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fedge.errors import UnsoundError
from fedge.secagg.graph import Circle, circle
from fedge.secagg.ring import Ring, ring_for
from fedge.secagg.shares import threshold

UPDATE_BITS = 32
"""Bits per coordinate of a plain sum of updates; the grid is as fine as they allow."""
LARGEST_POOL = 2**20
"""Most records that one client may have in a session of noisy sums: the ring holds the sum of all of them."""
TAIL = 40.0
"""Noise stays within so many standard deviations (but for a probability below 1e-340), or the client says nothing."""


@dataclass(frozen=True)
class Terms:
    """What is summed, and who may fail.

    Coordinates are multiples of 2**`exponent`, at most 2**`bound` of them, modulo 2**`bits`, of up to `clients`
    clients. `steps` 0 is one vector from each, and whoever drops out afterwards is recovered; from 1 on it is that many
    sums, one after the other. `norm` (decimal) is the L2 norm that a single vector is shortened to, null for sums that
    are clipped per record. `noise` distributed: each client adds its share.
    """

    bits: int
    bound: int
    exponent: int
    clients: int
    colluding: int
    dropouts: int
    steps: int
    norm: str | None
    noise: Literal["none", "distributed"]

    def __post_init__(self) -> None:
        if min(self.clients - 1, self.bound, self.colluding, self.dropouts, self.steps) < 0:
            raise ValueError("counts are not negative, and there is a client")
        if (self.norm is None) != (self.steps > 0):
            raise ValueError("norm belongs to a session of one vector, and to no other")

    def ring(self) -> Ring:
        """Return the ring of the session. Raises UnsoundError if a sum could wrap."""
        return Ring(self.bits, self.clients, 2**self.bound)

    def needed(self, clients: int) -> int:
        """Return how many of `clients` must agree on a sum; among few, also give a share of a secret to know it."""
        return threshold(clients, self.colluding)

    def circle(self, clients: int) -> Circle | None:
        """Return how many peers each of `clients` chooses as its neighbours; None: all are everybody's.

        Where clients add shares of the noise, or sum step by step, it is always all.
        """
        if self.steps or self.noise != "none":
            return None
        return circle(clients, self.colluding, self.dropouts)

    def shares_needed(self, clients: int) -> int:
        """Return how many shares give a client's secret back, in a session of `clients`."""
        around = self.circle(clients)
        return self.needed(clients) if around is None else around.needed

    def honest(self, clients: int) -> int:
        """Return how many of `clients` take part to the end and tell the server nothing, at the least.

        Raises UnsoundError if that is nobody.
        """
        left = clients - self.dropouts - self.colluding
        if left < 1:
            raise UnsoundError(
                f"of {clients} clients {self.dropouts} may drop out and {self.colluding} collude with the server: "
                "there is nobody left to rely on; ask more clients, or tolerate fewer"
            )
        return left

    def least(self, clients: int) -> int:
        """Return how many of `clients` must be in a sum before a client helps to take the masks off it.

        With noise shares so many that the noise is what the ledger counts; without, so many that at least two honest
        updates hide each other.
        """
        covered = clients - self.dropouts if self.noise == "distributed" else self.colluding + 2
        return max(covered, 1 if self.steps else self.needed(clients))

    def share(self, std: float, clients: int) -> float:
        """Return the standard deviation of each client's noise, if that of all together is to be `std`."""
        return std / math.sqrt(self.honest(clients))


def update_terms(clients: int, norm: float, colluding: int, dropouts: int = 0) -> Terms:
    """Return the terms of a sum of updates that are shortened to `norm`, on the finest grid that the ring allows.

    If more than `dropouts` and a tenth of the clients are missing in the end, a large session may come to nothing.
    """
    bound = UPDATE_BITS - 2 - (clients - 1).bit_length()  # 2 * clients * 2**bound is below 2**bits
    exponent = math.ceil(math.log2(norm)) - bound
    return Terms(UPDATE_BITS, bound, exponent, clients, colluding, dropouts, 0, repr(norm), "none")


def noisy_terms(clients: int, std: float, clip: float, colluding: int, dropouts: int, steps: int) -> Terms:
    """Return the terms of sums with noise of standard deviation `std` shared by all.

    `steps` 0 sums one vector from each client, clipped to `clip`; from 1 on each sum is over a client's records,
    clipped to `clip` each. The grid is so fine that rounding costs next to nothing and that the sum of discrete
    Gaussians is a discrete Gaussian (see `privacy.distributed`).
    """
    share = std / math.sqrt(clients)
    exponent = math.floor(math.log2(share)) - 22
    reach = (clip * LARGEST_POOL if steps else clip) + TAIL * std
    bound = math.ceil(math.log2(reach)) - exponent
    ring = ring_for(clients, 2**bound)
    norm = None if steps else repr(clip)
    return Terms(ring.bits, bound, exponent, clients, colluding, dropouts, steps, norm, "distributed")
