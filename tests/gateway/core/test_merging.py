from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.bytes_elements import boundaries
from gateway.core.merging import HeadCache, merge, split
from gateway.core.signature import validate_head
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import DataType, InferRequest, ModelMetadata, RequestHead, TensorSpec
from gateway.ports import BackendResponse
from gateway.tensors import bytes_elements

PUBLIC = ("m", "1")


def framed(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@st.composite
def batches(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[int, bytes, bytes]]]:
    """Draws (inner shape, members); a member is (rows, FP32 data, BYTES data)."""
    inner = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    members = []
    for rows in draw(st.lists(st.integers(1, 20), min_size=1, max_size=6)):
        count = rows * math.prod(inner)
        numbers = draw(st.binary(min_size=4 * count, max_size=4 * count))
        texts = draw(st.lists(st.binary(max_size=3) | st.just(b"ab"), min_size=count, max_size=count))
        members.append((rows, numbers, framed(texts)))
    return inner, members


@given(batches())
def test_what_is_merged_comes_back_as_it_was(batch: tuple[tuple[int, ...], list[tuple[int, bytes, bytes]]]) -> None:
    inner, members = batch
    specs = (TensorSpec("x", DataType.FP32, (-1, *inner)), TensorSpec("t", DataType.BYTES, (-1, *inner)))
    metadata = ModelMetadata("m", ("1",), "p", specs, specs, max_batch_size=100)
    checked = []
    for rows, numbers, texts in members:
        head = RequestHead("m", None, tuple(TensorSpec(s.name, s.datatype, (rows, *inner)) for s in specs))
        checked.append((validate_head(head, metadata), InferRequest(head, "", [numbers, texts])))
    rows, shapes, chunks = merge(checked)
    assert rows == sum(member[0] for member in members)
    assert shapes == ((rows, *inner), (rows, *inner))
    outputs = tuple(TensorSpec(s.name, s.datatype, shape) for s, shape in zip(specs, shapes, strict=True))
    response = BackendResponse(outputs, [b"".join(column) for column in chunks])
    heads = HeadCache()
    parts = split(response, [member[0] for member in members], PUBLIC, heads)
    for (head, data), (member_rows, numbers, texts) in zip(parts, members, strict=True):
        assert [bytes(chunk) for chunk in data] == [numbers, texts]
        assert [spec.shape for spec in head.outputs] == [(member_rows, *inner)] * 2
        assert (head.model_name, head.model_version) == PUBLIC
    by_rows = {member[0]: head for member, (head, _) in zip(members, parts, strict=True)}
    assert all(head is by_rows[member[0]] for member, (head, _) in zip(members, parts, strict=True))


def one(shape: tuple[int, ...], data: bytes, datatype: DataType = DataType.FP32) -> BackendResponse:
    return BackendResponse((TensorSpec("y", datatype, shape),), [data])


def test_a_batch_of_one_is_not_copied() -> None:
    response = one((2, 1), bytes(8))
    [(head, data)] = split(response, [2], PUBLIC, HeadCache())
    assert data is response.data
    assert head.outputs == response.outputs
    spec = TensorSpec("x", DataType.FP32, (2, 1))
    chunk = bytes(8)
    request = InferRequest(RequestHead("m", None, (spec,)), "", [chunk])
    metadata = ModelMetadata("m", ("1",), "p", (TensorSpec("x", DataType.FP32, (-1, 1)),), (), max_batch_size=4)
    rows, shapes, chunks = merge([(validate_head(request.head, metadata), request)])
    assert (rows, shapes) == (2, ((2, 1),))
    assert chunks[0][0] is chunk


def test_slices_are_views() -> None:
    data = bytes(range(12))
    parts = split(one((3, 1), data), [1, 2], PUBLIC, HeadCache())
    assert all(isinstance(chunk, memoryview) and chunk.obj is data for _, (chunk,) in parts)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (one((2, 1), bytes(8)), "'y' has 2 rows, but 3 were sent"),
        (one((4, 1), bytes(16)), "'y' has 4 rows, but 3 were sent"),
        (one((), bytes(4)), "'y' has no rows, but 3 were sent"),
        (one((3, 1), bytes(8)), "'y' has 8 bytes of data, but its shape and type need 12"),
        (one((3, -1), bytes(8)), "'y' has a negative dimension"),
        (one((3,), framed([b"a", b"b"]), DataType.BYTES), "'y': 10 bytes of data cannot hold 3 elements"),
        (one((3,), framed([b"a"] * 4), DataType.BYTES), "'y': 5 bytes of data follow"),
        (BackendResponse((TensorSpec("y", DataType.FP32, (3,)),), []), "described 1 outputs but sent data for 0"),
    ],
)
@pytest.mark.parametrize("members", [[3], [1, 2]])
def test_a_broken_ledger_gives_nobody_anything(response: BackendResponse, words: str, members: list[int]) -> None:
    with pytest.raises(GatewayError) as caught:
        split(response, members, PUBLIC, HeadCache())
    assert caught.value.code is ErrorCode.BACKEND_FAILED
    assert words in caught.value.message


def test_without_a_batch_axis_only_sizes_are_checked() -> None:
    [(head, _)] = split(one((7,), bytes(28)), [1], PUBLIC, HeadCache(), batchable=False)
    assert head.outputs[0].shape == (7,)
    with pytest.raises(GatewayError, match="27 bytes"):
        split(one((7,), bytes(27)), [1], PUBLIC, HeadCache(), batchable=False)
    with pytest.raises(ValueError, match="cannot be split"):
        split(one((7,), bytes(28)), [1, 1], PUBLIC, HeadCache(), batchable=False)


def test_heads_are_shared_and_bounded() -> None:
    heads = HeadCache(limit=3)
    first = split(one((2, 1), bytes(8)), [1, 1], PUBLIC, heads)
    again = split(one((3, 1), bytes(12)), [1, 1, 1], PUBLIC, heads)
    assert first[0][0] is first[1][0] is again[2][0]
    assert split(one((1, 1), bytes(4)), [1], ("m", "2"), heads)[0][0] is not first[0][0]
    for width in range(20):
        split(one((1, width), bytes(4 * width)), [1], PUBLIC, heads)
        assert len(heads) <= 3
    with pytest.raises(ValueError, match="limit"):
        HeadCache(0)


@given(st.binary(max_size=60), st.lists(st.integers(0, 8), max_size=4))
def test_boundaries_agree_with_the_plain_walk(data: bytes, counts: list[int]) -> None:
    try:
        elements = bytes_elements(data)
    except ValueError:
        elements = None
    if elements is None or len(elements) != sum(counts):
        with pytest.raises(ValueError, match=r"data|element"):
            boundaries(data, counts)
    else:
        ends = boundaries(data, counts)
        assert len(ends) == len(counts)


@pytest.mark.parametrize("element", [b"", b"abc", bytes(300)])
def test_uniform_elements_need_no_walk_and_damage_is_still_found(element: bytes) -> None:
    data = framed([element] * 64)
    width = 4 + len(element)
    assert boundaries(data, [1, 63]) == [width, 64 * width]
    damaged = bytearray(data)
    damaged[33 * width] ^= 1
    with pytest.raises(ValueError, match=r"data|element"):
        boundaries(damaged, [64])
