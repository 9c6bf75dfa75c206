"""The JSON object of a REST inference request, read strictly: every field has the type that OIP gives it.

Optional fields may be null, which some clients write for "absent"; unknown fields are ignored.

It is the whole body, or the header in front of binary tensors. Reading yields the interned head, and for each input its
JSON data or the number of binary bytes that it announces.
"""

from __future__ import annotations

import gc
import json
from typing import Any

import orjson

from gateway.errors import GatewayError, invalid
from gateway.messages import Parameters, ParameterValue, RequestedOutput, RequestHead
from gateway.tensors import DATATYPES, Buffer, TensorSpec
from gateway.wire.head_limits import MOST_ENTRIES, check_rank, too_many
from gateway.wire.interning import HeadInterner
from gateway.wire.reply_format import ReplyFormat, reply_format
from gateway.wire.shared_memory import refuse_shared_memory

MISSING: Any = object()
"""Stands for the data of an input that has none in the document."""
_SHOWN = 200
_LARGE = 64 << 10
_SCALARS = (bool, int, float, str)


class Document:
    """What a request's JSON says. `sizes[i]` is the announced binary size of input i, or None; then `data[i]` is its
    JSON data."""

    __slots__ = ("data", "head", "id", "reply", "sizes")

    def __init__(
        self, head: RequestHead, id: str, reply: ReplyFormat, sizes: list[int | None], data: list[Any]
    ) -> None:
        self.head = head
        self.id = id
        self.reply = reply
        self.sizes = sizes
        self.data = data


def parse_json(text: Buffer) -> Any:
    """Returns the value of a JSON text. NaN, Infinity and -Infinity are understood, as Triton does.

    Raises:
        GatewayError: INVALID_REQUEST for malformed or too deeply nested JSON, saying where.
    """
    # What a text becomes has no cycles: looking for some among millions of new lists would take most of the time.
    pause = len(text) > _LARGE and gc.isenabled()
    if pause:
        gc.disable()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        reason = str(error)
    finally:
        if pause:
            gc.enable()
    raw = bytes(text)
    if b"NaN" in raw or b"Infinity" in raw:
        try:
            value = json.loads(raw.decode())
            orjson.dumps(value)  # refuses what could not be written again: lone surrogates, huge integers
        except (ValueError, TypeError, RecursionError):
            pass
        else:
            return value
    raise invalid(f"the request body is not valid JSON: {reason}")


def read_document(document: Any, model_name: str, model_version: str | None, interner: HeadInterner) -> Document:
    """Reads a parsed request.

    Raises:
        GatewayError: INVALID_REQUEST naming the field or input that is wrong, UNSUPPORTED for shared memory.
    """
    if type(document) is not dict:
        raise invalid("the request body must be a JSON object")
    get = document.get
    identifier = get("id")
    if identifier is None:
        identifier = ""
    if type(identifier) is not str:
        raise invalid("'id' must be a string")
    inputs = get("inputs")
    if type(inputs) is not list:
        raise invalid("the request must have an array 'inputs'")
    if len(inputs) > MOST_ENTRIES:
        raise too_many("inputs")
    parameters: dict[str, ParameterValue] = {}
    binary = False
    if get("parameters") is not None:
        parameters = _parameters(document["parameters"], "the request")
        binary = _flag(parameters.pop("binary_data_output", False), "binary_data_output", "the request")
    specs: list[TensorSpec] = []
    sizes: list[int | None] = []
    data: list[Any] = []
    input_parameters: dict[str, Parameters] = {}
    for tensor in inputs:
        spec, own = _input(tensor)
        size = None
        if own:
            refuse_shared_memory(own, f"input '{spec.name[:_SHOWN]}'")
            size = _size(own.pop("binary_data_size", None), spec)
            if own:
                input_parameters[spec.name] = own
        specs.append(spec)
        sizes.append(size)
        data.append(_data(tensor, spec, size))
    outputs: tuple[RequestedOutput, ...] = ()
    wishes: dict[str, bool] = {}
    if get("outputs") is not None:
        outputs = _outputs(document["outputs"], wishes)
        if binary:
            wishes = {output.name: wishes.get(output.name, True) for output in outputs}
    head = interner.intern(model_name, model_version, tuple(specs), outputs, parameters, input_parameters)
    return Document(head, identifier, reply_format(binary, wishes), sizes, data)


def _input(tensor: Any) -> tuple[TensorSpec, dict[str, ParameterValue]]:
    name = _name(tensor, "inputs")
    get = tensor.get
    spelling = get("datatype")
    datatype = DATATYPES.get(spelling) if type(spelling) is str else None
    if datatype is None:
        if type(spelling) is not str:
            raise invalid(f"input '{name[:_SHOWN]}' needs a string 'datatype'")
        raise invalid(f"input '{name[:_SHOWN]}' has an unknown datatype '{spelling[:_SHOWN]}'")
    shape = get("shape")
    if type(shape) is not list:
        raise invalid(f"input '{name[:_SHOWN]}' needs an array 'shape'")
    check_rank(name, shape)
    for dimension in shape:
        if type(dimension) is not int or not 0 <= dimension < 1 << 63:
            raise invalid(f"input '{name[:_SHOWN]}': every dimension in 'shape' must be a non-negative integer")
    own = get("parameters")
    spec = TensorSpec(name, datatype, tuple(shape))
    return spec, {} if own is None else _parameters(own, f"input '{name[:_SHOWN]}'")


def _data(tensor: dict[str, Any], spec: TensorSpec, size: int | None) -> Any:
    if size is None:
        data = tensor.get("data")
        if data is None:
            raise invalid(f"input '{spec.name[:_SHOWN]}' has no 'data'")
        return data
    if tensor.get("data") is not None:
        raise invalid(f"input '{spec.name[:_SHOWN]}' has both 'data' and binary data: use one of the two")
    return MISSING


def _outputs(outputs: Any, wishes: dict[str, bool]) -> tuple[RequestedOutput, ...]:
    """Returns the requested outputs; what they say about their form goes to `wishes`."""
    if type(outputs) is not list:
        raise invalid("'outputs' must be an array")
    if len(outputs) > MOST_ENTRIES:
        raise too_many("outputs")
    requested: list[RequestedOutput] = []
    for output in outputs:
        name = _name(output, "outputs")
        classes = 0
        if output.get("parameters") is not None:
            owner = f"output '{name[:_SHOWN]}'"
            own = _parameters(output["parameters"], owner)
            refuse_shared_memory(own, owner)
            if "binary_data" in own:
                wishes[name] = _flag(own["binary_data"], "binary_data", owner)
            found = own.get("classification", 0)
            if type(found) is not int or found < 0:
                raise invalid(f"parameter 'classification' of {owner} must be a non-negative integer")
            classes = found
        requested.append(RequestedOutput(name, classes))
    return tuple(requested)


def _name(tensor: Any, field: str) -> str:
    if type(tensor) is not dict:
        raise invalid(f"every entry of '{field}' must be an object")
    name = tensor.get("name")
    if type(name) is not str:
        raise invalid(f"every entry of '{field}' needs a string 'name'")
    return name


def _parameters(found: Any, owner: str) -> dict[str, ParameterValue]:
    if type(found) is not dict:
        raise invalid(f"'parameters' of {owner} must be an object")
    if len(found) > MOST_ENTRIES:
        raise too_many(f"parameters ({owner})")
    for name, value in found.items():
        if not isinstance(value, _SCALARS):
            raise invalid(f"parameter '{name[:_SHOWN]}' of {owner} must be a string, a number or a boolean")
    return dict(sorted(found.items())) if len(found) > 1 else dict(found)


def _flag(value: ParameterValue, name: str, owner: str) -> bool:
    if type(value) is not bool:
        raise invalid(f"parameter '{name}' of {owner} must be true or false")
    return value


def _size(value: ParameterValue | None, spec: TensorSpec) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise _bad_size(spec)
    return value


def _bad_size(spec: TensorSpec) -> GatewayError:
    return invalid(f"parameter 'binary_data_size' of input '{spec.name[:_SHOWN]}' must be a non-negative integer")
