"""Several requests become one execution, and its answer becomes several again: the row ledger.

Merging copies nothing: the members' buffers are listed in order, and whoever writes them to the wire joins them.
Splitting checks before it gives anything to anybody: every output must have exactly the rows that were sent along
axis 0, and exactly the bytes that its shape needs. If not, nobody in the batch gets an answer. A batch of one passes
through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.core.bytes_elements import boundaries
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, Parameters, ResponseHead
from gateway.ports import BackendResponse
from gateway.tensors import Buffer, DataType, TensorSpec, byte_size, element_count

_HEADS = 512


class HasRows(Protocol):
    """What merging needs to know of a checked request."""

    @property
    def rows(self) -> int: ...


class HeadCache:
    """Response heads by content, so that equal answers share one head and codecs can remember its encoding.

    Holds at most `limit` heads; when it is full it starts anew, which costs one re-encoding per head in use.
    """

    __slots__ = ("_heads", "_limit")

    def __init__(self, limit: int = _HEADS) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._limit = limit
        self._heads: dict[tuple[object, ...], ResponseHead] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def get(
        self,
        public: tuple[str, str],
        outputs: tuple[TensorSpec, ...],
        rows: int | None,
        parameters: Parameters | None = None,
    ) -> ResponseHead:
        """Returns the head of an answer with `outputs`, their axis 0 set to `rows` (None: left as it is)."""
        # Plain values as the key: a TensorSpec hashes in Python, which is several times slower.
        key: tuple[object, ...] = (
            public,
            rows,
            *[(spec.name, spec.datatype, spec.shape if rows is None else spec.shape[1:]) for spec in outputs],
        )
        if parameters is not None:
            key += tuple([(name, type(value), value) for name, value in parameters.items()])
        head = self._heads.get(key)
        if head is None:
            if rows is not None:
                outputs = tuple(TensorSpec(spec.name, spec.datatype, (rows, *spec.shape[1:])) for spec in outputs)
            if len(self._heads) >= self._limit:
                self._heads.clear()
            head = self._heads[key] = ResponseHead(public[0], public[1], outputs, parameters or {})
        return head

    def forget(self, public: tuple[str, str]) -> None:
        """Forgets the heads of a version that is gone."""
        for key in [key for key in self._heads if key[0] == public]:
            del self._heads[key]


def merge(
    members: Sequence[tuple[HasRows, InferRequest]],
) -> tuple[int, tuple[tuple[int, ...], ...], list[list[Buffer]]]:
    """Returns (rows, shapes, chunks) for a BackendRequest.

    `members` are (checked head, request) with equal signatures; `chunks[i]` lists input i's buffers in member order.
    """
    checked, first = members[0]
    inputs = first.head.inputs
    if len(members) == 1:
        return checked.rows, tuple(spec.shape for spec in inputs), [[chunk] for chunk in first.data]
    rows = 0
    for member, _ in members:
        rows += member.rows
    shapes = tuple((rows, *spec.shape[1:]) for spec in inputs)
    return rows, shapes, [[request.data[index] for _, request in members] for index in range(len(inputs))]


def split(
    response: BackendResponse,
    member_rows: Sequence[int],
    public: tuple[str, str],
    heads: HeadCache,
    *,
    batchable: bool = True,
) -> list[tuple[ResponseHead, list[Buffer]]]:
    """Cuts an answer into one per member, in member order; slices are views of the answer's buffers.

    `public` is the model name and version that callers see. For models without a batch axis (`batchable` False) the
    only member gets the answer as it is, after a check of its sizes.

    Raises:
        GatewayError: BACKEND_FAILED naming the output that does not have the rows or bytes that it should.
    """
    outputs, data = response.outputs, response.data
    if len(outputs) != len(data):
        raise _broken(f"the backend described {len(outputs)} outputs but sent data for {len(data)}")
    single = len(member_rows) == 1
    if not batchable and not single:
        raise ValueError("answers without a batch axis cannot be split")
    total = sum(member_rows)
    for spec, chunk in zip(outputs, data, strict=True):
        _check_output(spec, chunk, total if batchable else None)
    if single:
        return [(heads.get(public, outputs, None, response.parameters), data)]
    parts: list[list[Buffer]] = [[] for _ in member_rows]
    for spec, chunk in zip(outputs, data, strict=True):
        _cut(spec, chunk, total, member_rows, parts)
    by_rows: dict[int, ResponseHead] = {}
    answers: list[tuple[ResponseHead, list[Buffer]]] = []
    for rows, part in zip(member_rows, parts, strict=True):
        head = by_rows.get(rows)
        if head is None:
            head = by_rows[rows] = heads.get(public, outputs, rows, response.parameters)
        answers.append((head, part))
    return answers


def _check_output(spec: TensorSpec, chunk: Buffer, rows: int | None) -> None:
    shape = spec.shape
    if min(shape, default=0) < 0:
        raise _broken(f"output '{spec.name}' has a negative dimension: {list(shape)}")
    if rows is not None and (not shape or shape[0] != rows):
        raise _broken(f"output '{spec.name}' has {shape[0] if shape else 'no'} rows, but {rows} were sent")
    size = byte_size(spec)
    if size is None:
        try:
            boundaries(chunk, (element_count(shape),))
        except ValueError as error:
            raise _broken(f"output '{spec.name}': {error}") from None
    elif len(chunk) != size:
        raise _broken(f"output '{spec.name}' has {len(chunk)} bytes of data, but its shape and type need {size}")


def _cut(spec: TensorSpec, chunk: Buffer, total: int, member_rows: Sequence[int], parts: list[list[Buffer]]) -> None:
    """Appends each member's slice of one checked output to its part."""
    view = memoryview(chunk)
    start = 0
    if spec.datatype is DataType.BYTES:
        per_row = element_count(spec.shape[1:])
        for part, end in zip(parts, boundaries(chunk, [rows * per_row for rows in member_rows]), strict=True):
            part.append(view[start:end])
            start = end
        return
    width = len(view) // total
    for part, rows in zip(parts, member_rows, strict=True):
        end = start + rows * width
        part.append(view[start:end])
        start = end


def _broken(message: str) -> GatewayError:
    return GatewayError(ErrorCode.BACKEND_FAILED, f"the model broke its contract: {message}")
