"""REST inference bodies, JSON alone or JSON with binary tensors behind it, become InferRequests.

A header in front of binary tensors is looked up by its bytes, so the usual binary request is not parsed at all; of the
usual JSON request only the data is parsed (`json_templates`). Binary tensors are views of the body. Whatever bytes come
in, the only exception is GatewayError.
"""

from __future__ import annotations

from gateway.errors import ErrorCode, GatewayError, invalid
from gateway.messages import InferRequest, RequestHead
from gateway.tensors import Buffer
from gateway.wire.head_limits import weight
from gateway.wire.interning import Generations, HeadInterner
from gateway.wire.json_document import MISSING, Document, parse_json, read_document
from gateway.wire.json_templates import TemplateTable
from gateway.wire.json_tensors import raw_from_json
from gateway.wire.reply_format import ReplyFormat

_SHORT = 1024
_SHOWN = 200


class _Header:
    """A remembered JSON header all of whose inputs are binary: `ends` are the ends of the tensors after the header."""

    __slots__ = ("head", "id", "reply", "slices", "total")

    def __init__(self, document: Document, sizes: list[int], length: int) -> None:
        self.head: RequestHead = document.head
        self.id = document.id
        self.reply = document.reply
        self.slices: list[tuple[int, int]] = []
        start = length
        for size in sizes:
            self.slices.append((start, start + size))
            start += size
        self.total = start


class RestDecoder:
    """Decodes the inference bodies of one listener; remembers heads and headers (bounded)."""

    __slots__ = ("_headers", "_interner", "_max_json", "_templates")

    def __init__(self, interner: HeadInterner | None = None, max_json_bytes: int = 16 << 20) -> None:
        """`interner` may be shared with other codecs of the process; `max_json_bytes` bounds what is parsed."""
        self._interner = interner if interner is not None else HeadInterner()
        self._max_json = max_json_bytes
        self._headers: Generations[_Header] = Generations()
        self._templates = TemplateTable()

    def decode(
        self, body: Buffer, model_name: str, model_version: str | None, header_length: int | None = None
    ) -> tuple[InferRequest, ReplyFormat]:
        """Decodes a body; the model and version (None: not named) are those of the path.

        `header_length` is the value of Inference-Header-Content-Length, None where the header is absent: then the whole
        body is JSON.

        Raises:
            GatewayError: INVALID_REQUEST naming the input or field that is wrong, UNSUPPORTED for shared memory,
                PAYLOAD_TOO_LARGE for more JSON than `max_json_bytes`.
        """
        if header_length is not None:
            return self._decode_binary(body, model_name, model_version, header_length)
        if len(body) > self._max_json:
            raise json_too_large(len(body), self._max_json)
        if type(body) is not bytes:
            body = bytes(body)  # cheap next to reading numbers, and nothing of it is kept
        known = self._templates.decode(body, model_name, model_version)
        if known is not None:
            return known
        document = read_document(parse_json(body), model_name, model_version, self._interner)
        data: list[Buffer] = []
        for spec, value in zip(document.head.inputs, document.data, strict=True):
            if value is MISSING:
                raise invalid(
                    f"input '{spec.name[:_SHOWN]}' announces binary data, but the header "
                    "Inference-Header-Content-Length is missing"
                )
            data.append(raw_from_json(spec, value))
        self._templates.learn(body, document)
        return InferRequest(document.head, document.id, data), document.reply

    def _decode_binary(
        self, body: Buffer, model_name: str, model_version: str | None, length: int
    ) -> tuple[InferRequest, ReplyFormat]:
        size = len(body)
        if not 0 <= length <= size:
            raise invalid(f"Inference-Header-Content-Length is {length}, but the body has {size} bytes")
        if length > self._max_json:
            raise json_too_large(length, self._max_json)
        text = bytes(body[:length])
        key = (model_name, model_version, text)
        header = self._headers.young.get(key)
        if header is None:
            header = self._headers.get(key)
            if header is None:
                return self._learn(body, key)
        if header.total != size:
            raise _wrong_total(header.total - length, size - length)
        slices = header.slices
        if size - length <= _SHORT:
            data: list[Buffer] = [body[start:stop] for start, stop in slices]
        else:
            view = memoryview(body)
            data = [view[start:stop] for start, stop in slices]
        return InferRequest(header.head, header.id, data), header.reply

    def _learn(self, body: Buffer, key: tuple[str, str | None, bytes]) -> tuple[InferRequest, ReplyFormat]:
        model_name, model_version, text = key
        document = read_document(parse_json(text), model_name, model_version, self._interner)
        start = len(text)
        announced = sum(size for size in document.sizes if size is not None)
        if start + announced != len(body):
            raise _wrong_total(announced, len(body) - start)
        view = memoryview(body)
        data: list[Buffer] = []
        for spec, size, value in zip(document.head.inputs, document.sizes, document.data, strict=True):
            if size is None:
                data.append(raw_from_json(spec, value))
            else:
                data.append(view[start : start + size])
                start += size
        sizes = [size for size in document.sizes if size is not None]
        if len(sizes) == len(data):
            self._headers.put(key, _Header(document, sizes, len(text)), len(text) + weight(document.head))
        return InferRequest(document.head, document.id, data), document.reply


def json_too_large(size: int, most: int) -> GatewayError:
    """Returns the refusal of a request whose JSON is too large to be parsed."""
    return GatewayError(
        ErrorCode.PAYLOAD_TOO_LARGE,
        f"{size} bytes of JSON are more than limits.max_json_bytes ({most}) allows; send large tensors with the "
        "binary tensor data extension",
    )


def _wrong_total(announced: int, sent: int) -> GatewayError:
    return invalid(f"the inputs announce {announced} bytes of binary data, but {sent} follow the JSON header")
