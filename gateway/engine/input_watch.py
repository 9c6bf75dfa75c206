"""Looks at a few elements of a few requests: what `core.drift` compares with a version's calibration.

Invariants: a request is never refused, delayed or failed by being looked at; per sampled request and input at most
`MOST_ELEMENTS` elements are read, so that the cost does not depend on its size; at most `MOST_INPUTS` inputs a version.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from gateway.core.drift import MOST_ELEMENTS, InputWindow
from gateway.messages import InferRequest
from gateway.tensors import DataType
from gateway.versions import InputDrift, InputStatistics

_log = logging.getLogger("sluice.drift")
MOST_INPUTS = 16
_STEP = 7919
"""A prime: the places that are looked at go round all of a row's places."""
_NUMPY = {
    DataType.BOOL: "u1", DataType.UINT8: "u1", DataType.UINT16: "<u2", DataType.UINT32: "<u4", DataType.UINT64: "<u8",
    DataType.INT8: "i1", DataType.INT16: "<i2", DataType.INT32: "<i4", DataType.INT64: "<i8",
    DataType.FP16: "<f2", DataType.FP32: "<f4", DataType.FP64: "<f8",
}  # fmt: skip


class InputWatch:
    """Owns the windows of one version's inputs; looks at one row of every `every`-th request."""

    __slots__ = ("_every", "_left", "_looks", "_windows")

    def __init__(self, statistics: Sequence[InputStatistics], every: int) -> None:
        self._every = every
        self._left = every
        self._looks = 0
        self._windows = {one.name: InputWindow(one) for one in statistics[:MOST_INPUTS]}

    def seen(self, request: InferRequest) -> None:
        """Counts one accepted request and looks at it when it is its turn."""
        self._left -= 1
        if self._left <= 0:
            self._left = self._every
            try:
                self._look(request)
            except Exception:
                _log.exception("looking at the inputs of %s; no more of it", request.head.model_name)
                self._windows = {}

    def drift(self) -> tuple[InputDrift, ...]:
        """Returns what is known of each input."""
        return tuple(window.drift() for window in self._windows.values())

    def _look(self, request: InferRequest) -> None:
        self._looks = look = self._looks + 1
        for spec, data in zip(request.head.inputs, request.data, strict=True):
            window = self._windows.get(spec.name)
            kind = _NUMPY.get(spec.datatype)
            if window is None or kind is None or not len(data):
                continue
            elements = np.frombuffer(data, kind)
            rows = spec.shape[0] if spec.shape else 1
            width = len(elements) // rows
            start = look * _STEP % rows * width
            step = max(1, width // MOST_ELEMENTS)
            window.add(elements[start + look * _STEP % step : start + width : step])
