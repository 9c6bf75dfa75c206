"""What counts as the same answer, by type and by rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.core.comparing import RowErrors, compare_rows, finite_rows, rows_array
from gateway.releases import OutputRule
from gateway.tensors import DataType, TensorSpec


def compare(one: NDArray[np.float64], two: NDArray[np.float64], rule: OutputRule | None = None) -> RowErrors:
    spec = TensorSpec("y", DataType.FP32, one.shape)
    return compare_rows(
        spec, rule, [one.astype("<f4").tobytes()], [two.astype("<f4").tobytes()], one.shape[0] if one.ndim else 1
    )


def logits(rows: int = 64, classes: int = 10, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, 3.0, (rows, classes))


def test_equal_answers_are_the_same_in_every_respect() -> None:
    found = compare(logits(), logits())
    assert found.same.all()
    assert (found.largest == 0).all()
    assert (found.relative_largest == 0).all()
    assert found.cosine == pytest.approx(1.0)
    assert (found.top_k == 1).all()
    assert not found.flipped.any()


def test_quantization_noise_is_the_same_and_a_forgotten_scale_is_not() -> None:
    clear = logits()
    clear[np.arange(64), np.arange(64) % 10] += 20
    noise = clear * (1 + np.random.default_rng(2).normal(0, 0.02, clear.shape))
    assert compare(clear, noise).same.all()
    for scale in (0.5, 0.8, 1.5, 127.0):
        assert not compare(clear, clear * scale).same.any()
    assert not compare(clear, clear * 1.5).flipped.any(), "labels alone would not have noticed"


def test_a_flipped_label_is_not_the_same() -> None:
    one = np.array([[0.5, 0.49, 0.01]])
    two = np.array([[0.49, 0.5, 0.01]])
    found = compare(one, two)
    assert found.flipped.all()
    assert not found.same.any()
    assert found.largest[0] == pytest.approx(0.01, rel=1e-3)


def test_embeddings_must_point_the_same_way_and_have_no_labels() -> None:
    one = np.random.default_rng(1).normal(size=(32, 64))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    near = one + np.random.default_rng(2).normal(size=one.shape) * 0.01
    found = compare(one, near / np.linalg.norm(near, axis=1, keepdims=True))
    assert found.same.all()
    assert not compare(one, -one).same.any()


@pytest.mark.parametrize(
    ("rule", "two", "same"),
    [
        (OutputRule("y", "close", 0.1, 0.0), [[1.05, 2.0]], True),
        (OutputRule("y", "close", 0.01, 0.0), [[1.05, 2.0]], False),
        (OutputRule("y", "close", 0.0, 0.1), [[1.05, 2.0]], True),
        (OutputRule("y", "label"), [[7.0, 9.0]], True),
        (OutputRule("y", "label"), [[9.0, 7.0]], False),
        (OutputRule("y", "cosine", 0.001), [[2.0, 4.0]], True),
        (OutputRule("y", "cosine", 0.001), [[2.0, 1.0]], False),
        (OutputRule("y", "bytes"), [[1.0, 2.0]], True),
        (OutputRule("y", "bytes"), [[1.0, 2.0000002]], False),
        (OutputRule("y", "auto"), [[1.01, 2.0]], True),
    ],
)
def test_rules(rule: OutputRule, two: list[list[float]], same: bool) -> None:
    assert bool(compare(np.array([[1.0, 2.0]]), np.array(two), rule).same[0]) is same


def test_a_nan_is_not_the_same_unless_stable_has_it_too() -> None:
    one = np.array([[1.0, 2.0], [1.0, np.nan], [1.0, np.nan], [np.inf, 1.0]])
    two = np.array([[1.0, np.nan], [1.0, 2.0], [1.0, np.nan], [np.inf, 1.0]])
    found = compare(one, two)
    assert found.same.tolist() == [False, False, True, True]
    assert found.candidate_nan.tolist() == [True, False, True, True]
    assert found.stable_nan.tolist() == [False, True, True, True]
    assert not np.isnan(found.largest).any()
    assert not np.isnan(found.cosine).any()


def test_integers_and_bytes_must_be_equal() -> None:
    spec = TensorSpec("y", DataType.INT64, (2, 1))
    one, two = np.array([5, 6], "<i8"), np.array([5, 7], "<i8")
    found = compare_rows(spec, None, [one[:1].tobytes(), one[1:].tobytes()], [two.tobytes()], 2)
    assert found.same.tolist() == [True, False]
    assert found.largest.tolist() == [0.0, 1.0]
    spec = TensorSpec("y", DataType.BYTES, (2, 1))
    left, right = [b"\2\0\0\0ab\1\0\0\0c"], [b"\2\0\0\0ab", b"\1\0\0\0d"]
    assert compare_rows(spec, None, left, right, 2).same.tolist() == [True, False]
    assert not compare_rows(spec, None, left, [b"\xff"], 2).same.any(), "a broken tensor is only different"


def test_answers_of_another_shape_are_different() -> None:
    spec = TensorSpec("y", DataType.FP32, (2, 2))
    found = compare_rows(spec, None, [bytes(16)], [bytes(8)], 2)
    assert found.same.tolist() == [False, False]


def test_labels_of_each_position_and_top_k() -> None:
    one = np.array([[[1.0, 2.0], [3.0, 0.0]], [[1.0, 2.0], [3.0, 0.0]]])
    two = np.array([[[1.0, 2.0], [3.0, 0.0]], [[1.0, 2.0], [0.0, 3.0]]])
    found = compare(one, two, OutputRule("y", "label"))
    assert found.same.tolist() == [True, False]
    assert found.top_k.tolist() == [1.0, 0.5]
    three = compare(np.array([[5.0, 4, 3, 2, 1]]), np.array([[4.0, 5, 1, 2, 3]]), OutputRule("y", "label", top_k=3))
    assert three.top_k.tolist() == [pytest.approx(2 / 3)]


@pytest.mark.parametrize("datatype", [DataType.FP16, DataType.FP32, DataType.FP64, DataType.BF16])
def test_rows_that_are_not_finite_are_found(datatype: DataType) -> None:
    spec = TensorSpec("y", datatype, (3, 2))
    values = np.array([[1.0, 2.0], [np.nan, 1.0], [1.0, -np.inf]], np.float32)
    if datatype is DataType.BF16:
        data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        data = values.astype({"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}[datatype.value]).tobytes()
    flags = finite_rows(spec, data, 3)
    assert flags is not None
    assert flags.tolist() == [True, False, False]
    assert finite_rows(spec, bytes(len(data)), 3) is None


def test_types_without_nan_are_not_looked_at() -> None:
    assert finite_rows(TensorSpec("y", DataType.INT32, (1, 1)), b"\xff\xff\xff\x7f", 1) is None


@given(st.integers(1, 8), st.integers(0, 9), st.binary(max_size=400), st.binary(max_size=400))
def test_whatever_a_model_answers_is_compared(rows: int, width: int, one: bytes, two: bytes) -> None:
    size = rows * width * 4
    left, right = one.ljust(size, b"\1")[:size], two.ljust(size, b"\2")[:size]
    found = compare_rows(TensorSpec("y", DataType.FP32, (rows, width)), None, [left], [right], rows)
    for values in (found.largest, found.mean, found.relative_largest, found.relative_mean, found.cosine):
        assert not np.isnan(values).any()
    assert (found.largest >= 0).all()
    if left == right:
        assert found.same.all()


@pytest.mark.parametrize(
    ("datatype", "bits"), [(DataType.FP32, "010080ff"), (DataType.BF16, "81ff"), (DataType.FP16, "017c")]
)
def test_a_signalling_nan_is_a_nan(datatype: DataType, bits: str) -> None:
    found = rows_array(TensorSpec("y", datatype, (1, 1)), [bytes.fromhex(bits)], 1)
    assert found is not None
    assert np.isnan(found).all()
