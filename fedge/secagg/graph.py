"""Who is whose neighbour in a large session: each client chooses some others by its own secret dice.

In a small session everybody masks with everybody and holds shares of everybody's secrets, so work grows with the square
of the cohort. In a large one each client picks `size` others at random, gives them the shares of its secrets, and masks
with them and with those who picked it (Bell et al. 2020, https://eprint.iacr.org/2020/704, the graph of section 4). The
server cannot bend the choice: who is in the session is fixed before, the dice come from the client's session secret,
and it answers the introduction once. Trying again takes a new session, and is as unlikely to succeed.

What must not happen, and how unlikely it is made, whoever the server then says has dropped out:

    colluders alone give a secret back: more of them in a circle than `most`                       2**-41 at the most
    the server learns a sum of few: a group of honest clients, not more than half of them, in which
    each has so many circle members inside that its self mask comes out                            2**-41 at the most

The second counts every group, so the server may choose the dropouts after it has seen the graph. A self mask comes
out with `needed` shares; colluders hold at most `most` of them and the client itself one, so needed - most - 1 honest
members of its circle must be in the sum, and in its group. Groups of more than half of the honest clients are one: the
server learns one sum, as in the complete graph. That all who help agree on which sum it is, is seen to as there.

What may happen, rarely: with `dropouts` gone, too few of somebody's circle are left, and the round is void (2**-20).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedge.secagg.keys import derive

SECRECY, RECOVERY = -41 * math.log(2), -20 * math.log(2)
"""Logarithms of the probabilities above."""
USUAL_DROPOUTS = 0.1
"""A circle is made for at least so large a share of clients dropping out."""
LARGE = 64
"""In a smaller session everybody is everybody's neighbour: circles would win next to nothing."""


@dataclass(frozen=True)
class Circle:
    """How many others each client chooses, and how many shares give a secret back."""

    size: int
    needed: int


@lru_cache(maxsize=64)
def circle(clients: int, colluding: int, dropouts: int) -> Circle | None:
    """Return a small circle among `clients` that keeps the promises above; None: everybody is a neighbour.

    A client has about twice as many neighbours as it has chosen; where that is not fewer than all, nothing is won.
    """
    gone = max(dropouts, math.ceil(USUAL_DROPOUTS * clients))
    size, others = 8, clients - 1
    while clients >= LARGE and 2 * size < others:
        most = _largest(others, colluding, size, SECRECY - math.log(clients))
        staying = size - _largest(others, min(gone, others), size, RECOVERY - math.log(clients))
        inside = staying - most - 1
        if inside >= 1 and _apart(clients, clients - colluding, size, inside) <= SECRECY:
            return Circle(size, staying)
        size += max(2, size // 16)  # the next sizes hardly differ
    return None


def chosen(secret: bytes, session: str, me: str, names: Sequence[str], size: int) -> tuple[str, ...]:
    """Return the `size` others, sorted, that `me` chooses among `names`; the same every time for one session secret."""
    others = sorted(name for name in names if name != me)
    encryptor = Cipher(algorithms.AES256(derive(secret, session, "circle")), modes.CTR(bytes(16))).encryptor()
    order = np.argsort(np.frombuffer(encryptor.update(bytes(8 * len(others))), dtype="<u8"), kind="stable")
    return tuple(sorted(others[int(i)] for i in order[:size]))


def _largest(others: int, marked: int, size: int, allowed: float) -> int:
    """Return the least m for which log P(more than m of `marked` among `size` of `others`) is at most `allowed`."""
    tails = _log_tails(others, np.asarray([marked]), size)[0]  # tails[m]: at least m
    return int(np.argmax(np.append(tails[1:], -np.inf) <= allowed))


def _apart(clients: int, honest: int, size: int, inside: int) -> float:
    """Return a bound on the log probability that some group of at most half of the honest is closed in itself.

    Each of its members would have `inside` of its `size` choices in the group; choices are independent of each other.
    """
    groups = np.arange(inside + 1, honest // 2 + 1)
    if len(groups) == 0:
        return -math.inf
    tails = _log_tails(clients - 1, groups - 1, size)[:, inside]
    return float(np.logaddexp.reduce(_log_choose(honest, groups) + groups * tails))


def _log_tails(others: int, marked: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Return log P(at least j of `marked` among `size` of `others`), shape [len(marked), size + 1] over j."""
    j = np.arange(size + 1)[None, :]
    m = marked[:, None]
    logs = _log_choose(m, j) + _log_choose(others - m, size - j) - _log_choose(others, np.asarray(size))
    return np.minimum(0.0, np.logaddexp.accumulate(logs[:, ::-1], axis=1)[:, ::-1])


def _log_choose(n: NDArray[np.int64] | int, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Return log (n choose k), minus infinity where nothing can be chosen so."""
    n, k = np.broadcast_arrays(np.asarray(n), np.asarray(k))
    possible = (k >= 0) & (k <= n)
    top, part = np.where(possible, n, 0), np.where(possible, k, 0)
    table = _log_factorials(int(top.max(initial=0)))
    return np.where(possible, table[top] - table[part] - table[top - part], -np.inf)


@lru_cache(maxsize=8)
def _log_factorials(most: int) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(1), np.cumsum(np.log(np.arange(1, most + 1)))])
