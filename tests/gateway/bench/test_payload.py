"""Payloads fit the metadata, differ from each other, and are the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.bench.payload import PayloadError, Wishes, load_rows, payloads, tensor_of
from gateway.tensors import DATATYPES, DataType, TensorSpec, bytes_elements

PICTURE = TensorSpec("image", DataType.UINT8, (-1, 4, 4, 3))
TOKENS = TensorSpec("ids", DataType.INT64, (-1, -1))


def test_seeded_and_different() -> None:
    first, again = payloads([PICTURE], Wishes(variants=3)), payloads([PICTURE], Wishes(variants=3))
    assert [tensors[0].raw for tensors in first] == [tensors[0].raw for tensors in again]
    assert len({tensors[0].raw for tensors in first}) == 3
    assert payloads([PICTURE], Wishes(seed=2))[0][0].raw != first[0][0].raw


@pytest.mark.parametrize("datatype", list(DATATYPES.values()), ids=str)
def test_every_data_type_has_the_right_size(datatype: DataType) -> None:
    tensor = payloads([TensorSpec("x", datatype, (-1, 5))], Wishes(rows=2, variants=1))[0][0]
    assert tensor.spec.shape == (2, 5)
    if datatype is DataType.BYTES:
        assert [element.decode() for element in bytes_elements(tensor.raw)] == tensor.values
    else:
        assert len(tensor.raw) == 10 * datatype.itemsize
    assert len(tensor.values) == 10


def test_open_dimensions_are_named_or_128() -> None:
    assert payloads([TOKENS], Wishes())[0][0].spec.shape == (1, 128)
    assert payloads([TOKENS], Wishes(shapes={"ids": (7,)}))[0][0].spec.shape == (1, 7)


def test_integers_stay_below_their_bound() -> None:
    values = np.frombuffer(payloads([TOKENS], Wishes(integers_below=5))[0][0].raw, "<i8")
    assert values.min() == 0
    assert values.max() == 4


def test_a_model_without_rows_takes_one_request_shape() -> None:
    fixed = TensorSpec("x", DataType.FP32, (3, 2))
    assert payloads([fixed], Wishes())[0][0].spec.shape == (3, 2)
    with pytest.raises(PayloadError, match="no rows"):
        payloads([fixed], Wishes(rows=2))


def test_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(PayloadError, match="does not fit"):
        payloads([PICTURE], Wishes(shapes={"image": (4, 5, 3)}))


def test_rows_of_a_file_are_taken_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, **{"input.ids": np.arange(6).reshape(3, 2), "label": np.zeros(3)})
    made = payloads([TOKENS], Wishes(rows=2, variants=2, data=load_rows(path)))
    assert made[0][0].values == [0, 1, 2, 3]
    assert made[1][0].values == [4, 5, 0, 1]
    assert made[0][0].spec == TensorSpec("ids", DataType.INT64, (2, 2))
    with pytest.raises(PayloadError, match="no rows for input image"):
        payloads([PICTURE], Wishes(data=load_rows(path)))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="cannot be read"):
        load_rows(tmp_path / "missing.npz")


def test_bf16_keeps_the_upper_half() -> None:
    tensor = tensor_of(TensorSpec("x", DataType.BF16, (1,)), np.array([1.0]))
    assert tensor.raw == b"\x80\x3f"
