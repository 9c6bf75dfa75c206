"""JSON requests that differ from an earlier one only in the numbers of their one tensor.

A `Template` is the text before and after the value of "data" in a body that was parsed and read completely. It is kept
only after putting two other values in that place has been seen to change exactly that value. So the place is one where
JSON expects a value, and any complete JSON value put there gives a document with the same head: only that value needs
to be parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError  # noqa: N812
from typing import Any

import orjson

from gateway.messages import InferRequest
from gateway.tensors import DataType, TensorSpec, element_count
from gateway.wire.interning import Generations
from gateway.wire.json_document import Document
from gateway.wire.json_tensors import packer, raw_from_json
from gateway.wire.reply_format import ReplyFormat

_MARK = b'"data":'
_LARGEST_TEXT = 8192
_WITHOUT_TEMPLATE = (DataType.BOOL, DataType.BYTES, DataType.FP16, DataType.BF16)

Decoded = tuple[InferRequest, ReplyFormat]


class Template:
    """What surrounds the data (`after` is the text behind it), and what the document says apart from the data."""

    __slots__ = ("after", "count", "document", "one_row", "pack", "spec")

    def __init__(self, after: bytes, document: Document) -> None:
        self.after = after
        self.document = document
        self.spec: TensorSpec = document.head.inputs[0]
        shape = self.spec.shape
        self.count = element_count(shape)
        self.one_row = len(shape) == 2 and shape[0] == 1
        self.pack: Callable[..., bytes] = packer(self.spec.datatype, self.count)

    def raw(self, text: bytes) -> bytes:
        """Returns the raw tensor for the JSON text of its data.

        Raises:
            GatewayError: INVALID_REQUEST as `raw_from_json`.
            orjson.JSONDecodeError: the text is not one JSON value.
        """
        data: Any = orjson.loads(text)
        if type(data) is list and b"u" not in text and b"l" not in text:  # no true, false or null
            flat = data[0] if self.one_row and len(data) == 1 else data
            if type(flat) is list and len(flat) == self.count:
                try:
                    return self.pack(*flat)
                except (StructError, OverflowError):
                    pass  # nested deeper, or wrong: the general way says what
        return raw_from_json(self.spec, data)


class TemplateTable:
    """Templates by model and by the text before the data; bounded."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Generations[Template] = Generations()

    def decode(
        self, body: bytes, model_name: str, model_version: str | None
    ) -> tuple[InferRequest, ReplyFormat] | None:
        """Decodes a body that a template fits; None where none does (the body may still be right).

        Raises:
            GatewayError: INVALID_REQUEST for data that do not fit the tensor.
        """
        start = body.find(_MARK, 0, _LARGEST_TEXT) + 7
        if start < 7:
            return None
        key = (model_name, model_version, body[:start])
        template = self._known.young.get(key) or self._known.get(key)
        if template is None or not body.endswith(template.after):
            return None
        try:
            raw = template.raw(body[start : len(body) - len(template.after)])
        except orjson.JSONDecodeError:
            return None
        document = template.document
        return InferRequest(document.head, document.id, [raw]), document.reply

    def learn(self, body: bytes, document: Document) -> None:
        """Makes a template of a body that was read, if it has one tensor of numbers and no id (ids do not repeat)."""
        inputs = document.head.inputs
        if (
            len(inputs) != 1
            or document.id
            or inputs[0].datatype in _WITHOUT_TEMPLATE
            or not element_count(inputs[0].shape)
        ):
            return
        start = body.find(_MARK, 0, _LARGEST_TEXT) + 7
        if start < 7:
            return
        ends = [end for end in (body.find(b"}", start), body.find(b'"', start)) if end >= 0]
        stop = body.rfind(b"]", start, min(ends, default=0)) + 1
        before, after = body[:start], body[stop:]
        if not stop or len(after) > _LARGEST_TEXT or not (_holds(before, after, 0) and _holds(before, after, 1)):
            return
        head = document.head
        kept = Document(head, "", document.reply, document.sizes, [])
        # The head is a small part of the text, and the largest templates are not remembered.
        self._known.put((head.model_name, head.model_version, before), Template(after, kept), 8 * len(before + after))


def _holds(before: bytes, after: bytes, value: int) -> bool:
    """Whether `value` put between the texts becomes the data of the first input."""
    try:
        return bool(orjson.loads(b"%b%d%b" % (before, value, after))["inputs"][0]["data"] == value)
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return False
