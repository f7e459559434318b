"""Smaller updates: right on average, strict about what comes, and a function of the noised result alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.errors import RoundError
from fedge.learning import compression
from fedge.learning.compression import BITS, PLACES, SCALES, VALUES, Compression, compressed, expanded
from fedge.learning.recipe import Poisson, Recipe, from_record, to_record
from fedge.params import Params, flat
from fedge.privacy import noise

WAYS = [Compression(share, keep, bits) for share in (1.0, 0.3) for keep in ("random", "largest") for bits in BITS]


def change(seed: int = 0, scale: float = 1.0) -> Params:
    rng = np.random.default_rng(seed)
    shapes = {"a.bias": (3,), "a.weight": (3, 7), "b.bias": (1,)}
    return {n: (scale * rng.normal(size=s)).astype(np.float32) for n, s in shapes.items()}


def there_and_back(what: Params, how: Compression, draw: int = 0) -> Params:
    return expanded(compressed(what, how, "seed", noise.seeded(draw)), how, "seed", what)


@given(st.integers(0, 50), st.sampled_from(WAYS), st.sampled_from([0.0, 1e-30, 1.0, 1e30]))
def test_what_arrives_is_what_was_sent_to_within_one_level(seed: int, how: Compression, scale: float) -> None:
    sent = change(seed, scale)
    got = there_and_back(sent, how)
    kept = flat(got) != 0
    assert kept.sum() <= np.ceil(how.share * kept.size)
    factor = 1.0 if how.share == 1 or how.keep == "largest" else kept.size / np.ceil(how.share * kept.size)
    for name in sent:
        level = 0 if how.bits == 32 else factor * np.abs(sent[name]).max() / (2 ** (how.bits - 1) - 1)
        off = np.abs(got[name] - factor * sent[name])[got[name] != 0]
        assert (off <= level * 1.001 + 1e-5 * factor * scale).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_is_right_on_average(bits: int) -> None:
    sent, how = change(3), Compression(bits=bits)
    mean = np.mean([flat(there_and_back(sent, how, draw)) for draw in range(800)], axis=0)
    step = max(np.abs(v).max() for v in sent.values()) / (2 ** (bits - 1) - 1)
    assert np.abs(mean - flat(sent)).max() < 4.5 * step / 2 / np.sqrt(800)


def test_rounding_to_the_nearest_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise.Dice, "uniform", lambda _self, count: np.full(count, 0.5))
    sent = change(3)
    mean = np.mean([flat(there_and_back(sent, Compression(bits=2), draw)) for draw in range(5)], axis=0)
    assert np.abs(mean - flat(sent)).max() > 0.3


def test_a_random_mask_is_right_on_average_and_known_to_whoever_knows_the_seed() -> None:
    sent, how = change(1), Compression(share=0.25)
    seen = [flat(expanded(compressed(sent, how, f"s{i}", noise.seeded(0)), how, f"s{i}", sent)) for i in range(3000)]
    np.testing.assert_allclose(np.mean(seen, axis=0), flat(sent), atol=0.4)
    assert set(compressed(sent, how, "s1", noise.seeded(0))) == {VALUES}


def test_the_largest_are_kept_as_they_are() -> None:
    sent = change(2)
    got = flat(there_and_back(sent, Compression(0.2, "largest")))
    order = np.argsort(-np.abs(flat(sent)))[:5]
    assert set(np.flatnonzero(got)) == set(order)
    np.testing.assert_array_equal(got[order], flat(sent)[order])


def test_it_reads_nothing_but_the_noised_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Post-processing: the same result, seed and dice give the same octets, whatever the records were."""
    for how in WAYS:
        one, two = (compressed(change(4), how, "seed", noise.seeded(1)) for _ in range(2))
        assert {n: v.tobytes() for n, v in one.items()} == {n: v.tobytes() for n, v in two.items()}


def test_fewer_bits_are_fewer_octets() -> None:
    wide = {"w": np.ones((100, 100), np.float32)}
    sizes = {
        bits: sum(v.nbytes for v in compressed(wide, Compression(bits=bits), "s", noise.seeded(1)).values())
        for bits in BITS
    }
    assert sizes == {2: 2504, 4: 5004, 8: 10004, 32: 40000}


# ---- hostile ----------------------------------------------------------------------------------------------------

HOW = Compression(0.3, "largest", 4)


def _with(name: str, value: object) -> dict[str, object]:
    sent = dict(compressed(change(), HOW, "seed", noise.seeded(1)))
    return {**sent, name: value}


def _sent(name: str) -> np.ndarray:
    return np.asarray(_with("x", 0)[name]).copy()


def _changed(name: str, place: int, value: float) -> dict[str, object]:
    array = _sent(name)
    array[place] = value
    return _with(name, array)


HOSTILE = {
    "nothing": {},
    "a plain update": dict(change()),
    "one tensor more": _with("extra", np.zeros(1, np.float32)),
    "values too long": _with(VALUES, np.append(_sent(VALUES), np.uint8(0))),
    "values too short": _with(VALUES, _sent(VALUES)[:-1]),
    "values of another type": _with(VALUES, _sent(VALUES).astype(np.int64)),
    "values in two dimensions": _with(VALUES, _sent(VALUES)[None]),
    "a level that nobody sends": _changed(VALUES, 0, 255),
    "a scale that is NaN": _changed(SCALES, 0, np.nan),
    "a scale that is infinite": _changed(SCALES, 1, np.inf),
    "a negative scale": _changed(SCALES, 1, -1.0),
    "one scale too many": _with(SCALES, np.ones(4, np.float32)),
    "scales of float64": _with(SCALES, _sent(SCALES).astype(np.float64)),
    "a place beyond the end": _changed(PLACES, -1, 10**6),
    "a place twice": _changed(PLACES, 1, int(_sent(PLACES)[0])),
    "places out of order": _with(PLACES, _sent(PLACES)[::-1].copy()),
    "places of another type": _with(PLACES, _sent(PLACES).astype(np.int32)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_nobody_packs_is_refused(name: str) -> None:
    expanded(compressed(change(), HOW, "seed", noise.seeded(1)), HOW, "seed", change())
    with pytest.raises(RoundError):
        expanded(HOSTILE[name], HOW, "seed", change())  # type: ignore[arg-type]


def test_numbers_that_are_not_finite_are_refused() -> None:
    for how in (Compression(0.3), Compression(0.3, "largest")):
        sent = dict(compressed(change(), how, "seed", noise.seeded(1)))
        for value in (np.nan, np.inf):
            spoiled = sent[VALUES].copy()
            spoiled[0] = value
            with pytest.raises(RoundError):
                expanded({**sent, VALUES: spoiled}, how, "seed", change())


@settings(max_examples=200)
@given(st.binary(max_size=40), st.sampled_from(WAYS))
def test_no_octets_crash_the_reader(octets: bytes, how: Compression) -> None:
    tensors = {VALUES: np.frombuffer(octets, np.uint8), SCALES: np.ones(3, np.float32), PLACES: np.zeros(2, np.uint32)}
    try:
        expanded(tensors, how, "seed", change())  # type: ignore[arg-type]
    except RoundError:
        return
    raise AssertionError("more tensors than any way of packing has were accepted")


def test_bits_left_over_must_be_zero() -> None:
    levels = np.asarray([3, 1, 2], np.uint8)
    packed = compression._packed(levels, 4)
    assert compression._unpacked(packed, 4, 3).tolist() == [3, 1, 2]
    packed[-1] |= 0x10
    with pytest.raises(RoundError):
        compression._unpacked(packed, 4, 3)


# ---- as data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS, ids=lambda how: how.format)
def test_it_is_part_of_the_recipe(how: Compression) -> None:
    recipe = Recipe(1, 0.1, Poisson(0.5, 1.0), compression=how)
    assert from_record(to_record(recipe)) == recipe
    assert how.format.startswith("safetensors")


@pytest.mark.parametrize(
    "wrong", [{"share": 0.0}, {"share": 1.5}, {"bits": 3}, {"bits": True}, {"keep": "best"}], ids=str
)
def test_what_is_no_compression(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"share|bits|keep"):
        Compression(**wrong)  # type: ignore[arg-type]
