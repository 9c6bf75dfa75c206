"""Answers that are kept until somebody asks for their label."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from gateway.engine.answer_looks import look_at
from gateway.engine.raw_labels import RawLabels
from gateway.messages import InferResponse, ResponseHead
from gateway.tensors import DataType, TensorSpec


def answer(*outputs: tuple[str, DataType, tuple[int, ...], bytes]) -> InferResponse:
    head = ResponseHead("m", "1", tuple(TensorSpec(name, kind, shape) for name, kind, shape, _ in outputs))
    return InferResponse(head, "", [memoryview(data) for *_, data in outputs])


def floats(*values: float) -> bytes:
    return np.float32(values).tobytes()


TEXT = struct.pack("<I3s", 3, b"cat") + struct.pack("<I3s", 3, b"dog")
KINDS = [
    (answer(("y", DataType.FP32, (2, 3), floats(1, 9, 2, 7, 0, 1))), 2, ""),
    (answer(("y", DataType.INT64, (1, 1), np.int64([5]).tobytes())), 1, ""),
    (answer(("y", DataType.BYTES, (2, 1), TEXT)), 2, ""),
    (answer(("a", DataType.FP32, (1, 1), floats(1)), ("b", DataType.FP32, (1, 2), floats(1, 2))), 1, ""),
    (answer(("a", DataType.FP32, (1, 3), floats(1, 2, 3)), ("b", DataType.FP32, (1, 2), floats(5, 2))), 1, "b"),
    (answer(("a", DataType.FP32, (1, 1), floats(1))), 1, ""),
    (answer(("empty", DataType.BYTES, (0, 1), b""), ("b", DataType.INT32, (1, 1), np.int32([-3]).tobytes())), 1, "b"),
]


@pytest.mark.parametrize(("given", "rows", "output"), KINDS)
def test_the_label_is_the_one_that_a_look_finds(given: InferResponse, rows: int, output: str) -> None:
    looks = look_at([given], [rows], nans=False, scores=False, labels=True, label_output=output)
    raw = RawLabels(output)
    for _ in range(3):
        kept = raw.keep(given, rows)
        assert kept is not None
        assert raw.label(kept) == looks.labels[0]


def test_what_is_kept_does_not_hold_the_message_that_it_came_in() -> None:
    message = bytearray(floats(1, 2))
    head = ResponseHead("m", "1", (TensorSpec("y", DataType.FP32, (1, 2)),))
    raw = RawLabels("")
    kept = raw.keep(InferResponse(head, "", [memoryview(message)]), 1)
    assert kept is not None
    message.extend(b"more")  # BufferError if anything still looked at it
    message[:8] = bytes(8)
    assert raw.label(kept) == (1,)


def test_large_answers_and_those_of_too_many_kinds_are_not_kept() -> None:
    raw = RawLabels("")
    assert raw.keep(answer(("y", DataType.FP32, (1, 64), bytes(256))), 1) is None
    assert (
        raw.keep(answer(("a", DataType.INT8, (1, 200), bytes(200)), ("b", DataType.INT8, (1, 56), bytes(56))), 1)
        is None
    )
    kinds = [answer(("y", DataType.FP32, (1, 2), floats(0, index))) for index in range(65)]
    kept = [raw.keep(kind, 1) for kind in kinds]
    assert None not in kept[:64]
    assert kept[64] is None
    assert raw.keep(kinds[3], 1) == kept[3]
