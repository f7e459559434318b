"""Large sessions, in which each client chooses its neighbours: what the bound promises, and the same protocol."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedge.encoding import parse
from fedge.ids import ClientId
from fedge.rounds.messages import Parcel, payload_type
from fedge.rounds.secure.messages import ConfirmRequest, Introduction, MaskRequest, Sealed, UnmaskRequest
from fedge.secagg import graph, terms
from fedge.secagg.graph import Circle, chosen, circle
from fedge.secagg.keys import Secrets
from fedge.secagg.masking import add_pair_masks, add_self_mask, pair_key, pair_secret, total
from fedge.secagg.ring import ring_for
from fedge.secagg.shares import share_out
from fedge.secagg.unmasking import Given, unmasked
from fedge.signing import parse_envelope
from tests.rounds.house import House, SilentError, house
from tests.secagg.sessions import kind_of, silent_from
from tests.secagg.test_arithmetic import SESSION, public, secrets_of
from tests.secagg.test_session import STAGES, model, outcomes

# ---- the bound --------------------------------------------------------------------------------------------------

SETTINGS = [(64, 1, 0), (100, 5, 0), (200, 10, 40), (400, 20, 0)]


def failures(clients: int, colluding: int, gone: int, around: Circle) -> tuple[float, float]:
    """Return the chances, by scipy, that secrecy and that recovery fail, at the best count of colluders allowed."""
    others, honest = clients - 1, clients - colluding
    best = 1.0
    for most in range(around.needed):
        alone = clients * stats.hypergeom.sf(most, others, colluding, around.size)
        groups = np.arange(around.needed - most, honest // 2 + 1)
        tails = stats.hypergeom.logsf(around.needed - most - 2, others, groups - 1, around.size)
        ways = [math.lgamma(honest + 1) - math.lgamma(s + 1) - math.lgamma(honest - s + 1) for s in groups]
        best = min(best, alone + float(np.exp(np.asarray(ways) + groups * tails).sum()))
    few = clients * stats.hypergeom.cdf(around.needed - 1, others, others - gone, around.size)
    return best, float(few)


@pytest.mark.parametrize(("clients", "colluding", "dropouts"), SETTINGS)
def test_a_circle_keeps_what_it_promises(clients: int, colluding: int, dropouts: int) -> None:
    around = circle(clients, colluding, dropouts)
    assert around is not None
    assert 2 * around.size < clients - 1
    secrecy, recovery = failures(clients, colluding, max(dropouts, math.ceil(0.1 * clients)), around)
    assert secrecy < 2.0**-40
    assert recovery < 2.0**-19.9


@pytest.mark.parametrize(("clients", "colluding", "dropouts"), SETTINGS)
def test_smaller_circles_would_not(clients: int, colluding: int, dropouts: int) -> None:
    around = circle(clients, colluding, dropouts)
    assert around is not None
    half = Circle(around.size // 2, around.needed // 2)
    secrecy, recovery = failures(clients, colluding, max(dropouts, math.ceil(0.1 * clients)), half)
    assert secrecy > 2.0**-40 or recovery > 2.0**-20


def test_among_few_everybody_is_a_neighbour() -> None:
    assert all(circle(n, 1, 0) is None for n in range(2, 64))
    assert circle(100, 40, 0) is None, "too many collude for circles"
    assert terms.update_terms(10, 1.0, 1).circle(10) is None
    assert terms.noisy_terms(1000, 1.0, 1.0, 1, 0, 5).circle(1000) is None, "shares of noise are for one sum of all"


def test_circles_grow_slowly() -> None:
    sizes = [c.size for n in (100, 1000, 10_000) if (c := circle(n, 1, 0)) is not None]
    assert sizes == sorted(sizes)
    assert sizes[-1] < 80


def closed_group(choices: dict[int, set[int]], start: int, inside: int) -> set[int]:
    """Return a group around `start` in which each has `inside` choices, grown by whoever is chosen most from within."""
    group = {start}
    while True:
        lacking = [i for i in group if len(choices[i] & group) < inside]
        if not lacking:
            return group
        wanted = [j for i in lacking for j in choices[i] - group]
        group.add(max(set(wanted), key=wanted.count))


@pytest.mark.parametrize("inside", [None, 2])
def test_a_server_that_picks_the_dropouts_cuts_nobody_off(inside: int | None) -> None:
    """It looks for a small group in which everybody's self mask comes out; with too low a threshold it finds one."""
    around = circle(100, 1, 0)
    assert around is not None
    names = [f"{i:03d}" for i in range(100)]
    choices = {
        i: {int(n) for n in chosen(bytes([i]) * 32, SESSION, names[i], names, around.size)} for i in range(len(names))
    }
    smallest = min(len(closed_group(choices, i, inside or around.needed - 2)) for i in range(len(names)))
    assert (smallest > 50) == (inside is None)


def test_choices_are_random_secret_and_repeatable() -> None:
    names = [f"c{i:02d}" for i in range(40)]
    picks = [chosen(i.to_bytes(32, "big"), SESSION, "c00", names, 10) for i in range(2000)]
    assert chosen(bytes(32), SESSION, "c00", names, 10) == picks[0] != chosen(bytes(32), "other", "c00", names, 10)
    assert all(len(set(p)) == 10 and "c00" not in p for p in picks)
    counts = [sum(n in p for p in picks) for n in names[1:]]
    assert stats.chisquare(counts).pvalue > 1e-6


# ---- the arithmetic ---------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_the_sum_is_exact_whoever_drops_out(seed: int, gone: int) -> None:
    names, rng = [f"c{i:02d}" for i in range(12)], np.random.default_rng(seed)
    secrets, ring = secrets_of(names), ring_for(12, 10**6)
    keys = public(secrets)
    circles = {n: sorted((n, *chosen(secrets[n].secret, SESSION, n, names, 5))) for n in names}
    dropped = sorted(rng.choice(names, gone, replace=False).tolist())
    survivors = [n for n in names if n not in dropped]
    vectors = {n: rng.integers(-(10**6), 10**6, 9) for n in survivors}

    def sent(name: str, own: Secrets) -> np.ndarray:
        around = [p for p in names if p != name and (p in circles[name] or name in circles[p])]
        pairs = {p: pair_key(pair_secret(own.mask_key, keys[p].mask_key, SESSION, name, p), 1, 1) for p in around}
        return add_self_mask(add_pair_masks(ring.encode(vectors[name]), name, pairs, ring), own.self_mask, ring)

    words = total((sent(n, secrets[n]) for n in survivors), 9, ring)
    shares = {n: share_out(secrets[n], circles[n], 3) for n in names}
    given_ = Given(
        {n: {h: shares[n][h].self_mask for h in circles[n] if h in survivors} for n in survivors},
        {n: {h: shares[n][h].mask_key for h in circles[n] if h in survivors} for n in dropped},
        3,
        circles,
    )
    found = ring.decode(unmasked(words, ring, SESSION, keys, survivors, dropped, given_))
    np.testing.assert_array_equal(found, sum(vectors.values()))


def test_a_share_of_somebody_who_holds_none_does_not_count() -> None:
    names = ["a", "b", "c", "d"]
    secrets, ring = secrets_of(names), ring_for(4, 100)
    circles = {n: ["a", "b", n] if n > "b" else ["a", "b"] for n in names}
    shares = {n: share_out(secrets[n], circles[n], 2) for n in names}
    given_ = Given(
        {n: {h: s.self_mask for h, s in shares[n].items()} | {"z": bytes(33)} for n in names}, {}, 2, circles
    )
    words = total(
        (add_self_mask(ring.encode(np.ones(3, np.int64)), secrets[n].self_mask, ring) for n in names), 3, ring
    )
    assert (ring.decode(unmasked(words, ring, SESSION, public(secrets), names, [], given_)) == 4).all()


# ---- whole rounds -----------------------------------------------------------------------------------------------

EIGHT = tuple(ClientId(f"hospital-{i}") for i in range(1, 9))
LARGE = ("population=iid", "population.clients=8", "population.prefix=hospital", "training.steps=2", "rounds=1")
SUMMED = (*LARGE, "privacy.secure_aggregation=true")


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight clients, each of which chooses four: far too few to be safe, and enough to see the protocol."""
    monkeypatch.setattr(terms, "circle", lambda _clients, _colluding, _dropouts: Circle(4, 4))


def heard(here: House, kind: type) -> list[Parcel]:
    """Let `here` note every answer to a message of this kind."""
    kept: list[Parcel] = []

    def listening(honest: Callable[..., Parcel]) -> Callable[..., Parcel]:
        def answer(what: str, parcel: Parcel) -> Parcel:
            said = honest(what, parcel)
            if what == "secure" and kind_of(parcel).endswith(f".{kind.__name__.lower()}+json"):
                kept.append(said)
            return said

        return answer

    here.wrapped |= dict.fromkeys(EIGHT, listening)
    return kept


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("stage", [None, *STAGES], ids=lambda s: s.__name__ if s else "nobody")
def test_a_dropout_at_any_stage_is_recovered(tmp_path: Path, stage: type | None) -> None:
    here = house(tmp_path / "hidden", *SUMMED, "privacy.colluding=0")
    if stage:
        here.wrapped[EIGHT[0]] = silent_from(stage)
    (record,) = here.rounds(1)
    assert not record.void
    sent = stage in (None, ConfirmRequest, UnmaskRequest)
    assert outcomes(record) == {c: "accepted" if c != EIGHT[0] or sent else "silent" for c in EIGHT}
    open_ = house(tmp_path / "open", *LARGE)
    if not sent:
        open_.wrapped[EIGHT[0]] = _silent
    open_.rounds(1)
    np.testing.assert_allclose(model(tmp_path / "hidden"), model(tmp_path / "open"), atol=1e-5)


def _silent(honest: Callable[..., Parcel]) -> Callable[..., Parcel]:
    def answer(kind: str, parcel: Parcel) -> Parcel:
        if kind == "work":
            raise SilentError
        return honest(kind, parcel)

    return answer


@pytest.mark.usefixtures("four")
def test_each_client_deals_with_those_it_has_chosen_alone(tmp_path: Path) -> None:
    here = house(tmp_path, *SUMMED)
    sealed = heard(here, Introduction)
    here.rounds(1)
    said = [_said(Sealed, parcel) for parcel in sealed]
    assert [len(s["shares"]) for s in said] == [4] * 8
    assert len({tuple(sorted(s["shares"])) for s in said}) > 1


def _said(kind: type, parcel: Parcel) -> dict[str, dict[str, str]]:
    assert parse_envelope(parcel.statements[0]).payload_type == payload_type(kind)
    found: dict[str, dict[str, str]] = parse(parse_envelope(parcel.statements[0]).payload)
    return found


@pytest.mark.usefixtures("four")
def test_too_many_dropouts_make_the_round_void(tmp_path: Path) -> None:
    here = house(tmp_path, *SUMMED, "privacy.colluding=0")
    here.wrapped |= {c: silent_from(UnmaskRequest) for c in EIGHT[:3]}
    (record,) = here.rounds(1)
    assert (record.void, record.reason) == (True, "secure_sum_failed")


@pytest.mark.usefixtures("four")
def test_a_server_that_hides_who_chose_whom_gets_no_sum_that_means_anything(tmp_path: Path) -> None:
    """Masks that one side alone has put on stay on."""
    here, open_ = house(tmp_path / "hidden", *SUMMED, "privacy.colluding=0"), house(tmp_path / "open", *LARGE)
    here.wrapped[EIGHT[0]] = _forgets_peers
    here.rounds(1)
    open_.rounds(1)
    assert np.abs(model(tmp_path / "hidden") - model(tmp_path / "open")).max() > 0.01


def _forgets_peers(honest: Callable[..., Parcel]) -> Callable[..., Parcel]:
    """Return a client that masks with those alone that it has chosen, as if the server had kept the others from it."""

    def answer(kind: str, parcel: Parcel) -> Parcel:
        with pytest.MonkeyPatch.context() as patch:
            if kind == "secure" and kind_of(parcel).endswith("maskrequest+json"):
                patch.setattr("fedge.rounds.secure.party._neighbours", _own)
            return honest(kind, parcel)

    return answer


def _own(seat: object, request: MaskRequest) -> tuple[str, ...]:
    return tuple(n for n in seat.circle(tuple(seat.peers())) if n in request.participants)  # type: ignore[attr-defined]


def test_the_graph_is_made_by_the_bound_where_a_session_is_large() -> None:
    assert terms.update_terms(500, 1.0, 5, 50).circle(500) == graph.circle(500, 5, 50)
