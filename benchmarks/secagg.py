"""What secure aggregation costs a client and the server, beside Flower's SecAgg+ primitives: `make bench-privacy`.

    client   keys, shares sealed for every peer, the vector put on the grid, masked with every peer, packed
    server   secrets regained from shares, masks taken off the sum; 0, 10 and 30 % of the clients gone after sharing

Every client is everybody's neighbour in both; large sessions with chosen neighbours stand in a table of their own.
Flower's masks come from np.random.RandomState, seeded with the secret folded to 32 bits: whoever tries 2**32 seeds has
every mask. Time is one core's, bytes are what one client sends.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes
from numpy.typing import NDArray

from fedge.encoding import digest
from fedge.secagg.graph import Circle, chosen
from fedge.secagg.keys import Secrets, public_half
from fedge.secagg.masking import add_pair_masks, add_self_mask, pair_key, pair_secret, total
from fedge.secagg.ring import to_grid
from fedge.secagg.shares import seal, share_out, threshold
from fedge.secagg.terms import update_terms
from fedge.secagg.unmasking import Given, PublicKeys, unmasked

SESSION = "benchmark"
FLOWER_RANGE, FLOWER_TARGET, CLIP = 2**32, 2**22, 8.0
MOST = 1e9
"""Mask elements that the server's side may take off before a case is left out."""


def names_of(clients: int) -> list[str]:
    return [f"client-{i:03d}" for i in range(clients)]


def secrets_of(names: Sequence[str]) -> dict[str, Secrets]:
    return {name: Secrets(SESSION, os.urandom(32)) for name in names}


def public(secrets: Secrets) -> PublicKeys:
    return PublicKeys(public_half(secrets.mask_key), public_half(secrets.share_key), digest(secrets.self_mask))


def circle_of(me: str, mine: Secrets, names: Sequence[str], around: Circle | None) -> list[str]:
    """Return who holds shares of the secrets of `me`, as a client chooses them."""
    return list(names) if around is None else sorted((me, *chosen(mine.secret, SESSION, me, names, around.size)))


def client(
    vector: NDArray[np.float64],
    me: str,
    mine: Secrets,
    keys: dict[str, PublicKeys],
    around: Circle | None = None,
    by: Sequence[str] = (),
) -> tuple[NDArray[np.uint8], int]:
    """Return what one client sends, masked, and how many bytes in all; `by` are those that have chosen it."""
    terms, circle = update_terms(len(keys), CLIP, 1), circle_of(me, mine, list(keys), around)
    ring, peers = terms.ring(), [name for name in keys if name != me and (name in by or name in circle)]
    shares = share_out(mine, circle, around.needed if around else terms.needed(len(keys)))
    sealed = [seal(mine, me, peer, keys[peer].share_key, shares[peer]) for peer in circle if peer != me]
    words = ring.encode(to_grid(vector, terms.exponent))
    pairs = {p: pair_key(pair_secret(mine.mask_key, keys[p].mask_key, SESSION, me, p), 1, 1) for p in peers}
    octets = ring.to_bytes(add_self_mask(add_pair_masks(words, me, pairs, ring), mine.self_mask, ring))
    return octets, len(octets) + sum(map(len, sealed)) + 3 * 32


def flower_client(vector: NDArray[np.float64], clients: int) -> tuple[NDArray[np.int64], int]:
    """The same work with Flower's primitives, as its mod does it."""
    own, _ = generate_key_pairs()
    others = [generate_key_pairs()[1] for _ in range(min(clients - 1, 4))]  # their keys are not this client's work
    keys = [generate_shared_key(own, others[i % len(others)]) for i in range(clients - 1)]
    seed, needed = os.urandom(32), threshold(clients, 1)
    shares = [create_shares(s, needed, clients) for s in (seed, private_key_to_bytes(own))]
    sealed = [encrypt(key, shares[0][i] + shares[1][i]) for i, key in enumerate(keys)]
    masked = quantize([vector], CLIP, FLOWER_TARGET)[0].astype(np.int64)
    masked += pseudo_rand_gen(seed, FLOWER_RANGE, [vector.shape])[0]
    for i, key in enumerate(keys):
        mask = pseudo_rand_gen(key, FLOWER_RANGE, [vector.shape])[0]
        masked = masked + mask if i % 2 else masked - mask
    masked %= FLOWER_RANGE
    return masked, masked.nbytes + sum(map(len, sealed)) + 2 * 91


def server(length: int, clients: int, dropped: int, around: Circle | None = None) -> Callable[[], object]:
    """Return the server's work at the end of a round in which `dropped` clients were gone."""
    names = names_of(clients)
    secrets, terms = secrets_of(names), update_terms(clients, CLIP, 1)
    keys, ring = {n: public(s) for n, s in secrets.items()}, terms.ring()
    needed = around.needed if around else terms.needed(clients)
    survivors, gone = names[: clients - dropped], names[clients - dropped :]
    circles = {n: circle_of(n, s, names, around) for n, s in secrets.items()}
    shares, staying = {n: share_out(s, circles[n], needed) for n, s in secrets.items()}, set(survivors)
    given = Given(
        {n: {h: shares[n][h].self_mask for h in circles[n] if h in staying} for n in survivors},
        {n: {h: shares[n][h].mask_key for h in circles[n] if h in staying} for n in gone},
        needed,
        circles,
    )
    words = np.zeros(length, ring.dtype)
    return lambda: unmasked(words, ring, SESSION, keys, survivors, gone, given)


def flower_server(length: int, clients: int, dropped: int) -> Callable[[], object]:
    """Return the same work with Flower's primitives, as its workflow does it."""
    survivors, needed = clients - dropped, threshold(clients, 1)
    shares = [create_shares(os.urandom(32), needed, clients)[:needed] for _ in range(clients)]
    own, other = generate_key_pairs()[0], generate_key_pairs()[1]

    def work() -> None:
        words = np.zeros(length, np.int64)
        for mine in shares[:survivors]:
            words -= pseudo_rand_gen(combine_shares(mine), FLOWER_RANGE, [(length,)])[0]
        for mine in shares[survivors:]:
            combine_shares(mine)
            for _ in range(survivors):
                words += pseudo_rand_gen(generate_shared_key(own, other), FLOWER_RANGE, [(length,)])[0]

    return work


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def check() -> None:
    """Raise AssertionError unless what is timed sums exactly."""
    names = names_of(5)
    secrets = secrets_of(names)
    keys, terms = {n: public(s) for n, s in secrets.items()}, update_terms(5, CLIP, 1)
    ring, vectors = terms.ring(), np.random.default_rng(0).uniform(-1, 1, (5, 1000))
    survivors = names[:4]
    sent = {n: ring.from_bytes(client(v, n, secrets[n], keys)[0]) for n, v in zip(names, vectors, strict=True)}
    shares = {n: share_out(s, names, terms.needed(5)) for n, s in secrets.items()}
    given = Given(
        {n: {h: shares[n][h].self_mask for h in survivors} for n in survivors},
        {names[4]: {h: shares[names[4]][h].mask_key for h in survivors}},
        terms.needed(5),
    )
    summed = unmasked(total((sent[n] for n in survivors), 1000, ring), ring, SESSION, keys, survivors, names[4:], given)
    assert (ring.decode(summed) == sum(to_grid(v, terms.exponent) for v in vectors[:4])).all()


def circles(length: int, sizes: Sequence[int], dropped: float) -> None:
    """Print what large sessions cost with chosen neighbours, beside everybody with everybody."""
    columns = ("parameters", "clients", "neighbours", "client s", "sent MB", "server s, 10 % gone")
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    vector = np.random.default_rng(0).uniform(-1, 1, length)
    for clients in sizes:
        names = names_of(clients)
        secrets = secrets_of(names)
        keys, me = {n: public(s) for n, s in secrets.items()}, names[1]
        for around in (None, update_terms(clients, CLIP, 1).circle(clients)):
            by = [n for n in names if n != me and me in circle_of(n, secrets[n], names, around)]
            near = len({*by, *circle_of(me, secrets[me], names, around)} - {me})
            sent: list[int] = []
            took = seconds(lambda: sent.append(client(vector, me, secrets[me], keys, around, by)[1]))  # noqa: B023
            gone = round(dropped * clients)
            work = "—" if length * near * gone > 3 * MOST else f"{seconds(server(length, clients, gone, around)):.2f}"
            print(f"| {length:,} | {clients} | {near} | {took:.3f} | {sent[0] / 1e6:.2f} | {work} |", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--clients", type=int, nargs="+", default=[5, 20, 100])
    parser.add_argument("--large", type=int, nargs="*", default=[100, 500, 1000], help="clients of large sessions")
    options = parser.parse_args(arguments)
    check()
    columns = ("parameters", "clients", "client s", "Flower s", "sent MB", "Flower MB", "server s", "Flower s")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    slower = 0
    for length in options.parameters:
        vector = np.random.default_rng(0).uniform(-1, 1, length)
        for clients in options.clients:
            names = names_of(clients)
            secrets = secrets_of(names)
            keys = {n: public(s) for n, s in secrets.items()}
            sent: list[int] = []
            ours = seconds(lambda: sent.append(client(vector, names[1], secrets[names[1]], keys)[1]))  # noqa: B023
            theirs = seconds(lambda: sent.append(flower_client(vector, clients)[1]))  # noqa: B023
            slower += ours > theirs
            gone = [0, round(0.1 * clients), min(round(0.3 * clients), clients - threshold(clients, 1))]
            work = [_timed(server, length, clients, g) for g in gone]
            flower = [_timed(flower_server, length, clients, g) for g in gone]
            megabytes = [f"{n / 1e6:.1f}" for n in sent]
            cells = [f"{length:,}", str(clients), f"{ours:.3f}", f"{theirs:.3f}", *megabytes]
            print(f"| {' | '.join([*cells, ' / '.join(work), ' / '.join(flower)])} |", flush=True)
    circles(options.parameters[0], options.large, 0.1)
    return 1 if slower else 0


def _timed(make: Callable[[int, int, int], Callable[[], object]], length: int, clients: int, gone: int) -> str:
    if length * (clients - gone) * (1 + gone) > MOST:
        return "—"
    return f"{seconds(make(length, clients, gone)):.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
