"""Answers kept as they are until somebody asks for their label, which of most nobody ever does.

Invariants: only small answers are kept, and of so many heads only; what is kept is plain (`core.outcome_matching.Raw`).
"""

from __future__ import annotations

import struct

from gateway.core.outcome_matching import Label, Raw
from gateway.engine.answer_looks import look_at
from gateway.messages import InferResponse, ResponseHead

_MOST_BYTES = 255
"""Of all tensors of an answer, so that one byte holds the size of each."""
_MOST_HEADS = 64
_MOST_OUTPUTS = 16
_START = struct.Struct("<BI")


class RawLabels:
    """Owns the heads that the kept answers have in common. `output` names the one with the label, empty: the first."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._heads: list[ResponseHead] = []
        self._places: dict[int, int] = {}

    def keep(self, answer: InferResponse, rows: int) -> Raw | None:
        """Returns what `label` needs; None for an answer that is too large, or one of too many kinds."""
        data = answer.data
        if (len(data[0]) if len(data) == 1 else sum(map(len, data))) > _MOST_BYTES:
            return None
        place = self._places.get(id(answer.head))
        if place is None:
            if len(self._heads) >= _MOST_HEADS or len(data) > _MOST_OUTPUTS:
                return None
            place = self._places[id(answer.head)] = len(self._heads)
            self._heads.append(answer.head)
        # A copy: the tensors are parts of the message that answered the whole batch.
        if len(data) == 1:
            return _START.pack(place, rows) + data[0]
        return b"".join((_START.pack(place, rows), bytes(map(len, data)), *data))

    def label(self, raw: Raw) -> Label | None:
        """Returns the label of an answer that was kept, None if it has none."""
        place, rows = _START.unpack_from(raw)
        head, at = self._heads[place], _START.size
        count = len(head.outputs)
        if count == 1:
            data: list[bytes | bytearray | memoryview] = [raw[at:]]
        else:
            sizes, at = raw[at : at + count], at + count
            data = []
            for size in sizes:
                data.append(raw[at : at + size])
                at += size
        looks = look_at(
            [InferResponse(head, "", data)], [rows], nans=False, scores=False, labels=True, label_output=self._output
        )
        return looks.labels[0]
