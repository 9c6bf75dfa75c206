"""A scripted backend without I/O, for tests and examples: the caller decides when and what each call answers."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.messages import Buffer
from gateway.ports import BackendRequest, BackendResponse
from gateway.tensors import TensorSpec
from gateway.versions import ModelVersion

Done = Callable[[BackendResponse | GatewayError], None]


class EchoCall:
    """One call that waits for its answer; `cancelled` tells whether the engine called it off."""

    def __init__(self, request: BackendRequest, done: Done) -> None:
        self.request = request
        self.cancelled = False
        self._done = done

    def cancel(self) -> None:
        self.cancelled = True

    def echo(self) -> None:
        """Answers every input as an output of the same name, type, shape and bytes."""
        request = self.request
        outputs = tuple(
            TensorSpec(spec.name, spec.datatype, shape)
            for spec, shape in zip(request.head.inputs, request.shapes, strict=True)
        )
        data: list[Buffer] = [b"".join(chunks) for chunks in request.chunks]
        self.answer(BackendResponse(outputs, data))

    def answer(self, outcome: BackendResponse | GatewayError) -> None:
        """Answers with `outcome`, unless the call was cancelled."""
        if not self.cancelled:
            self._done(outcome)


class EchoBackend:
    """Implements `ports.InferenceBackend`; collects calls in `calls` until the test answers them."""

    def __init__(self) -> None:
        self.calls: list[EchoCall] = []
        self.available = True
        self.refusal: Exception | None = None

    def infer(self, request: BackendRequest, done: Done) -> EchoCall:
        if self.refusal is not None:
            raise self.refusal
        call = EchoCall(request, done)
        self.calls.append(call)
        return call

    def forget(self, version: ModelVersion) -> None:
        """Nothing is remembered."""
