"""The gateway as Triton's client: a BackendRequest becomes a gRPC body, a gRPC body becomes a BackendResponse.

Requests: names, types, shapes, requested outputs and parameters are encoded once for each (model, head, shapes); the
tensors of all members are joined once, straight into the body, or lie in shared memory and are only pointed at.
Responses: the description of the outputs is looked up by its bytes, so equal descriptions are the identical tuple; raw
outputs are views of the body.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from gateway._generated.open_inference_pb2 import ModelInferResponse
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Parameters, RequestedOutput, RequestHead
from gateway.ports import BackendRequest, BackendResponse
from gateway.tensors import DATATYPES, Buffer, TensorSpec
from gateway.wire.grpc_frames import PREFIX_BYTES, frame_prefix, unframe
from gateway.wire.interning import Generations
from gateway.wire.proto_parameters import parameter_entry, read_parameters, write_parameters
from gateway.wire.proto_responses import tensor_fields
from gateway.wire.typed_contents import raw_contents
from gateway.wire.wire_format import Unusual, delimited, scan, varint

_RAW_INPUT = b"\x3a"
_ID_TAG = 0x1A
_RAW_OUTPUT_TAG = 0x32
_OFFSET_BYTES = 5
"""Of an offset in shared memory, always, so that a remembered body is completed in place."""
_OWN_PARAMETERS = frozenset({"timeout", "priority", "binary_data_output"})
"""Request parameters that are the gateway's business and are not handed on to Triton."""
_OWN_PREFIX = "sluice_"
"""Whose name begins so was meant for the gateway, such as a sticky key: the model does not see it."""
_OF_TRITON = "triton_"
"""Whose name begins so is between Triton and its client, such as the mark of a last answer."""
_Described = tuple[tuple[TensorSpec, ...], Parameters | None]
_OWN_INPUT_PARAMETERS = frozenset({"binary_data_size"})


class BackendRequestEncoder:
    """Encodes executions for Triton; remembers (bounded) what does not change between them."""

    __slots__ = ("_known", "_placed")

    def __init__(self, entries: int = 4096) -> None:
        self._known: Generations[bytes] = Generations(entries)
        self._placed: Generations[tuple[bytes, list[int]]] = Generations(entries)

    def encode(self, triton_name: str, triton_version: str, request: BackendRequest) -> list[Buffer]:
        """Returns a gRPC body in pieces: the five-byte prefix and the ModelInferRequest, tensors as they are.

        `triton_name` and `triton_version` (may be empty) are what Triton calls the model.
        """
        head = request.head
        key = (triton_name, triton_version, head, request.shapes)
        fields = self._known.young.get(key)
        if fields is None:
            fields = self._known.get(key)
            if fields is None:
                fields = _request_fields(triton_name, triton_version, head, request.shapes)
                if not request.once:
                    self._known.put(key, fields, len(fields))
        pieces: list[Buffer] = [b"", fields]
        length = len(fields)
        for chunks in request.chunks:
            size = sum(map(len, chunks))
            tag = _RAW_INPUT + varint(size)
            pieces.append(tag)
            pieces += chunks
            length += len(tag) + size
        pieces[0] = frame_prefix(length)
        return pieces

    def encode_placed(
        self,
        triton_name: str,
        triton_version: str,
        request: BackendRequest,
        region: str,
        ranges: Sequence[tuple[int, int]],
    ) -> Buffer:
        """Returns a gRPC body whose tensors are in the shared memory `region`, at these (offset, bytes) by input."""
        head = request.head
        key = (triton_name, triton_version, head, request.shapes, region)
        known = self._placed.young.get(key)
        if known is None:
            known = self._placed.get(key)
            if known is None:
                sizes = [size for _, size in ranges]
                known = _placed_body(triton_name, triton_version, head, request.shapes, region, sizes)
                if not request.once:
                    self._placed.put(key, known, len(known[0]))
        body = bytearray(known[0])
        for at, (offset, _) in zip(known[1], ranges, strict=True):
            body[at : at + _OFFSET_BYTES] = _wide_varint(offset)
        return body

    def forget(self, triton_name: str) -> None:
        """Forgets what was remembered of a model that Triton no longer has."""
        for remembered in (self._known, self._placed):
            remembered.discard(lambda key: key[0] == triton_name)  # type: ignore[index]


def _request_fields(name: str, version: str, head: RequestHead, shapes: tuple[tuple[int, ...], ...]) -> bytes:
    pieces = [_model_fields(name, version, head)]
    pieces += [
        delimited(0x2A, _input_fields(head, spec, shape)) for spec, shape in zip(head.inputs, shapes, strict=True)
    ]
    pieces += [delimited(0x32, _requested(output)) for output in head.outputs]
    return b"".join(pieces)


def _placed_body(
    name: str, version: str, head: RequestHead, shapes: tuple[tuple[int, ...], ...], region: str, sizes: Sequence[int]
) -> tuple[bytes, list[int]]:
    """Returns a whole body with offsets of zero, and where in it each input's offset is."""
    message = _model_fields(name, version, head)
    places = []
    for spec, shape, size in zip(head.inputs, shapes, sizes, strict=True):
        fields = _input_fields(head, spec, shape)
        fields += parameter_entry(0x22, "shared_memory_region", region)
        fields += parameter_entry(0x22, "shared_memory_byte_size", size)
        # Last, so that the offset is at the very end of the input.
        offset = delimited(0x0A, b"shared_memory_offset") + delimited(0x12, b"\x10" + _wide_varint(0))
        message += delimited(0x2A, fields + delimited(0x22, offset))
        places.append(PREFIX_BYTES + len(message) - _OFFSET_BYTES)
    message += b"".join([delimited(0x32, _requested(output)) for output in head.outputs])
    return frame_prefix(len(message)) + message, places


def _wide_varint(value: int) -> bytes:
    """Returns a varint of always five bytes (35 bits), the upper ones zero where they are not needed."""
    return bytes(
        (
            value & 0x7F | 0x80,
            value >> 7 & 0x7F | 0x80,
            value >> 14 & 0x7F | 0x80,
            value >> 21 & 0x7F | 0x80,
            value >> 28,
        )
    )


def _model_fields(name: str, version: str, head: RequestHead) -> bytes:
    pieces = [delimited(0x0A, name.encode())]
    if version:
        pieces.append(delimited(0x12, version.encode()))
    pieces.append(write_parameters(0x22, {k: v for k, v in head.parameters.items() if not _own(k)}))
    return b"".join(pieces)


def _input_fields(head: RequestHead, spec: TensorSpec, shape: tuple[int, ...]) -> bytes:
    own = head.input_parameters.get(spec.name)
    fields = tensor_fields(spec.name, spec.datatype.value, shape)
    if own:
        fields += write_parameters(0x22, {k: v for k, v in own.items() if not _own_of_input(k)})
    return fields


def _own(name: str) -> bool:
    return name in _OWN_PARAMETERS or name.startswith(_OWN_PREFIX)


def _own_of_input(name: str) -> bool:
    return name in _OWN_INPUT_PARAMETERS or name.startswith(_OWN_PREFIX)


def _requested(output: RequestedOutput) -> bytes:
    fields = delimited(0x0A, output.name.encode())
    if output.class_count:
        fields += parameter_entry(0x12, "classification", output.class_count)
    return fields


class BackendResponseDecoder:
    """Decodes Triton's answers; remembers (bounded) the descriptions of outputs."""

    __slots__ = ("_known",)

    def __init__(self, entries: int = 4096) -> None:
        self._known: Generations[_Described] = Generations(entries)

    def decode_framed(self, body: Buffer, encoding: bytes = b"") -> BackendResponse:
        """Decodes a whole gRPC body.

        Raises:
            GatewayError: BACKEND_FAILED when it is not one frame with a well-formed ModelInferResponse.
        """
        if len(body) >= 5 and body[0] == 0 and int.from_bytes(body[1:5], "big") == len(body) - 5:
            return self._scan(body, 5)
        try:
            message = unframe(body, encoding)
        except GatewayError as error:
            raise _failed(error.message) from None
        return self._scan(message, 0)

    def decode(self, message: Buffer) -> BackendResponse:
        """Decodes one ModelInferResponse; raises GatewayError BACKEND_FAILED as above."""
        return self._scan(message, 0)

    def forget(self, triton_name: str) -> None:
        """Forgets the answers of a model that Triton no longer has."""
        begins = delimited(0x0A, triton_name.encode())
        self._known.discard(lambda key: key.startswith(begins))  # type: ignore[attr-defined]

    def _scan(self, data: Buffer, start: int) -> BackendResponse:
        try:
            key, _, raws = scan(data, start, _ID_TAG, _RAW_OUTPUT_TAG)
        except Unusual:
            return _parse(bytes(data[start:]))
        known = self._known.young.get(key)
        if known is None:
            known = self._known.get(key)
            if known is None:
                message = _parsed(key)
                if any(tensor.HasField("contents") for tensor in message.outputs):
                    return _parse(bytes(data[start:]))
                known = _outputs(message), _parameters(message)
                self._known.put(key, known, 8 * len(key))
        outputs, parameters = known
        if len(raws) != len(outputs):
            return _parse(bytes(data[start:]))
        view = memoryview(data)
        return BackendResponse(outputs, [view[start:stop] for start, stop in raws], parameters)


def _parse(data: bytes) -> BackendResponse:
    message = _parsed(data)
    outputs = _outputs(message)
    raws = message.raw_output_contents
    if raws:
        if len(raws) != len(outputs):
            raise _failed(f"{len(outputs)} outputs are described, but data came for {len(raws)}")
        return BackendResponse(outputs, list(raws), _parameters(message))
    try:
        data_of = [
            raw_contents(spec, tensor.contents, "output") for spec, tensor in zip(outputs, message.outputs, strict=True)
        ]
    except GatewayError as error:
        raise _failed(error.message) from None
    return BackendResponse(outputs, list[Buffer](data_of), _parameters(message))


def _parsed(data: bytes) -> ModelInferResponse:
    try:
        message: ModelInferResponse = ModelInferResponse.FromString(data)
    except DecodeError:
        raise _failed("the answer is not a valid ModelInferResponse message") from None
    return message


def _parameters(message: ModelInferResponse) -> Parameters | None:
    """Returns the model's parameters of its answer; None is none."""
    try:
        found = read_parameters(message.parameters, "the answer") if message.parameters else {}
    except GatewayError as error:
        raise _failed(error.message) from None
    return {name: value for name, value in found.items() if not name.startswith(_OF_TRITON)} or None


def _outputs(message: ModelInferResponse) -> tuple[TensorSpec, ...]:
    specs: list[TensorSpec] = []
    for tensor in message.outputs:
        datatype = DATATYPES.get(tensor.datatype)
        if datatype is None:
            raise _failed(f"output '{tensor.name}' has an unknown datatype '{tensor.datatype}'")
        specs.append(TensorSpec(tensor.name, datatype, tuple(tensor.shape)))
    return tuple(specs)


def _failed(message: str) -> GatewayError:
    return GatewayError(ErrorCode.BACKEND_FAILED, f"the backend answered wrongly: {message}")


__all__ = ["BackendRequestEncoder", "BackendResponseDecoder"]
