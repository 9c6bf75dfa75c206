"""The control plane's end towards one Triton: load, unload, readiness, metadata.

Loads go over gRPC and one at a time per replica (HTTP loads block Triton's own front end, and two loads of one name
race). A load's answer is not trusted alone: the version must say it is ready, and its configuration must carry the
fingerprint of what was to be loaded, before it counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol

from gateway.backends.triton_channel import TritonChannel
from gateway.backends.triton_names import TritonNames
from gateway.backends.triton_repository import FINGERPRINT
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata, Nanos
from gateway.tensors import Buffer
from gateway.versions import ModelVersion
from gateway.wire import proto_control as codec

_SECOND: Nanos = 1_000_000_000
_ASK = 5 * _SECOND
_CONFIRMATIONS = 50
_SILENCE = frozenset({ErrorCode.BACKEND_UNREACHABLE, ErrorCode.DEADLINE_EXCEEDED})
"""Errors that say nothing about the model asked for."""


class Placement(Protocol):
    """Puts a version where Triton finds it, or carries it along with the load call."""

    async def fingerprint(self, version: ModelVersion) -> str: ...

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
        load_limit: Nanos = 120 * _SECOND,
        precedence: AbstractContextManager[None] | None = None,
    ) -> None:
        """`load_limit` is what one load, or one unload, may take. `precedence` is `changing`, for a Triton that shares
        this machine."""
        self._channel = channel
        self._names = names
        self._placement = placement
        self._pause = pause
        self._load_limit = load_limit
        self._precedence = precedence or nullcontext()
        self._one_at_a_time = asyncio.Lock()

    async def load(self, version: ModelVersion, *, fresh: bool = False) -> None:
        """Returns when exactly that version is ready; see `ports.RepositoryControl.load`."""
        async with self._one_at_a_time:
            if self._placement is None:
                await self._until_ready(version)
                return
            fingerprint = await self._placement.fingerprint(version)
            # What an earlier life of this gateway loaded need not be loaded again.
            if not fresh and await self.is_ready(version) and await self._loaded_as(version) == fingerprint:
                return
            parameters = await self._placement.prepare(version)
            name, _ = self._names(version)
            await self._channel.unary(b"RepositoryModelLoad", _load_request(name, parameters), self._load_limit)
            await self._until_ready(version)
            if await self._loaded_as(version) != fingerprint:
                raise GatewayError(ErrorCode.BACKEND_FAILED, f"{version} was loaded, but something else answers for it")

    def changing(self) -> AbstractContextManager[None]:
        """See `ports.RepositoryControl.changing`."""
        return self._precedence

    async def fits(self, version: ModelVersion) -> None:
        """See `ports.RepositoryControl.fits`: there is a target, and an engine was built for what is there."""
        if self._placement is not None:
            await self._placement.fingerprint(version)

    async def unload(self, version: ModelVersion) -> None:
        """Unloads and waits until it is gone; a version that is not there is no error.

        Raises:
            GatewayError: it is not sure that it is gone.
        """
        if self._placement is None:
            return
        name, _ = self._names(version)
        async with self._one_at_a_time:
            try:
                await self._channel.unary(b"RepositoryModelUnload", codec.encode_unload(name), self._load_limit)
            except GatewayError as error:
                if error.code in _SILENCE:
                    raise
            for _ in range(_CONFIRMATIONS):
                if await self.is_ready(version) is False:
                    await self._placement.discard(version)
                    return
                await self._pause(0.1)
        raise GatewayError(ErrorCode.BACKEND_FAILED, f"{version} was unloaded but is still ready")

    async def is_ready(self, version: ModelVersion) -> bool | None:
        """Asks Triton; None if it does not answer."""
        try:
            request = codec.encode_model_request(*self._names(version))
            return codec.decode_flag(await self._channel.unary(b"ModelReady", request, _ASK))
        except GatewayError as error:
            return None if error.code in _SILENCE else False

    async def loaded(self) -> list[ModelVersion]:
        """Returns every version that is ready under a name and with a fingerprint of ours.

        Triton's repository index leaves out what was pushed over its API; its statistics have everything.
        """
        if self._placement is None:
            return []
        answer = await self._channel.unary(b"ModelStatistics", codec.encode_statistics_request(), _ASK)
        versions = [self._names.version_of(name) for name in codec.decode_statistics_names(answer)]
        return [version for version in versions if version is not None and await self._loaded_as(version)]

    async def _until_ready(self, version: ModelVersion) -> None:
        for _ in range(_CONFIRMATIONS):
            if await self.is_ready(version):
                return
            await self._pause(0.1)
        raise GatewayError(ErrorCode.BACKEND_FAILED, f"{version} was loaded but does not become ready")

    async def _loaded_as(self, version: ModelVersion) -> str:
        """Returns the fingerprint of what Triton has under the version's name; empty if it has none of ours."""
        try:
            request = codec.encode_model_request(*self._names(version))
            config = codec.decode_model_config(await self._channel.unary(b"ModelConfig", request, _ASK))
        except GatewayError as error:
            if error.code in _SILENCE:
                raise
            return ""
        found: str = config.parameters[FINGERPRINT].string_value
        return found

    async def metadata(self, version: ModelVersion) -> ModelMetadata:
        """Returns the version's own metadata under its public name."""
        request = codec.encode_model_request(*self._names(version))
        metadata = await self._channel.unary(b"ModelMetadata", request, _ASK)
        answer = await self._channel.unary(b"ModelConfig", request, _ASK)
        config = codec.decode_model_config(answer)
        found = codec.decode_model_metadata(metadata, answer)
        config.name = version.model_name
        return replace(
            found,
            name=version.model_name,
            versions=(str(version.number),),
            config=config.SerializeToString(deterministic=True),
        )

    async def share_memory(self, name: str, nbytes: int) -> None:
        """Has Triton map the whole of a shared memory file on its machine, under the same name. Raises GatewayError."""
        await self._channel.unary(b"SystemSharedMemoryRegister", codec.encode_shared_memory(name, nbytes), _ASK)

    async def server_ready(self) -> bool:
        """Whether Triton itself answers and says so."""
        try:
            return codec.decode_flag(await self._channel.unary(b"ServerReady", b"", _ASK))
        except GatewayError:
            return False


class LoadedModels:
    """A `ports.RegistrySource` for a Triton that keeps its own repository: whatever is ready there is desired."""

    def __init__(self, channel: TritonChannel) -> None:
        self._channel = channel

    async def desired(self) -> dict[str, tuple[int, ...]]:
        """Returns the ready versions of every model, the highest first. Raises GatewayError when Triton is away."""
        request = codec.encode_repository_index_request(ready=True)
        answer = await self._channel.unary(b"RepositoryIndex", request, _ASK)
        found: dict[str, list[int]] = {}
        for model in codec.decode_repository_index_response(answer):
            number = model.version or "1"
            if number.isdigit():
                found.setdefault(model.name, []).append(int(number))
        return {name: tuple(sorted(numbers, reverse=True)) for name, numbers in found.items()}


def _load_request(name: str, parameters: dict[str, str | bytes]) -> list[Buffer]:
    files = {key.removeprefix("file:"): value for key, value in parameters.items() if isinstance(value, bytes)}
    config = parameters.get("config")
    return codec.encode_load(name, config if isinstance(config, str) else None, files)
