"""Bounded memories of the codecs: equal heads become one object, whatever bytes they came in.

A `Generations` cache holds at most twice its limits: when the young half is full it becomes the old half and the
oldest half is forgotten; what is found in the old half moves to the young one. So entries in use survive a client
whose heads never repeat, an entry costs one dictionary look-up when young, and no entry needs a timestamp. An entry
weighs what the caller says it keeps alive: its key and everything behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from gateway.messages import Parameters, ParameterValue, RequestedOutput, RequestHead
from gateway.tensors import TensorSpec
from gateway.wire.head_limits import weigh

V = TypeVar("V")

ENTRIES = 4096
BYTES = 4 << 20
LARGEST_ENTRY = 64 << 10
"""What weighs more than this is not remembered at all."""


class Generations(Generic[V]):
    """A bounded cache by exact key. `size` is what the caller says an entry weighs, in bytes."""

    __slots__ = ("_bytes", "_entries", "_most_bytes", "_old", "_old_sizes", "_sizes", "young")

    def __init__(self, entries: int = ENTRIES, size: int = BYTES) -> None:
        """`entries` and `size` bound the whole cache; each half holds at most half of them (and at least one entry)."""
        self._entries = max(1, entries // 2)
        self._most_bytes = max(1, size // 2)
        self.young: dict[Hashable, V] = {}
        self._old: dict[Hashable, V] = {}
        self._sizes: dict[Hashable, int] = {}
        self._old_sizes: dict[Hashable, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.young) + sum(key not in self.young for key in self._old)

    def get(self, key: Hashable) -> V | None:
        """Returns the entry, or None. Hot paths look into `young` themselves first."""
        value = self.young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value, self._old_sizes[key])
        return value

    def put(self, key: Hashable, value: V, size: int = 0) -> None:
        """Remembers an entry, unless it is too large to be worth it."""
        if size > LARGEST_ENTRY:
            return
        if len(self.young) >= self._entries or self._bytes + size > self._most_bytes:
            self._old = self.young
            self._old_sizes = self._sizes
            self.young = {}
            self._sizes = {}
            self._bytes = 0
        self._bytes += size - self._sizes.get(key, 0)
        self.young[key] = value
        self._sizes[key] = size

    def discard(self, belongs: Callable[[Hashable], bool]) -> None:
        """Forgets every entry whose key `belongs` to something that is gone for good."""
        for values, sizes in ((self.young, self._sizes), (self._old, self._old_sizes)):
            for key in [key for key in values if belongs(key)]:
                del values[key]
                size = sizes.pop(key)
                if values is self.young:
                    self._bytes -= size


class HeadInterner:
    """Gives the one RequestHead for a content. One per process is best: then REST and gRPC clients share heads."""

    __slots__ = ("_heads",)

    def __init__(self, entries: int = ENTRIES) -> None:
        self._heads: Generations[RequestHead] = Generations(entries)

    def __len__(self) -> int:
        return len(self._heads)

    def intern(
        self,
        model_name: str,
        model_version: str | None,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[RequestedOutput, ...] = (),
        parameters: Parameters | None = None,
        input_parameters: Mapping[str, Parameters] | None = None,
    ) -> RequestHead:
        """Returns the head with this content: the identical object as long as it is remembered.

        Raises:
            GatewayError: INVALID_REQUEST for a head beyond the limits (`head_limits`).
        """
        key = (
            model_name,
            model_version,
            tuple([(spec.name, spec.datatype._value_, spec.shape) for spec in inputs]),
            tuple([(output.name, output.class_count) for output in outputs]),
            _key(parameters) if parameters else None,
            tuple([(name, _key(found)) for name, found in input_parameters.items()]) if input_parameters else None,
        )
        head = self._heads.get(key)
        if head is None:
            parameters = parameters or {}
            input_parameters = input_parameters or {}
            size = weigh(model_name, inputs, outputs, parameters, input_parameters)
            head = RequestHead(model_name, model_version, inputs, outputs, parameters, input_parameters)
            self._heads.put(key, head, size)
        return head


def _key(parameters: Parameters) -> tuple[tuple[str, type, ParameterValue], ...]:
    """Returns parameters as a key in which 1, 1.0 and True are not equal (they are as dictionary keys)."""
    return tuple([(name, type(value), value) for name, value in parameters.items()])
