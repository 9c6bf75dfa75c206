from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.signature import check_data, is_sequence, signature, validate, validate_head
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import DataType, ModelMetadata, RequestedOutput, RequestHead, TensorSpec

METADATA = ModelMetadata(
    name="m",
    versions=("3",),
    platform="python",
    inputs=(
        TensorSpec("x", DataType.FP32, (-1, 4)),
        TensorSpec("t", DataType.BYTES, (-1, -1)),
        TensorSpec("mask", DataType.INT64, (-1, 2)),
    ),
    outputs=(TensorSpec("y", DataType.FP32, (-1, 1)), TensorSpec("z", DataType.FP32, (-1, 1))),
    max_batch_size=8,
    optional_inputs=frozenset({"t", "mask"}),
)
UNBATCHED = replace(METADATA, inputs=(TensorSpec("x", DataType.FP32, (-1, 4)),), max_batch_size=0)
X = TensorSpec("x", DataType.FP32, (2, 4))
T = TensorSpec("t", DataType.BYTES, (2, 1))


def head(*inputs: TensorSpec, **more: object) -> RequestHead:
    return RequestHead("m", None, inputs, **more)  # type: ignore[arg-type]


def framed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def test_a_good_request() -> None:
    checked = validate_head(head(X, T), METADATA)
    assert (checked.rows, checked.sizes, checked.batchable) == (2, (32, None), True)
    assert check_data(checked, [bytes(32), framed(b"a", b"bc")]) == 32 + 11
    assert validate(head(X), [memoryview(bytes(32))], METADATA) == 2


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((X, TensorSpec("q", DataType.FP32, (2, 4))), "unexpected input 'q'"),
        ((), "input 'x' of model 'm' is missing"),
        ((T,), "input 'x' of model 'm' is missing"),
        ((X, X), "'x' is given twice"),
        ((replace(X, datatype=DataType.FP64),), "'x' has type FP64, but the model takes FP32"),
        ((replace(X, shape=(2,)),), "'x' has 1 dimensions, but the model takes 2: [-1, 4]"),
        ((replace(X, shape=(2, 5)),), "'x' has shape [2, 5], but the model takes [-1, 4]: dimension 1 must be 4"),
        ((replace(X, shape=(-1, 4)),), "'x' has a negative dimension: [-1, 4]"),
        ((replace(X, shape=(0, 4)),), "'x' has no rows"),
        ((replace(X, shape=(9, 4)),), "'x' has 9 rows, but model 'm' takes at most 8"),
        ((X, replace(T, shape=(3, 1))), "'t' has 3 rows, but input 'x' has 2"),
        ((X, replace(T, shape=(2, 1 << 62))), "'t' is too large"),
        ((X, replace(T, shape=(2, 10**5000))), "'t' is too large: [2, (huge)]"),
        ((X, replace(T, shape=(2, -3))), "'t' has a negative dimension"),
    ],
)
def test_bad_heads_are_named(inputs: tuple[TensorSpec, ...], words: str) -> None:
    with pytest.raises(GatewayError) as caught:
        validate_head(head(*inputs), METADATA)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ((RequestedOutput("q"),), "unexpected output 'q'"),
        ((RequestedOutput("y"), RequestedOutput("y", 3)), "'y' is requested twice"),
        ((RequestedOutput("y", -1),), "must not be negative"),
    ],
)
def test_bad_outputs_are_named(outputs: tuple[RequestedOutput, ...], words: str) -> None:
    with pytest.raises(GatewayError, match=words):
        validate_head(head(X, outputs=outputs), METADATA)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([bytes(32)], "announces 2 inputs but carries data for 1"),
        ([bytes(31), framed(b"a", b"b")], "'x' has 31 bytes of data, but its shape and type need 32"),
        ([bytes(32), framed(b"abcde")], "'t': the data ends before element 1 of 2"),
        ([bytes(32), framed(b"a", b"b", b"c")], "'t': 5 bytes of data follow the last of 2 elements"),
        ([bytes(32), b"\xff\xff\xff\xff" + bytes(9)], "'t': an element reaches"),
        ([bytes(32), b"\x00"], "'t': 1 bytes of data cannot hold 2 elements"),
    ],
)
def test_bad_data_is_named(data: list[bytes], words: str) -> None:
    checked = validate_head(head(X, T), METADATA)
    with pytest.raises(GatewayError) as caught:
        check_data(checked, list(data))
    assert words in caught.value.message


def test_wrong_size_without_bytes_inputs() -> None:
    with pytest.raises(GatewayError, match="'x' has 33 bytes"):
        validate(head(X), [bytes(33)], METADATA)


def test_models_without_a_batch_axis() -> None:
    checked = validate_head(head(replace(X, shape=(0, 4))), UNBATCHED)
    assert (checked.rows, checked.batchable, checked.signature, checked.sizes) == (1, False, None, (0,))
    with pytest.raises(GatewayError, match="negative"):
        validate_head(head(replace(X, shape=(-1, 4))), UNBATCHED)


def test_sequences_are_never_batched() -> None:
    sequence = head(X, parameters={"sequence_id": 7, "sequence_start": True})
    assert is_sequence(sequence)
    assert not is_sequence(head(X))
    checked = validate_head(sequence, METADATA)
    assert (checked.batchable, checked.signature) == (False, None)


def test_the_signature_ignores_rows_and_scheduling_only() -> None:
    base = signature(head(X), 3)
    same = head(replace(X, shape=(5, 4)), parameters={"timeout": 5, "priority": 1, "sluice_user": "u7"})
    assert signature(same, 3) == base
    assert hash(signature(same, 3)) == hash(base)


@pytest.mark.parametrize(
    "other",
    [
        head(replace(X, shape=(2, 5))),
        head(replace(X, shape=(2, 4, 1))),
        head(replace(X, datatype=DataType.FP64)),
        head(replace(X, name="w")),
        head(X, T),
        head(T, X),
        head(X, outputs=(RequestedOutput("y"),)),
        head(X, outputs=(RequestedOutput("y", 2),)),
        head(X, parameters={"a": 1}),
        head(X, parameters={"a": True}),
        head(X, parameters={"a": 1.0}),
        head(X, parameters={"a": "1"}),
        head(X, parameters={"a": float("nan")}),
        head(X, input_parameters={"x": {"a": 1}}),
        RequestHead("n", None, (X,)),
    ],
)
def test_whatever_may_change_the_answer_changes_the_signature(other: RequestHead) -> None:
    everything = [signature(head(X), 3), signature(head(X), 4), signature(other, 3)]
    assert len(set(everything)) == 3
    assert signature(other, 3) == signature(other, 3)


def test_parameter_order_does_not_matter_but_input_order_does() -> None:
    assert signature(head(X, parameters={"a": 1, "b": 2}), 1) == signature(head(X, parameters={"b": 2, "a": 1}), 1)
    assert signature(head(X, T), 1) != signature(head(T, X), 1)


names = st.sampled_from(["x", "t", "mask", "q", ""]) | st.text(max_size=300)
specs = st.builds(
    TensorSpec,
    names,
    st.sampled_from(DataType),
    st.lists(st.integers() | st.integers(-1, 9) | st.sampled_from([2, 4]), max_size=70).map(tuple),
)
parameters = st.dictionaries(st.text(max_size=5), st.booleans() | st.integers() | st.floats() | st.text(), max_size=3)
heads = st.builds(
    RequestHead,
    st.text(max_size=5),
    st.none(),
    st.lists(st.sampled_from([X, T]) | specs, max_size=4).map(tuple),
    st.lists(st.builds(RequestedOutput, st.sampled_from(["y", "z", "q"]), st.integers()), max_size=3).map(tuple),
    parameters,
    st.dictionaries(st.text(max_size=5), parameters, max_size=2),
)


@given(heads, st.lists(st.binary(max_size=80), max_size=4), st.sampled_from([METADATA, UNBATCHED]))
def test_whatever_a_client_sends_only_invalid_request_is_raised(
    given_head: RequestHead, data: list[bytes], metadata: ModelMetadata
) -> None:
    signature(given_head, 1)
    refused: GatewayError | None = None
    try:
        assert 1 <= validate(given_head, list(data), metadata) <= 8
    except GatewayError as error:
        refused = error
    if refused is not None:
        assert refused.code is ErrorCode.INVALID_REQUEST
        assert len(refused.message) < 2000
