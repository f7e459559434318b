"""The pure core: what is summed comes out exactly, whoever drops out, and what is sent alone is noise."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fedge.encoding import digest
from fedge.errors import ParseError, RoundError, UnsoundError
from fedge.secagg import shamir
from fedge.secagg.keys import Secrets, agree, decrypt, derive, encrypt, public_half
from fedge.secagg.masking import (
    add_pair_masks,
    add_self_mask,
    pair_key,
    pair_secret,
    self_key,
    subtract_self_masks,
    total,
)
from fedge.secagg.ring import Ring, Word, from_grid, ring_for, to_grid
from fedge.secagg.shares import PeerShares, regained, seal, share_out, threshold, unseal
from fedge.secagg.terms import Terms, noisy_terms, update_terms
from fedge.secagg.unmasking import Given, PublicKeys, unmasked

SESSION = "sha256:" + "5" * 64


def secrets_of(names: list[str], session: str = SESSION) -> dict[str, Secrets]:
    return {name: Secrets(session, name.encode().ljust(32, b".")) for name in names}


def public(secrets: Mapping[str, Secrets]) -> dict[str, PublicKeys]:
    return {
        n: PublicKeys(public_half(s.mask_key), public_half(s.share_key), digest(s.self_mask))
        for n, s in secrets.items()
    }


def masked(me: str, secrets: Mapping[str, Secrets], vector: NDArray[np.int64], ring: Ring) -> Word:
    keys, mine = public(secrets), secrets[me]
    pairs = {
        n: pair_key(pair_secret(mine.mask_key, keys[n].mask_key, SESSION, me, n), 1, 1) for n in secrets if n != me
    }
    return add_self_mask(add_pair_masks(ring.encode(vector), me, pairs, ring), mine.self_mask, ring)


# ---- the ring ---------------------------------------------------------------------------------------------------


@given(st.data())
def test_what_goes_into_the_ring_comes_out(data: st.DataObject) -> None:
    clients, bound = data.draw(st.integers(1, 1000)), data.draw(st.integers(1, 2**40))
    ring = ring_for(clients, bound)
    numbers = data.draw(st.lists(st.integers(-bound, bound), max_size=20))
    vector = np.asarray(numbers, dtype=np.int64)
    words = ring.encode(vector)
    octets = ring.to_bytes(words)
    assert len(octets) == len(vector) * ring.width
    np.testing.assert_array_equal(ring.decode(ring.from_bytes(octets)), vector)


@given(st.integers(1, 10**6), st.integers(1, 2**50))
def test_the_smallest_ring_holds_every_sum_and_the_next_smaller_does_not(clients: int, bound: int) -> None:
    if 2 * clients * bound >= 2**64:
        with pytest.raises(UnsoundError, match="can wrap"):
            ring_for(clients, bound)
        return
    ring = ring_for(clients, bound)
    assert 2 * clients * bound < 2**ring.bits
    if ring.bits > 8:
        with pytest.raises(UnsoundError, match="can wrap"):
            Ring(ring.bits - 8, clients, bound)


def test_the_largest_sum_does_not_wrap() -> None:
    ring = Ring(16, 31, 1000)
    for sign in (1, -1):
        vectors = (ring.encode(np.full(3, sign * 1000)) for _ in range(31))
        np.testing.assert_array_equal(ring.decode(total(vectors, 3, ring)), np.full(3, sign * 31_000))


def test_a_coordinate_beyond_the_bound_is_refused() -> None:
    ring = Ring(16, 2, 100)
    for value in (101, -101):
        with pytest.raises(UnsoundError, match="exceeds"):
            ring.encode(np.asarray([0, value]))


def test_a_sum_that_cannot_be_is_refused() -> None:
    ring = Ring(16, 2, 100)
    with pytest.raises(RoundError, match="a mask is wrong"):
        ring.decode(np.asarray([201], np.uint32))


@pytest.mark.parametrize("octets", [np.zeros(4, np.uint8), np.zeros((3, 3), np.uint8), np.zeros(3, np.int8)])
def test_what_is_no_vector_is_refused(octets: NDArray[np.uint8]) -> None:
    with pytest.raises(ParseError):
        Ring(24, 2, 100).from_bytes(octets)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_no_number_has_no_place_on_the_grid(value: float) -> None:
    with pytest.raises(UnsoundError, match="not finite"):
        to_grid(np.asarray([value]), -10)


@given(st.lists(st.floats(-1e3, 1e3), max_size=10), st.integers(-30, 3))
def test_rounding_to_the_grid_moves_by_half_a_step_at_most(values: list[float], exponent: int) -> None:
    vector = np.asarray(values, dtype=np.float64)
    assert (np.abs(from_grid(to_grid(vector, exponent), exponent) - vector) <= 2.0**exponent / 2).all()


# ---- Shamir -----------------------------------------------------------------------------------------------------


def stream_of(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.integers(0, 12), st.randoms())
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, needed: int, more: int, random: object) -> None:
    shares = shamir.split(secret, needed, range(1, needed + more + 1), stream_of(1))
    chosen = random.sample(sorted(shares), needed)  # type: ignore[attr-defined]
    assert shamir.combine({x: shares[x] for x in chosen}, needed) == secret


def test_shares_by_hand() -> None:
    """A line through (0, 7) of slope 5 passes through (1, 12), (2, 17), (3, 22)."""
    shares = shamir.split((7).to_bytes(32, "big"), 2, [1, 2, 3], lambda count: (5).to_bytes(count, "big"))
    assert [int.from_bytes(shares[x], "big") for x in (1, 2, 3)] == [12, 17, 22]


def test_the_prime_is_prime_and_above_every_secret() -> None:
    assert shamir.PRIME > 2**256
    assert all(pow(a, shamir.PRIME - 1, shamir.PRIME) == 1 for a in (2, 3, 5, 7, 11, 13, 17, 19, 23))


def test_fewer_shares_fit_every_secret() -> None:
    """One share less than needed says nothing: for any other secret there is a polynomial through the same shares."""
    secret, other = bytes(31) + b"\x01", bytes(31) + b"\x02"
    shares = shamir.split(secret, 3, [1, 2, 3], stream_of(2))
    forged = dict(shares)
    # Lagrange: moving the value at 0 by d moves the value at 3 by d * L, with (1) and (2) kept as they are.
    weight = (3 - 1) * (3 - 2) * pow((0 - 1) * (0 - 2), -1, shamir.PRIME) % shamir.PRIME
    forged[3] = ((int.from_bytes(shares[3], "big") + weight) % shamir.PRIME).to_bytes(33, "big")
    assert shamir.combine(forged, 3) == other
    with pytest.raises(RoundError, match="2 shares of a secret have come, 3 are needed"):
        shamir.combine({1: shares[1], 2: shares[2]}, 3)


@pytest.mark.parametrize(("needed", "holders"), [(0, [1, 2]), (3, [1, 2]), (2, [1, 1]), (1, [0, 1])])
def test_what_cannot_be_shared(needed: int, holders: list[int]) -> None:
    with pytest.raises(RoundError):
        shamir.split(bytes(32), needed, holders, stream_of(0))


# ---- keys -------------------------------------------------------------------------------------------------------


def test_labels_cannot_run_into_each_other() -> None:
    assert derive(b"s" * 32, "ab", "c") != derive(b"s" * 32, "a", "bc") != derive(b"s" * 32, "abc")


def test_a_pair_agrees_and_others_do_not() -> None:
    secrets = secrets_of(["a", "b", "c"])
    keys = public(secrets)
    ab = pair_secret(secrets["a"].mask_key, keys["b"].mask_key, SESSION, "a", "b")
    assert ab == pair_secret(secrets["b"].mask_key, keys["a"].mask_key, SESSION, "b", "a")
    assert ab != pair_secret(secrets["a"].mask_key, keys["c"].mask_key, SESSION, "a", "c")
    assert ab != pair_secret(secrets["a"].mask_key, keys["b"].mask_key, "another session", "a", "b")
    assert len({pair_key(ab, step, attempt) for step in (1, 2) for attempt in (1, 2)}) == 4


def test_a_key_that_everybody_agrees_with_is_refused() -> None:
    with pytest.raises(RoundError, match="public key"):
        agree(b"k" * 32, bytes(32), "label")


def test_a_sealed_share_opens_for_its_peer_alone() -> None:
    secrets = secrets_of(["a", "b", "c"])
    keys, shares = public(secrets), PeerShares(b"m" * 33, b"s" * 33)
    sealed = seal(secrets["a"], "a", "b", keys["b"].share_key, shares)
    assert unseal(secrets["b"], "b", "a", keys["a"].share_key, sealed) == shares
    for thief, name in ((secrets["c"], "c"), (secrets["b"], "c"), (secrets_of(["b"], "other")["b"], "b")):
        with pytest.raises(RoundError, match="tampered"):
            unseal(thief, name, "a", keys["a"].share_key, sealed)
    for position in (0, len(sealed) // 2, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(RoundError, match="tampered"):
            unseal(secrets["b"], "b", "a", keys["a"].share_key, bytes(changed))
    assert b"m" * 8 not in sealed


def test_ciphertexts_are_bound_to_their_context() -> None:
    with pytest.raises(RoundError, match="elsewhere"):
        decrypt(b"k" * 32, encrypt(b"k" * 32, b"hello", "here"), "elsewhere")


# ---- the sum, with dropouts -------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(2, 9), st.integers(0, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_the_sum_is_exact_whoever_drops_out(length: int, clients: int, colluding: int, data: st.DataObject) -> None:
    needed = threshold(clients, colluding)
    if needed > clients:
        return
    names = [f"client-{i}" for i in range(clients)]
    order = data.draw(st.permutations(names))
    survivors = sorted(order[: data.draw(st.integers(needed, clients))])
    helpers = order[:needed]  # those who answer to the last: among the survivors, as few as can be
    secrets, ring = secrets_of(names), ring_for(clients, 10**6)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    vectors = {n: rng.integers(-(10**6), 10**6, length) for n in survivors}
    summed = total((masked(n, secrets, vectors[n], ring) for n in survivors), length, ring)
    shares = {n: share_out(secrets[n], names, needed) for n in names}
    dropped = [n for n in names if n not in survivors]
    given_ = Given(
        {n: {h: shares[n][h].self_mask for h in helpers} for n in survivors},
        {n: {h: shares[n][h].mask_key for h in helpers} for n in dropped},
        needed,
    )
    found = ring.decode(unmasked(summed, ring, SESSION, public(secrets), survivors, dropped, given_))
    np.testing.assert_array_equal(found, sum(vectors.values(), np.zeros(length, np.int64)))


def test_a_false_share_is_an_error_and_no_wrong_sum() -> None:
    names = ["a", "b", "c", "d"]
    secrets, ring = secrets_of(names), ring_for(4, 100)
    shares = {n: share_out(secrets[n], names, 3) for n in names}
    for kind in ("self_masks", "mask_keys"):
        words = total((masked(n, secrets, np.ones(5, np.int64), ring) for n in "abc"), 5, ring)
        own = {n: {h: shares[n][h].self_mask for h in "abc"} for n in "abc"}
        key = {"d": {h: shares["d"][h].mask_key for h in "abc"}}
        target = own["a"] if kind == "self_masks" else key["d"]
        target["b"] = (int.from_bytes(target["b"], "big") ^ 1).to_bytes(33, "big")
        with pytest.raises(RoundError):
            unmasked(words, ring, SESSION, public(secrets), ["a", "b", "c"], ["d"], Given(own, key, 3))


def test_a_dropout_that_nobody_gives_shares_of_is_an_error_and_no_wrong_sum() -> None:
    names = ["a", "b", "c", "d"]
    secrets, ring = secrets_of(names), ring_for(4, 100)
    words = total((masked(n, secrets, np.ones(1, np.int64), ring) for n in "abc"), 1, ring)
    own = {n: {h: share_out(secrets[n], names, 3)[h].self_mask for h in "abc"} for n in "abc"}
    with pytest.raises(RoundError, match="0 shares"):
        unmasked(words, ring, SESSION, public(secrets), ["a", "b", "c"], ["d"], Given(own, {}, 3))


def test_no_server_collects_both_kinds_of_shares() -> None:
    for clients in range(2, 60):
        for colluding in range(clients):
            needed = threshold(clients, colluding)
            honest = clients - colluding
            both = any(colluding + one >= needed and colluding + honest - one >= needed for one in range(honest + 1))
            assert not both, (clients, colluding)


def test_regained_needs_as_many_as_agreed() -> None:
    names = ["a", "b", "c", "d"]
    secrets = secrets_of(names)["a"]
    shares = share_out(secrets, names, 3)
    assert regained({h: shares[h].mask_key for h in "acd"}, names, 3) == secrets.mask_key
    with pytest.raises(RoundError, match="2 shares"):
        regained({h: shares[h].mask_key for h in "ac"}, names, 3)


# ---- what is sent alone is noise --------------------------------------------------------------------------------

LENGTH = 200_000


@pytest.mark.parametrize("ring", [Ring(24, 3, 1000), Ring(32, 3, 1000), Ring(48, 3, 1000), Ring(64, 3, 1000)])
@pytest.mark.parametrize("who", ["a", "b", "c"])
def test_a_masked_vector_is_uniform(ring: Ring, who: str) -> None:
    secrets = secrets_of(["a", "b", "c"])
    octets = ring.to_bytes(masked(who, secrets, np.zeros(LENGTH, np.int64), ring)).reshape(LENGTH, ring.width)
    for place in range(ring.width):
        counts = np.bincount(octets[:, place], minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-5, f"byte {place}"
    words = ring.from_bytes(octets.reshape(-1)).astype(np.float64) / 2.0**ring.bits
    assert stats.kstest(words, "uniform").pvalue > 1e-5


def test_a_masked_vector_is_not_correlated_with_what_is_in_it_or_with_the_others() -> None:
    secrets, ring = secrets_of(["a", "b", "c"]), Ring(32, 3, 2**28)
    vector = np.random.default_rng(0).integers(-(2**28), 2**28, LENGTH)
    sent = {n: masked(n, secrets, vector, ring).astype(np.float64) for n in "abc"}
    bound = 5 / np.sqrt(LENGTH)
    for n in "abc":
        assert abs(np.corrcoef(sent[n], vector)[0, 1]) < bound
    for one, other in (("a", "b"), ("b", "c"), ("a", "c")):
        assert abs(np.corrcoef(sent[one], sent[other])[0, 1]) < bound
        together = ring.reduced(sent[one].astype(np.uint32) + sent[other].astype(np.uint32)).astype(np.float64)
        assert abs(np.corrcoef(together, vector)[0, 1]) < bound


def test_the_tests_see_a_vector_without_masks() -> None:
    ring = Ring(32, 3, 1000)
    octets = ring.to_bytes(ring.encode(np.random.default_rng(0).integers(-1000, 1000, LENGTH))).reshape(-1, 4)
    assert stats.chisquare(np.bincount(octets[:, 2], minlength=256)).pvalue < 1e-5


def test_the_same_vector_in_another_session_looks_otherwise() -> None:
    ring, vector = Ring(32, 3, 1000), np.zeros(1000, np.int64)
    one = masked("a", secrets_of(["a", "b"]), vector, ring)
    again = masked("a", secrets_of(["a", "b"]), vector, ring)
    other = masked("a", {n: Secrets("other", s.secret) for n, s in secrets_of(["a", "b"]).items()}, vector, ring)
    assert (one == again).all()
    assert (one == other).mean() < 0.01


# ---- terms ------------------------------------------------------------------------------------------------------


@given(st.integers(2, 100_000), st.floats(1e-3, 1e5))
def test_terms_of_updates_fit_their_ring(clients: int, norm: float) -> None:
    terms = update_terms(clients, norm, 0)
    ring = terms.ring()
    assert 2.0**terms.exponent * ring.bound >= norm
    assert 2.0**terms.exponent <= norm * clients * 2.0**-27


@given(st.integers(3, 1000), st.floats(0.05, 50), st.floats(1e-2, 1e2), st.sampled_from([0, 1, 7]))
def test_terms_of_noisy_sums_hold_noise_and_all_records(
    clients: int, multiplier: float, clip: float, steps: int
) -> None:
    std = multiplier * clip
    try:
        terms = noisy_terms(clients, std, clip, 1, 0, steps)
    except UnsoundError:
        assert clients * 2**20 / (multiplier / np.sqrt(clients)) > 2**38  # too much for 64 bits: refused, not wrapped
        return
    reach = (clip * 2**20 if steps else clip) + 40 * std
    assert terms.ring().bound * 2.0**terms.exponent >= reach
    assert terms.share(std, clients) >= std / np.sqrt(clients)


def test_shares_of_noise_make_up_for_those_who_are_missing() -> None:
    terms = Terms(48, 40, -20, 10, 2, 1, 5, None, "distributed")
    assert terms.honest(10) == 7
    assert terms.share(7.0, 10) ** 2 * 7 == pytest.approx(49)
    assert terms.least(10) == 9
    with pytest.raises(UnsoundError, match="nobody left to rely on"):
        terms.honest(3)


def test_a_plain_sum_hides_among_two_at_the_least() -> None:
    terms = update_terms(10, 1.0, 3)
    assert terms.least(5) == 5
    assert terms.least(10) == threshold(10, 3) == 7


@pytest.mark.parametrize("ring", [Ring(24, 3, 1000), Ring(64, 3, 1000)])
@pytest.mark.parametrize("length", [0, 1, 3, 2**15 - 1, 2**15, 2**15 + 5, 3 * 2**15 + 1])
def test_a_mask_is_the_plain_key_stream(ring: Ring, length: int) -> None:
    """Made block by block, it is what AES-256-CTR gives in one piece."""
    seed = b"s" * 32
    encryptor = Cipher(algorithms.AES256(self_key(seed)), modes.CTR(bytes(16))).encryptor()
    whole = np.frombuffer(encryptor.update(bytes(length * ring.dtype.itemsize)), ring.dtype)
    found = add_self_mask(np.zeros(length, ring.dtype), seed, ring)
    np.testing.assert_array_equal(found, ring.reduced(whole.copy()))
    assert not subtract_self_masks(found, [seed], ring).any()
