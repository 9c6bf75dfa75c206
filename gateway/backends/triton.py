"""The data plane's end towards one Triton: a batch becomes one ModelInfer call, its answer becomes tensors."""

from __future__ import annotations

from collections.abc import Callable

from gateway.backends.triton_channel import Outcome, TritonChannel
from gateway.backends.triton_names import TritonNames
from gateway.errors import GatewayError
from gateway.ports import BackendRequest, BackendResponse, Cancellable
from gateway.versions import ModelVersion
from gateway.wire.proto_backend import BackendRequestEncoder, BackendResponseDecoder

Done = Callable[[BackendResponse | GatewayError], None]


class TritonBackend:
    """Implements `ports.InferenceBackend` on a channel. Remembers the encoded beginnings of messages (bounded)."""

    def __init__(self, channel: TritonChannel, names: TritonNames) -> None:
        self._channel = channel
        self._names = names
        self._encoder, self._decoder = BackendRequestEncoder(), BackendResponseDecoder()
        self._encode, self._decode = self._encoder.encode, self._decoder.decode
        self._known: dict[ModelVersion, tuple[str, str]] = {}

    @property
    def available(self) -> bool:
        return self._channel.available

    def infer(self, request: BackendRequest, done: Done) -> Cancellable:
        """Starts one execution; see `ports.InferenceBackend.infer`."""
        name, version = self._name(request.version)
        body = self._encode(name, version, request)
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

        return self._channel.execute(body, answered)

    def forget(self, version: ModelVersion) -> None:
        """See `ports.InferenceBackend.forget`."""
        name, _ = self._names(version)
        self._known.pop(version, None)
        self._encoder.forget(name)
        self._decoder.forget(name)

    def _name(self, version: ModelVersion) -> tuple[str, str]:
        name = self._known.get(version)
        if name is None:
            if len(self._known) >= 1024:
                self._known.clear()
            name = self._known[version] = self._names(version)
        return name
