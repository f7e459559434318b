"""How the records of one data set are spread over simulated clients: pure functions of labels and a generator.

Every function returns one ascending array of record numbers per client: disjoint, and together complete.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedge.errors import ConfigError

Parts = list[NDArray[np.int64]]


def iid(count: int, clients: int, rng: Generator) -> Parts:
    """Return `clients` parts of equal size (to within one record)."""
    _enough(count, clients)
    return _sorted(np.array_split(rng.permutation(count), clients))


def by_site(sites: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Return the records of each site, sites sorted by name."""
    names = np.asarray(sites)
    return {str(site): np.flatnonzero(names == site).astype(np.int64) for site in np.unique(names)}


def shares(targets: NDArray[np.int64], parts: Sequence[float], skew: float, rng: Generator) -> Parts:
    """Return parts with the given shares of all records; `skew` 0 mixes labels evenly, 1 sorts them apart.

    A record's place in line is `skew` * (its label's rank) + (1 - `skew`) * (chance); the line is then cut by shares.
    """
    if len(parts) == 0 or min(parts) <= 0 or abs(sum(parts) - 1) > 1e-6:
        raise ConfigError(f"population.shares: expected positive shares that sum to 1; found {list(parts)}")
    _enough(len(targets), len(parts))
    rank = np.unique(targets, return_inverse=True)[1] / max(1, len(np.unique(targets)) - 1)
    line = np.argsort(skew * rank + (1 - skew) * rng.random(len(targets)), kind="stable")
    cuts = np.round(np.cumsum(parts)[:-1] * len(targets)).astype(int)
    return _sorted(np.split(line, cuts))


def dirichlet(targets: NDArray[np.int64], clients: int, alpha: float, rng: Generator, least: int = 10) -> Parts:
    """Return parts whose label mix is drawn from a Dirichlet of concentration `alpha`.

    Hsu et al. 2019, https://arxiv.org/abs/1909.06335. Draws again until every client has `least` records; raises
    ConfigError after 100 tries.
    """
    _enough(len(targets), clients * least)
    for _ in range(100):
        parts = _dirichlet_once(targets, clients, alpha, rng)
        if min(map(len, parts)) >= least:
            return _sorted(parts)
    raise ConfigError(
        f"population: no Dirichlet split of {len(targets)} records over {clients} clients with alpha {alpha:g} gives "
        f"each at least {least}; raise population.alpha or lower population.clients"
    )


def shards(targets: NDArray[np.int64], clients: int, per_client: int, rng: Generator) -> Parts:
    """Return parts of `per_client` shards each, cut from the records sorted by label: most clients see few labels.

    McMahan et al. 2017, https://arxiv.org/abs/1602.05629.
    """
    _enough(len(targets), clients * per_client)
    cut = np.array_split(np.argsort(targets, kind="stable"), clients * per_client)
    dealt = rng.permutation(len(cut)).reshape(clients, per_client)
    return _sorted([np.concatenate([cut[i] for i in hand]) for hand in dealt])


def _dirichlet_once(targets: NDArray[np.int64], clients: int, alpha: float, rng: Generator) -> list[NDArray[np.int64]]:
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == label))
        cuts = (np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def _enough(count: int, needed: int) -> None:
    if count < needed:
        raise ConfigError(f"population: {count} records cannot be spread over clients that need {needed}")


def _sorted(parts: Sequence[NDArray[np.int64]]) -> Parts:
    return [np.sort(part).astype(np.int64) for part in parts]
