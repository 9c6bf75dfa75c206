"""How large the description of one request may be: everything except its id and its tensors.

Heads are remembered, and work on them grows with their size, so that it is bounded before anything else is done with
them. Real requests are far below: a tensor has a handful of dimensions, a model a handful of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.errors import GatewayError, invalid
from gateway.messages import Parameters, RequestedOutput, RequestHead
from gateway.tensors import TensorSpec

MOST_DIMENSIONS = 64
MOST_ENTRIES = 1024
"""Inputs, requested outputs and parameters of one request together."""
MOST_TEXT = 64 << 10
"""Characters in the names and the string parameters of one request together."""
_SHOWN = 200
_ENTRY = 256
_DIMENSION = 8


def check_rank(name: str, shape: Sequence[int]) -> None:
    """Raises INVALID_REQUEST for a shape of too many dimensions: a product over them would have no bound."""
    if len(shape) > MOST_DIMENSIONS:
        raise invalid(
            f"input '{name[:_SHOWN]}' has {len(shape)} dimensions in 'shape'; at most {MOST_DIMENSIONS} are taken"
        )


def too_many(what: str) -> GatewayError:
    """Returns the refusal of a request that consists of too many parts."""
    return invalid(f"the request has too many {what}: at most {MOST_ENTRIES} inputs, outputs and parameters are taken")


def weigh(
    model_name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[RequestedOutput],
    parameters: Parameters,
    input_parameters: Mapping[str, Parameters],
) -> int:
    """Returns roughly the memory in bytes that a head with this content takes while it is remembered.

    Raises:
        GatewayError: INVALID_REQUEST when it is too large.
    """
    entries = len(inputs) + len(outputs) + len(parameters)
    if entries > MOST_ENTRIES:
        raise too_many("parts")
    text = len(model_name)
    dimensions = 0
    for spec in inputs:
        text += len(spec.name)
        dimensions += len(spec.shape)
    for output in outputs:
        text += len(output.name)
    if parameters:
        text += _text(parameters)
    if input_parameters:
        for name, own in input_parameters.items():
            entries += len(own)
            text += len(name) + _text(own)
        if entries > MOST_ENTRIES:
            raise too_many("parameters")
    if text > MOST_TEXT:
        raise invalid(
            f"the names and string parameters of the request have {text} characters; at most {MOST_TEXT} are taken, "
            "larger values belong into a tensor"
        )
    # A character takes up to four bytes, and the engine's signatures repeat the text.
    return _ENTRY * (1 + entries) + _DIMENSION * dimensions + 8 * text


def weight(head: RequestHead) -> int:
    """Returns what `weigh` says of a head that exists."""
    return weigh(head.model_name, head.inputs, head.outputs, head.parameters, head.input_parameters)


def _text(parameters: Parameters) -> int:
    size = 0
    for name, value in parameters.items():
        size += len(name)
        if type(value) is str:
            size += len(value)
    return size
