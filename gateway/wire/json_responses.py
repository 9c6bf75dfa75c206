"""An InferResponse becomes a REST answer: JSON, or JSON with binary tensors behind it.

What depends on the head alone is encoded once per head and form.
"""

from __future__ import annotations

import orjson

from gateway.messages import InferResponse, ResponseHead
from gateway.tensors import Buffer, byte_size
from gateway.wire.json_tensors import json_writer
from gateway.wire.reply_format import JSON_REPLY, ReplyFormat

JSON_HEADERS = b"content-type: application/json\r\n"
_BINARY_HEADERS = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
_MOST_FORMS = 16


class _Form:
    """The constant text of an answer: `before[i]` stands before the data (or size) of output i, `end` after the last.

    `before[0]` is without the opening brace, so that an id can be put first. `binary[i]` says how output i is sent and
    `writers[i]` turns it into JSON. `only` is the text before the data of an answer with one output, as JSON, without
    id. `fixed` is the whole JSON header, with its HTTP headers, where all outputs are binary and of fixed `sizes`.
    """

    __slots__ = ("before", "binary", "end", "fixed", "fixed_headers", "only", "sizes", "writers")

    def __init__(self, head: ResponseHead, reply: ReplyFormat) -> None:
        self.binary = [reply.is_binary(spec.name) for spec in head.outputs]
        self.writers = [json_writer(spec) for spec in head.outputs]
        opening = b'"model_name":%b,"model_version":%b,' % (
            orjson.dumps(head.model_name),
            orjson.dumps(head.model_version),
        )
        if head.parameters:
            opening += b'"parameters":%b,' % orjson.dumps(dict(head.parameters))
        opening += b'"outputs":['
        self.before: list[bytes] = []
        for spec, binary in zip(head.outputs, self.binary, strict=True):
            text = opening + b'{"name":%b,"datatype":"%b","shape":%b,' % (
                orjson.dumps(spec.name),
                spec.datatype.value.encode(),
                orjson.dumps(spec.shape),
            )
            self.before.append(text + (b'"parameters":{"binary_data_size":' if binary else b'"data":'))
            opening = b"}}," if binary else b"},"
        self.end = opening.removesuffix(b",") + b"]}"
        self.only = b"{" + self.before[0] if self.binary == [False] else b""
        sizes = [byte_size(spec) for spec in head.outputs]
        self.sizes = [size for size in sizes if size is not None]
        self.fixed = b""
        self.fixed_headers = b""
        if self.binary and all(self.binary) and len(self.sizes) == len(sizes):
            pieces = [b"{"]
            for before, size in zip(self.before, self.sizes, strict=True):
                pieces += (before, b"%d" % size)
            self.fixed = b"".join([*pieces, self.end])
            self.fixed_headers = _BINARY_HEADERS % len(self.fixed)


def encode_json(response: InferResponse, reply: ReplyFormat = JSON_REPLY) -> tuple[bytes, list[Buffer]]:
    """Returns (HTTP header lines, pieces of the body) of an answer.

    The lines are content-type and, where binary tensors follow the JSON, inference-header-content-length.

    Raises:
        GatewayError: INVALID_REQUEST when an output that is wanted as JSON has no JSON form, BACKEND_FAILED when its
            data does not fit its type (`json_tensors.json_writer`).
    """
    head = response.head
    form = head.encoded.get(reply.key)
    if not isinstance(form, _Form):
        form = _Form(head, reply)
        if len(head.encoded) < _MOST_FORMS:
            head.encoded[reply.key] = form
    data = response.data
    if response.id:
        pass
    elif form.only and len(data) == 1:
        return JSON_HEADERS, [b"".join((form.only, form.writers[0](data[0]), form.end))]
    elif form.fixed and [len(chunk) for chunk in data] == form.sizes:
        return form.fixed_headers, [form.fixed, *data]
    pieces: list[bytes] = [b'{"id":%b,' % orjson.dumps(response.id) if response.id else b"{"]
    tail: list[Buffer] = []
    for before, binary, write, chunk in zip(form.before, form.binary, form.writers, data, strict=True):
        pieces.append(before)
        if binary:
            pieces.append(b"%d" % len(chunk))
            tail.append(chunk)
        else:
            pieces.append(write(chunk))
    pieces.append(form.end)
    text = b"".join(pieces)
    if not reply.only_json and any(form.binary):
        return _BINARY_HEADERS % len(text), [text, *tail]
    return JSON_HEADERS, [text]
