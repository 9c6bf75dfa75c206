"""The data plane's end towards one Triton: a batch becomes one ModelInfer call, its answer becomes tensors."""

from __future__ import annotations

from collections.abc import Callable

from gateway.backends.shared_inputs import Placed, SharedInputs
from gateway.backends.triton_channel import Outcome, TritonChannel
from gateway.backends.triton_errors import BackendUnreachable
from gateway.backends.triton_names import TritonNames
from gateway.errors import GatewayError
from gateway.ports import BackendRequest, BackendResponse, Cancellable
from gateway.versions import ModelVersion
from gateway.wire.proto_backend import BackendRequestEncoder, BackendResponseDecoder

Done = Callable[[BackendResponse | GatewayError], None]
_UNKNOWN_REGION = "Unable to find shared memory region: '{}'"
"""What Triton says of a region that it does not know; a model may have other trouble with shared memory."""


class TritonBackend:
    """Implements `ports.InferenceBackend` on a channel. Remembers the encoded beginnings of messages (bounded).

    `shared` is where large inputs are placed for a Triton on this machine.
    """

    def __init__(self, channel: TritonChannel, names: TritonNames, shared: SharedInputs | None = None) -> None:
        self._channel = channel
        self._names = names
        self._shared = shared
        self._encoder, self._decoder = BackendRequestEncoder(), BackendResponseDecoder()
        self._encode, self._decode = self._encoder.encode, self._decoder.decode
        self._known: dict[ModelVersion, tuple[str, str]] = {}

    @property
    def available(self) -> bool:
        return self._channel.available

    def infer(self, request: BackendRequest, done: Done) -> Cancellable:
        """Starts one execution; see `ports.InferenceBackend.infer`."""
        shared = self._shared
        if shared is not None and (placed := shared.place(request)) is not None:
            return self._infer_placed(request, placed, shared, done)
        name, version = self._name(request.version)
        return self._channel.execute(self._encode(name, version, request), self._hearing(done))

    def forget(self, version: ModelVersion) -> None:
        """See `ports.InferenceBackend.forget`."""
        name, _ = self._names(version)
        self._known.pop(version, None)
        self._encoder.forget(name)
        self._decoder.forget(name)

    def _infer_placed(self, request: BackendRequest, placed: Placed, shared: SharedInputs, done: Done) -> Cancellable:
        hearing = self._hearing(done)

        def answered(outcome: Outcome) -> None:
            if isinstance(outcome, GatewayError) and _UNKNOWN_REGION.format(placed.region.name) in outcome.message:
                # Somebody had Triton forget it. Nothing was executed, and a repetition goes another way.
                shared.lose(placed.region)
                outcome = BackendUnreachable("the backend has lost its shared memory", unprocessed=True)
            hearing(outcome)

        try:
            name, version = self._name(request.version)
            body = self._encoder.encode_placed(name, version, request, placed.region.name, placed.ranges)
            return self._channel.execute(body, answered, lambda: shared.release(placed))
        except BaseException:
            shared.release(placed)
            raise

    def _hearing(self, done: Done) -> Callable[[Outcome], None]:
        decode = self._decode

        def answered(outcome: Outcome) -> None:
            if isinstance(outcome, GatewayError):
                done(outcome)
                return
            try:
                response = decode(outcome)
            except GatewayError as error:
                done(error)
            else:
                done(response)

        return answered

    def _name(self, version: ModelVersion) -> tuple[str, str]:
        name = self._known.get(version)
        if name is None:
            if len(self._known) >= 1024:
                self._known.clear()
            name = self._known[version] = self._names(version)
        return name
