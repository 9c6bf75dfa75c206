"""Builds the replicas of a gateway: its own embedded Triton, or remote ones."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

from gateway.app.folder_lock import FolderInUse, FolderLock
from gateway.backends.device import Device
from gateway.backends.device_probe import probe
from gateway.backends.precedence import Precedence
from gateway.backends.shared_inputs import SharedInputs
from gateway.backends.triton import TritonBackend
from gateway.backends.triton_channel import TritonChannel
from gateway.backends.triton_control import LoadedModels, TritonControl
from gateway.backends.triton_environment import TritonSetupError, find_environment
from gateway.backends.triton_names import OwnNames, TritonNames, VersionedNames
from gateway.backends.triton_placement import DiskPlacement, PushPlacement
from gateway.backends.triton_process import TritonProcess, TritonProcessConfig, TritonStartError
from gateway.backends.triton_repository import RenderOptions, VersionDescription
from gateway.config import Config
from gateway.engine.clock import LoopClock, pause
from gateway.engine.replicas import Replica
from gateway.engine.tasks import TaskGroup
from gateway.ports import RegistrySource
from gateway.registry import events
from gateway.registry.opening import full_location, is_folder, open_store
from gateway.registry.watcher import RegistryWatcher
from gateway.transport.listener import BugReport
from gateway.versions import ModelVersion

_MILLISECOND = 1_000_000


class Backends:
    """Owns the channels, and the embedded Triton where there is one.

    `watcher` follows the registry, unless the Tritons' own models are served.
    """

    def __init__(
        self, config: Config, clock: LoopClock, tasks: TaskGroup, on_bug: BugReport, on_change: Callable[[], None]
    ) -> None:
        self._config = config
        self._clock = clock
        self._tasks = tasks
        self._on_bug = on_bug
        self._on_change = on_change
        self._channels: list[TritonChannel] = []
        self.watcher: RegistryWatcher | None = None
        self._lock: FolderLock | None = None
        self._source: RegistrySource | None = None
        self.process: TritonProcess | None = None
        self._shared: SharedInputs | None = None
        self.repository: Path | None = None
        self.replicas: list[Replica] = []

    async def start(self, on_lost: Callable[[Replica], None]) -> None:
        """Starts or reaches the Tritons and fills `replicas`; `on_lost` hears of a replica whose process died.

        Raises:
            FolderInUse, TritonSetupError, TritonStartError: with what to do.
        """
        if self._config.triton.source == "registry":
            # Two with one folder would go by one name in a Triton, and one unload what the other serves from.
            self._lock = await asyncio.to_thread(FolderLock, self.cache_folder(), "registry.cache_folder")
            self.watcher = await asyncio.to_thread(self._watcher)
            self._source = self.watcher
        if self._config.triton.mode == "embedded":
            await self._start_embedded(on_lost)
        else:
            for address in self._config.triton.addresses:
                self._add_remote(address)
        for channel in self._channels:
            channel.start()

    @property
    def source(self) -> RegistrySource:
        """What says which versions should be served; there is one once this was started."""
        assert self._source is not None
        return self._source

    def alarms(self) -> list[str]:
        """Returns what is wrong in the registry without keeping it from being read."""
        return [f"registry: {alarm}" for alarm in self.watcher.alarms()] if self.watcher is not None else []

    def hear_events(self, hint: Callable[[], None]) -> None:
        """Calls `hint` when something changes in the registry's folder, where that can be heard."""
        root = self._config.registry.root
        if self.watcher is not None and is_folder(root) and events.available():
            self._tasks.spawn(events.follow(Path(full_location(root)), hint), "registry events")

    def last_known(self) -> dict[str, tuple[int, ...]]:
        """Returns what should be served until the registry can be read."""
        return self.watcher.last_known() if self.watcher is not None else {}

    def _watcher(self) -> RegistryWatcher:
        registry = self._config.registry
        location = full_location(registry.root)
        return RegistryWatcher(
            lambda: open_store(location), location, self.cache_folder(), allow_breaking=registry.allow_breaking
        )

    async def close(self) -> None:
        for channel in self._channels:
            channel.close()
        if self.process is not None:
            await self.process.stop()
        if self._lock is not None:
            self._lock.release()

    async def _start_embedded(self, on_lost: Callable[[Replica], None]) -> None:
        triton = self._config.triton
        work = await asyncio.to_thread(Path(triton.work_folder).absolute)
        environment = await asyncio.to_thread(find_environment, triton.environment or None, work)
        device = await asyncio.to_thread(probe, environment.backends, environment.library_path)
        placement = DiskPlacement(work / "repository", self._look_up, lambda model: RenderOptions(device=device))
        self.repository = placement.models
        self.process = TritonProcess(
            environment,
            TritonProcessConfig(
                work=work,
                repository=placement.models,
                http_port=triton.http_port,
                grpc_port=triton.grpc_port,
                metrics_port=triton.metrics_port,
                ready_timeout_s=triton.ready_timeout_ms / 1000,
                stop_grace_s=triton.stop_grace_ms / 1000,
                hang_timeout_s=triton.hang_timeout_ms / 1000,
                log_bytes=triton.log_bytes,
            ),
            clock=self._clock,
            spawn=self._tasks.spawn,
            sleep=pause,
            on_exit=lambda reason: self._embedded_died(on_lost),
        )
        await self.process.start()
        # Only now: until it has started, the folder may belong to another gateway that is still running.
        await asyncio.to_thread(placement.prune, ())
        channel = self._channel(f"{self.process.host}:{self.process.grpc_port}")
        names = VersionedNames()
        server = self.process
        precedence = Precedence(lambda: server.server_pid, self._clock) if triton.realtime_swaps else None
        control = TritonControl(channel, names, placement, pause, triton.load_timeout_ms * _MILLISECOND, precedence)
        if triton.shared_memory_bytes:
            self._shared = SharedInputs(
                f"{server.shm_prefix}inputs", triton.shared_memory_bytes, control.share_memory, self._tasks.spawn
            )
        self.replicas.append(Replica("embedded", TritonBackend(channel, names, self._shared), control))

    def _embedded_died(self, on_lost: Callable[[Replica], None]) -> None:
        if self._shared is not None:
            self._shared.lose()
        on_lost(self.replicas[0])

    def _add_remote(self, address: str) -> None:
        try:
            channel = self._channel(address)
        except ValueError as error:
            raise TritonSetupError(f"triton.addresses: {error}") from None
        triton = self._config.triton
        names: TritonNames
        if triton.source == "triton":
            names, placement = OwnNames(), None
            self._source = self._source or LoadedModels(channel)
        else:
            owner = triton.owner or self._owner()
            runtimes = {"tensorrt": triton.tensorrt_version} if triton.tensorrt_version else {}
            device = Device(compute_capabilities=triton.compute_capabilities, runtimes=runtimes)
            names = VersionedNames(owner)
            placement = PushPlacement(self._look_up, lambda model: RenderOptions(owner=owner, device=device))
        control = TritonControl(channel, names, placement, pause, triton.load_timeout_ms * _MILLISECOND)
        self.replicas.append(Replica(address, TritonBackend(channel, names), control))

    def _owner(self) -> str:
        """Returns what tells this gateway from others, the same after a restart: its machine and its folder."""
        identity = f"{socket.gethostname()}\n{self.cache_folder()}\n{self._config.registry.root}"
        return hashlib.sha256(identity.encode()).hexdigest()[:8]

    def cache_folder(self) -> Path:
        """Returns where this gateway keeps its copies of versions and what it remembers."""
        config = self._config
        return Path(config.registry.cache_folder or Path(config.triton.work_folder) / "registry").absolute()

    def _channel(self, address: str) -> TritonChannel:
        channel = TritonChannel(
            address,
            self._config.triton.connections,
            spawn=self._tasks.spawn,
            rng=random.Random(os.urandom(8)),
            on_bug=self._on_bug,
            on_change=self._on_change,
        )
        self._channels.append(channel)
        return channel

    def _look_up(self, version: ModelVersion) -> tuple[VersionDescription, Path]:
        if self.watcher is None:
            raise ValueError(f"{version} is the backend's own")
        return self.watcher.copy_of(version)


__all__ = ["Backends", "FolderInUse", "TritonSetupError", "TritonStartError"]
