"""An InferResponse becomes ModelInferResponse bytes: what depends on the head alone is encoded once per head.

Outputs are always raw, as from Triton, also when the request had typed contents.
"""

from __future__ import annotations

from gateway.messages import InferResponse, ResponseHead
from gateway.tensors import Buffer, TensorSpec, byte_size
from gateway.wire.grpc_frames import frame_prefix
from gateway.wire.proto_parameters import write_parameters
from gateway.wire.wire_format import delimited, varint

_RAW = b"\x32"
_MEMO = "grpc"


class _Encoded:
    """What a head alone decides: `fields` (all but id and raw contents), the raw `sizes` where they are fixed.

    `prefix` is a whole body up to the bytes of the first output (gRPC prefix included) and `tags[i]` what stands before
    output i; both are right only for an answer without id whose data have exactly `sizes`.
    """

    __slots__ = ("fields", "prefix", "size", "sizes", "tags")

    def __init__(self, head: ResponseHead) -> None:
        self.fields = (
            delimited(0x0A, head.model_name.encode())
            + delimited(0x12, head.model_version.encode())
            + write_parameters(0x22, head.parameters)
            + b"".join([delimited(0x2A, _output(spec)) for spec in head.outputs])
        )
        sizes = [byte_size(spec) for spec in head.outputs]
        self.sizes = [size for size in sizes if size is not None]
        self.size = -1
        self.prefix = b""
        self.tags: list[bytes] = []
        if self.sizes and len(self.sizes) == len(sizes):
            self.tags = [_RAW + varint(size) for size in self.sizes]
            length = len(self.fields) + sum(map(len, self.tags)) + sum(self.sizes)
            self.prefix = frame_prefix(length) + self.fields + self.tags[0]
            if len(sizes) == 1:
                self.size = self.sizes[0]


def encode_response_framed(response: InferResponse) -> bytes:
    """Returns the whole gRPC body of an answer: the five-byte prefix and the ModelInferResponse."""
    head = response.head
    memo = head.encoded.get(_MEMO)
    if not isinstance(memo, _Encoded):
        memo = head.encoded[_MEMO] = _Encoded(head)
    data = response.data
    if not response.id:
        if len(data) == 1:
            if len(data[0]) == memo.size:
                return memo.prefix + data[0]
        elif memo.prefix and [len(chunk) for chunk in data] == memo.sizes:
            pieces: list[Buffer] = [memo.prefix, data[0]]
            for tag, chunk in zip(memo.tags[1:], data[1:], strict=True):
                pieces += (tag, chunk)
            return b"".join(pieces)
    pieces = _pieces(memo, response)
    return frame_prefix(sum(map(len, pieces))) + b"".join(pieces)


def encode_response(response: InferResponse) -> bytes:
    """Returns an answer as a ModelInferResponse message."""
    return encode_response_framed(response)[5:]


def _pieces(memo: _Encoded, response: InferResponse) -> list[Buffer]:
    pieces: list[Buffer] = [memo.fields]
    if response.id:
        pieces.append(delimited(0x1A, response.id.encode()))
    for chunk in response.data:
        pieces += (_RAW + varint(len(chunk)), chunk)
    return pieces


def _output(spec: TensorSpec) -> bytes:
    return tensor_fields(spec.name, spec.datatype.value, spec.shape)


def tensor_fields(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """Returns the fields name, datatype and shape, which inputs, outputs and tensor metadata have in common."""
    fields = delimited(0x0A, name.encode()) + delimited(0x12, datatype.encode())
    if shape:
        fields += delimited(0x1A, b"".join([varint(dimension & 0xFFFF_FFFF_FFFF_FFFF) for dimension in shape]))
    return fields
