"""What travels: requests, responses, model metadata.

A request is split in two. Its `RequestHead` holds everything except the client's id and the tensor bytes, is immutable
and is *interned* by the codecs: equal heads from one client are the same object, so that work that depends on the head
alone (validation, the batch signature) is done once and remembered. See docs/adr/0009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.routes import RouteDecision
from gateway.tensors import Buffer, DataType, TensorSpec

ParameterValue: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, ParameterValue]
NO_PARAMETERS: Parameters = {}

Instant: TypeAlias = int
"""Nanoseconds on the monotonic clock."""
Nanos: TypeAlias = int
"""A span in nanoseconds."""


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output the caller asked for; `class_count` > 0 asks for Triton's classification extension."""

    name: str
    class_count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RequestHead:
    """A ModelInferRequest without id and tensor bytes. `outputs` empty means all. Compared by identity.

    `model_version` is None when the caller leaves the choice to the gateway. `parameters` are the request's own,
    `input_parameters` those that came with single inputs (by input name). `memo` is scratch space of the engine: what
    it found out about this head for a version number (bounded by the few versions that are served at once).
    """

    model_name: str
    model_version: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Parameters = field(default_factory=dict)
    input_parameters: Mapping[str, Parameters] = field(default_factory=dict)
    memo: dict[int, object] = field(default_factory=dict, repr=False)


class InferRequest:
    """One inference request: interned `head`, the caller's `id` (may be empty), raw bytes per input in head order."""

    __slots__ = ("data", "head", "id")

    def __init__(self, head: RequestHead, id: str, data: list[Buffer]) -> None:
        self.head = head
        self.id = id
        self.data = data


@dataclass(frozen=True, slots=True, eq=False)
class ResponseHead:
    """A ModelInferResponse without id and tensor bytes; shared by the members of a batch. Compared by identity.

    `encoded` is scratch space of the codecs (a codec's name to bytes that depend on this head alone).
    """

    model_name: str
    model_version: str
    outputs: tuple[TensorSpec, ...]
    parameters: Parameters = field(default_factory=dict)
    encoded: dict[str, object] = field(default_factory=dict, repr=False)


class InferResponse:
    """One answer: shared `head`, the caller's `id` echoed, raw bytes per output in head order."""

    __slots__ = ("data", "head", "id")

    def __init__(self, head: ResponseHead, id: str, data: list[Buffer]) -> None:
        self.head = head
        self.id = id
        self.data = data


class RequestContext:
    """What surrounds a request: who asks, until when, how urgent.

    `request_id` is ours and unique in this process; `deadline` an Instant (always set: the default deadline applies
    where the caller named none); `priority` as Triton spells it, 0 = the model's default, 1 = most urgent;
    `received_at` when its last byte arrived; `protocol` a short label for metrics (`rest_json`, `rest_binary`, `grpc`).
    `headers` are what the request came with, names in lower case (None: none); only routes with rules look at them.
    `decision` is how it was routed: None where the caller named the version, or where there was nothing to decide.
    """

    __slots__ = (
        "deadline", "decision", "headers", "principal", "priority", "protocol", "received_at", "request_id",
        "sticky_key", "trace",
    )  # fmt: skip

    def __init__(
        self,
        request_id: str,
        received_at: Instant,
        deadline: Instant,
        protocol: str,
        priority: int = 0,
        sticky_key: str | None = None,
        principal: str | None = None,
        trace: str | None = None,
        headers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.request_id = request_id
        self.received_at = received_at
        self.deadline = deadline
        self.protocol = protocol
        self.priority = priority
        self.sticky_key = sticky_key
        self.principal = principal
        self.trace = trace
        self.headers = headers
        self.decision: RouteDecision | None = None


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a version takes and gives, as OIP metadata.

    Shapes include the batch dimension as -1 when `max_batch_size` > 0; `max_batch_size` 0 means "never batch".
    `optional_inputs` may be left out of a request. `instance_count` is how many batches the backend executes at once.
    `batchable` is False for models that must not be batched here (stateful, decoupled, ragged, shape tensors) although
    they have a batch dimension; `unbatchable_reason` then says why.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    optional_inputs: frozenset[str] = frozenset()
    instance_count: int = 1
    batchable: bool = True
    unbatchable_reason: str = ""
    config: bytes = field(default=b"", repr=False)


__all__ = [
    "NO_PARAMETERS", "Buffer", "DataType", "InferRequest", "InferResponse", "Instant", "ModelMetadata", "Nanos",
    "ParameterValue", "Parameters", "RequestContext", "RequestHead", "RequestedOutput", "ResponseHead", "TensorSpec",
]  # fmt: skip
