"""The control plane's end towards one Triton: load, unload, readiness, metadata.

Loads go over gRPC and one at a time per replica (HTTP loads block Triton's own front end, and two loads of one name
race). A load's answer is not trusted alone: the version must say it is ready before it counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway._generated import open_inference_pb2 as pb
from gateway.backends.triton_channel import TritonChannel
from gateway.backends.triton_names import TritonNames
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata, Nanos
from gateway.versions import ModelVersion
from gateway.wire.proto_metadata import model_metadata_from

_SECOND: Nanos = 1_000_000_000
_ASK = 5 * _SECOND
_LOAD = 120 * _SECOND
_CONFIRMATIONS = 50


class Placement(Protocol):
    """Puts a version where Triton finds it, or carries it along with the load call."""

    async def prepare(self, version: ModelVersion) -> dict[str, str | bytes]: ...

    async def discard(self, version: ModelVersion) -> None: ...


class TritonControl:
    """Implements `ports.RepositoryControl`. Without a `placement` Triton's models are its own: never load or unload."""

    def __init__(
        self,
        channel: TritonChannel,
        names: TritonNames,
        placement: Placement | None,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._channel = channel
        self._names = names
        self._placement = placement
        self._pause = pause
        self._one_at_a_time = asyncio.Lock()

    async def load(self, version: ModelVersion) -> None:
        """Loads and waits until that version is ready. Raises GatewayError with the backend's reason."""
        name, _ = self._names(version)
        async with self._one_at_a_time:
            if self._placement is not None:
                parameters = await self._placement.prepare(version)
                request = pb.RepositoryModelLoadRequest(model_name=name)
                for key, value in parameters.items():
                    if isinstance(value, bytes):
                        request.parameters[key].bytes_param = value
                    else:
                        request.parameters[key].string_param = value
                await self._channel.unary(b"RepositoryModelLoad", request.SerializeToString(), _LOAD)
            for _ in range(_CONFIRMATIONS):
                if await self.is_ready(version):
                    return
                await self._pause(0.1)
        raise GatewayError(ErrorCode.BACKEND_FAILED, f"{version} was loaded but does not become ready")

    async def unload(self, version: ModelVersion) -> None:
        """Unloads and waits until it is gone; a version that is not there is no error."""
        if self._placement is None:
            return
        name, _ = self._names(version)
        async with self._one_at_a_time:
            request = pb.RepositoryModelUnloadRequest(model_name=name)
            try:
                await self._channel.unary(b"RepositoryModelUnload", request.SerializeToString(), _LOAD)
            except GatewayError as error:
                if error.code is ErrorCode.BACKEND_UNREACHABLE:
                    raise
            for _ in range(_CONFIRMATIONS):
                if not await self.is_ready(version):
                    break
                await self._pause(0.1)
            await self._placement.discard(version)

    async def is_ready(self, version: ModelVersion) -> bool:
        """Asks Triton; unreachable or unknown is not ready."""
        name, number = self._names(version)
        request = pb.ModelReadyRequest(name=name, version=number)
        try:
            answer = await self._channel.unary(b"ModelReady", request.SerializeToString(), _ASK)
        except GatewayError:
            return False
        return bool(pb.ModelReadyResponse.FromString(bytes(answer)).ready)

    async def metadata(self, version: ModelVersion) -> ModelMetadata:
        """Returns the version's own metadata under its public name."""
        name, number = self._names(version)
        asked = pb.ModelMetadataRequest(name=name, version=number).SerializeToString()
        described = pb.ModelMetadataResponse.FromString(bytes(await self._channel.unary(b"ModelMetadata", asked, _ASK)))
        asked = pb.ModelConfigRequest(name=name, version=number).SerializeToString()
        configured = pb.ModelConfigResponse.FromString(bytes(await self._channel.unary(b"ModelConfig", asked, _ASK)))
        described.name = version.model_name
        configured.config.name = version.model_name
        del described.versions[:]
        described.versions.append(str(version.number))
        return model_metadata_from(described, configured.config)

    async def server_ready(self) -> bool:
        """Whether Triton itself answers and says so."""
        try:
            answer = await self._channel.unary(b"ServerReady", b"", _ASK)
        except GatewayError:
            return False
        return bool(pb.ServerReadyResponse.FromString(bytes(answer)).ready)


class LoadedModels:
    """A `ports.RegistrySource` for a Triton that keeps its own repository: whatever is ready there is desired."""

    def __init__(self, channel: TritonChannel) -> None:
        self._channel = channel

    async def desired(self) -> dict[str, tuple[int, ...]]:
        """Returns the ready versions of every model, the highest first. Raises GatewayError when Triton is away."""
        request = pb.RepositoryIndexRequest(ready=True).SerializeToString()
        answer = await self._channel.unary(b"RepositoryIndex", request, _ASK)
        found: dict[str, list[int]] = {}
        for model in pb.RepositoryIndexResponse.FromString(bytes(answer)).models:
            number = model.version or "1"
            if number.isdigit():
                found.setdefault(model.name, []).append(int(number))
        return {name: tuple(sorted(numbers, reverse=True)) for name, numbers in found.items()}
