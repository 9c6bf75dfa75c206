"""Calibration holds one batch of activations and one histogram a tensor, however many rows there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np

from quantize.calibration import calibrate
from quantize.normalise import normalise
from quantize.sources import Source
from quantize.targets import wanted_tensors
from tests.support import onnx_models


def test_memory_does_not_grow_with_the_rows() -> None:
    model, _ = normalise(onnx_models.cnn())
    tensors = wanted_tensors(model, ["openvino", "tensorrt"])

    def peak(batches: int) -> int:
        def read(_: int) -> Iterator[dict[str, Any]]:
            rng = np.random.default_rng(1)
            for _ in range(batches):
                yield {"x": rng.normal(size=(4, 3, 12, 12)).astype(np.float32)}

        tracemalloc.start()
        found = calibrate(model, tensors, Source("made", read, "0"), rows=None)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.rows == 4 * batches
        return top

    few, many = peak(4), peak(120)
    assert many < 1.2 * few
