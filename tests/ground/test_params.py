"""Models as named arrays: what the log says of one can be checked with `sha256sum`."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedge import params
from fedge.errors import ParseError, RoundError, StorageError

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, max_side=3)
ARRAYS = arrays.arrays(np.float32, SHAPES, elements=st.floats(-1e6, 1e6, width=32))
MODELS = st.dictionaries(st.text("abc.", min_size=1, max_size=4), ARRAYS, min_size=1, max_size=4)


@given(MODELS)
def test_bytes_read_back(model: dict[str, Any]) -> None:
    back = params.from_bytes(params.to_bytes(model))
    assert list(back) == sorted(model)
    for name, array in model.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@given(MODELS)
def test_the_order_of_names_does_not_matter(model: dict[str, Any]) -> None:
    assert params.digest(dict(reversed(model.items()))) == params.digest(model)


@given(MODELS)
def test_subtract_undoes_add(model: dict[str, Any]) -> None:
    zero = params.subtract(model, model)
    assert params.norm(zero) == 0
    assert params.digest(params.add(model, zero)) == params.digest({n: a + 0 for n, a in model.items()})


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    model = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.ones(2, np.float64)}
    params.save(model, tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    assert params.digest(model) == "sha256:" + hashlib.sha256(data).hexdigest()
    np.testing.assert_array_equal(safetensors.numpy.load(data)["w"], model["w"])  # not only our own reader agrees


def test_the_norm_is_euclidean_over_everything() -> None:
    assert params.norm({"a": np.asarray([3.0]), "b": np.asarray([[4.0]])}) == 5.0


LIKE = {"a": np.zeros((2, 2), np.float32), "b": np.zeros(1, np.float32)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c": np.zeros(1)}, "c"),
        ({"b": None}, "b"),
        ({"a": np.zeros((2, 1), np.float32)}, "a is float32"),
        ({"a": np.zeros((2, 2), np.float64)}, "a is float64"),
        ({"a": np.full((2, 2), np.nan, np.float32)}, "not finite"),
        ({"b": np.asarray([np.inf], np.float32)}, "not finite"),
    ],
)
def test_tensors_unlike_the_models_are_refused(change: dict[str, Any], words: str) -> None:
    found = {name: array for name, array in (LIKE | change).items() if array is not None}
    with pytest.raises(RoundError, match=words):
        params.check_like(found, LIKE)


def test_tensors_like_the_models_pass() -> None:
    params.check_like({name: array + 1 for name, array in reversed(LIKE.items())}, LIKE)


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff" * 100, b"\x02" + bytes(7) + b"{}trailing"])
def test_garbage_is_no_model(data: bytes) -> None:
    with pytest.raises(ParseError):
        params.from_bytes(data)


def test_a_cut_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(params.to_bytes(LIKE)[:-3])
    with pytest.raises(ParseError):
        params.load(path)
    with pytest.raises(StorageError):
        params.load(tmp_path / "none")
