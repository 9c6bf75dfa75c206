"""ModelInferRequest bytes become an InferRequest.

Three paths, each the reference of the one before:

1. a message laid out exactly like an earlier one is compared, not parsed (`layouts`);
2. otherwise its top-level fields are scanned by hand and the head is looked up by its bytes (`wire_format.scan`);
3. an unknown head, typed contents and everything unusual is parsed by the protobuf library and validated.

Raw tensors are views of the message (short ones are copied, which is cheaper); typed contents become raw bytes.
Whatever bytes come in, the only exception is GatewayError.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from gateway._generated.open_inference_pb2 import InferParameter, ModelInferRequest
from gateway.errors import invalid
from gateway.messages import InferRequest, Parameters, RequestedOutput, RequestHead
from gateway.tensors import DATATYPES, Buffer, DataType, TensorSpec
from gateway.wire.grpc_frames import unframe
from gateway.wire.head_limits import MOST_ENTRIES, check_rank, too_many, weight
from gateway.wire.interning import Generations, HeadInterner
from gateway.wire.layouts import LayoutTable
from gateway.wire.proto_parameters import read_parameters
from gateway.wire.shared_memory import refuse_shared_memory
from gateway.wire.typed_contents import raw_contents
from gateway.wire.wire_format import Slices, TooManyFields, Unusual, scan

_ID_TAG = 0x1A
_INPUT_TAG = 0x2A
_OUTPUT_TAG = 0x32
_NO_TAG = -1
_RAW_TAG = 0x3A
_SHORT = 1024
"""Up to so many bytes copying costs less than a view and does not keep the rest of the message alive."""
_SMALL = 8192
"""Bodies up to this size are copied into bytes when they come as another buffer: only bytes can be compared fast."""
_SMALL_HEAD = 64
"""Outputs and parameters of a head that is worth a remembered layout."""
_LARGEST_KEY = 256 << 10
_LARGEST_UNUSUAL = 1 << 20
"""The library alone parses what is written unusually, at a cost per field that only the size bounds."""
_SHOWN = 200
_RELEARN = 16


class RequestDecoder:
    """Decodes the requests of one listener; remembers heads (bounded) so that equal ones are the identical object."""

    __slots__ = ("_heads", "_interner", "_layouts", "_scans", "_table")

    def __init__(self, interner: HeadInterner | None = None) -> None:
        """`interner` may be shared with other codecs of the process."""
        self._interner = interner if interner is not None else HeadInterner()
        self._heads: Generations[tuple[RequestHead, bool]] = Generations()
        self._table: LayoutTable[RequestHead] = LayoutTable()
        self._layouts = self._table.by_length
        self._scans = 0

    def decode_framed(self, body: Buffer, encoding: bytes = b"", max_bytes: int = (1 << 32) - 1) -> InferRequest:
        """Decodes a whole gRPC request body (prefix included); `encoding` is the value of `grpc-encoding`.

        Raises:
            GatewayError: as `grpc_frames.unframe` and `decode` do.
        """
        if type(body) is bytes:
            layout = self._layouts.get(len(body))
            if layout is not None and body.startswith(layout.first):
                start = layout.single
                if start:
                    if len(body) - start <= _SHORT:
                        return InferRequest(layout.head, "", [body[start:]])
                    return InferRequest(layout.head, "", [memoryview(body)[start:]])
                if layout.matches(body):
                    return _request(layout.head, body, layout.identifier, layout.raws)
            if body[:1] == b"\0" and int.from_bytes(body[1:5], "big") == len(body) - 5:
                return self._scan(body, 5)
        elif len(body) <= _SMALL:
            return self.decode_framed(bytes(body), encoding, max_bytes)
        return self.decode(unframe(body, encoding, max_bytes))

    def decode(self, message: Buffer) -> InferRequest:
        """Decodes one ModelInferRequest.

        Raises:
            GatewayError: INVALID_REQUEST for what is malformed or contradicts itself, UNSUPPORTED for shared memory.
        """
        return self._scan(message, 0)

    def _scan(self, data: Buffer, start: int) -> InferRequest:
        try:
            key, identifier, raws = scan(data, start, _ID_TAG, _RAW_TAG)
        except TooManyFields:
            raise too_many("fields") from None
        except Unusual:
            if len(data) - start > _LARGEST_UNUSUAL:
                raise invalid("the request is malformed, or too large for the unusual way it is encoded in") from None
            return self._parse(bytes(data[start:]))
        known = self._heads.young.get(key)
        if known is None:
            known = self._heads.get(key)
            if known is None:
                known = self._learn(key)
                if known is None:
                    return self._parse(bytes(data[start:]))
        head, fixed = known
        if len(raws) != len(head.inputs):
            return self._parse(bytes(data[start:]))
        if fixed and start and type(data) is bytes:
            self._scans += 1
            # Clients with messages of one length and different heads would take the layout away from each other.
            if len(data) not in self._layouts or self._scans % _RELEARN == 0:
                self._table.learn(data, head, identifier, raws)
        return _request(head, data, identifier, raws)

    def _learn(self, key: bytes) -> tuple[RequestHead, bool] | None:
        """Parses the head alone and remembers it, with whether it may have a layout: all its tensors have fixed sizes.

        None when it carries typed contents, or as much as only those need, and so must not be a key.
        """
        if len(key) > _LARGEST_KEY:
            _check_parts(memoryview(key))
            return None
        message = _parsed(key)
        if any(tensor.HasField("contents") for tensor in message.inputs):
            return None
        head = self._head(message)
        small = len(head.outputs) + len(head.parameters) + len(head.input_parameters) <= _SMALL_HEAD
        known = (head, small and all(spec.datatype is not DataType.BYTES for spec in head.inputs))
        self._heads.put(key, known, len(key) + weight(head))
        return known

    def _parse(self, data: bytes) -> InferRequest:
        """Decodes a whole message by the library."""
        message = _parsed(data)
        head = self._head(message)
        raws = message.raw_input_contents
        if raws:
            if any(tensor.contents.ListFields() for tensor in message.inputs if tensor.HasField("contents")):
                raise invalid("tensor data is given both in raw_input_contents and in contents: use one of the two")
            if len(raws) != len(head.inputs):
                raise invalid(
                    f"the request has {len(head.inputs)} inputs but {len(raws)} entries in raw_input_contents"
                )
            return InferRequest(head, message.id, list(raws))
        data_of = [
            raw_contents(spec, tensor.contents) for spec, tensor in zip(head.inputs, message.inputs, strict=True)
        ]
        return InferRequest(head, message.id, list[Buffer](data_of))

    def _head(self, message: ModelInferRequest) -> RequestHead:
        if len(message.inputs) + len(message.outputs) + len(message.parameters) > MOST_ENTRIES:
            raise too_many("parts")
        inputs: list[TensorSpec] = []
        input_parameters: dict[str, Parameters] = {}
        for tensor in message.inputs:
            inputs.append(_spec(tensor))
            if tensor.parameters:
                if len(tensor.parameters) > MOST_ENTRIES:
                    raise too_many("parameters")
                input_parameters[tensor.name] = _read(tensor.parameters, f"input '{tensor.name[:_SHOWN]}'")
        return self._interner.intern(
            message.model_name,
            message.model_version or None,
            tuple(inputs),
            tuple([_output(output) for output in message.outputs]),
            read_parameters(message.parameters, "the request"),
            input_parameters,
        )


def _request(
    head: RequestHead, data: Buffer, identifier: tuple[int, int] | None, raws: Slices | tuple[tuple[int, int], ...]
) -> InferRequest:
    name = ""
    if identifier is not None:
        try:
            name = bytes(data[identifier[0] : identifier[1]]).decode()
        except UnicodeDecodeError:
            raise invalid("the request's id is not valid UTF-8") from None
    view = memoryview(data)
    return InferRequest(
        head,
        name,
        [data[start:stop] if stop - start <= _SHORT else view[start:stop] for start, stop in raws],
    )


def _check_parts(message: memoryview) -> None:
    """Raises INVALID_REQUEST where an input or output has more fields than any needs: parsing them costs too much."""
    try:
        for tag in (_INPUT_TAG, _OUTPUT_TAG):
            for start, stop in scan(message, 0, _NO_TAG, tag)[2]:
                scan(message[start:stop], 0, _NO_TAG, _NO_TAG)
    except TooManyFields:
        raise too_many("parameters") from None
    except Unusual:
        raise invalid("the request is malformed, or too large for the unusual way it is encoded in") from None


def _parsed(data: bytes) -> ModelInferRequest:
    try:
        message: ModelInferRequest = ModelInferRequest.FromString(data)
    except DecodeError:
        raise invalid("the request is not a valid ModelInferRequest message") from None
    return message


def _spec(tensor: ModelInferRequest.InferInputTensor) -> TensorSpec:
    datatype = DATATYPES.get(tensor.datatype)
    if datatype is None:
        raise invalid(f"input '{tensor.name[:_SHOWN]}' has an unknown datatype '{tensor.datatype[:_SHOWN]}'")
    check_rank(tensor.name, tensor.shape)
    shape = tuple(tensor.shape)
    if shape and min(shape) < 0:
        raise invalid(f"input '{tensor.name[:_SHOWN]}' has a negative dimension: {list(shape[:64])}")
    return TensorSpec(tensor.name, datatype, shape)


def _output(output: ModelInferRequest.InferRequestedOutputTensor) -> RequestedOutput:
    if not output.parameters:
        return RequestedOutput(output.name)
    owner = f"output '{output.name[:_SHOWN]}'"
    classes = _read(output.parameters, owner).get("classification", 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise invalid(f"parameter 'classification' of {owner} must be a non-negative integer")
    return RequestedOutput(output.name, classes)


def _read(found: Mapping[str, InferParameter], owner: str) -> Parameters:
    values = read_parameters(found, owner)
    refuse_shared_memory(values, owner)
    return values
