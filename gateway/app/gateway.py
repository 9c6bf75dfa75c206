"""One gateway process: what it consists of, in which order it starts, and how it stops without losing a request.

Start: listeners (so that a busy port is known at once, and health can be asked), Triton, versions, announcement.
Stop: readiness says no; after the drain delay no new connections; what was accepted finishes within the grace; then
versions, Triton and logs end. A second signal ends the grace.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gateway import COMPILED, __version__
from gateway.admin.api import AdminApi, AdminPart
from gateway.admin.engine_view import EngineView
from gateway.admin.outcomes_api import OutcomesApi
from gateway.admin.releases_api import ReleasesApi
from gateway.admin.routes_api import RoutesApi
from gateway.app.backends import Backends, FolderInUse, TritonSetupError, TritonStartError
from gateway.app.listeners import CannotListen, Listeners, busy
from gateway.app.queues import scheduler_of
from gateway.app.releasing import releases_of
from gateway.app.telemetry import Telemetry
from gateway.config import Config
from gateway.config_loading import admin_token
from gateway.core.admission import Admission
from gateway.core.health import ReadyPolicy
from gateway.core.merging import HeadCache
from gateway.core.reconciling import SwapPolicy
from gateway.engine.clock import LoopClock, pause
from gateway.engine.manager import ManagerOptions, VersionManager
from gateway.engine.releases import ReleaseControl
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.engine.served import ServedVersion
from gateway.engine.service import InferService
from gateway.engine.switched_observer import SwitchedObserver
from gateway.engine.tasks import TaskGroup
from gateway.engine.watching import SourceWatch
from gateway.errors import ErrorCode, GatewayError
from gateway.frontends.context import ContextFactory
from gateway.frontends.server_info import ServerInfo
from gateway.messages import ModelMetadata
from gateway.telemetry.metrics import GaugeSources
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice")
_MILLISECOND = 1_000_000
Announce = Callable[[dict[str, Any]], None]


class CannotStart(Exception):
    """The gateway did not come up; the message says why and what to do."""


class Gateway:
    """Owns every part of the process. `start` once, then `stop` once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        loop = asyncio.get_running_loop()
        self.clock = LoopClock(loop)
        self.tasks = TaskGroup()
        self.telemetry = Telemetry(config.telemetry, self.clock)
        self.observer = SwitchedObserver(self.telemetry.observer)
        limits = config.limits
        self.service = InferService(
            self.clock,
            self.observer,
            Admission(limits.max_requests_in_flight, limits.max_bytes_in_flight),
            ReadyPolicy(config.server.ready_policy),
            config.server.ready_models,
        )
        self.service.statistics_of = self.telemetry.statistics_of
        contexts = ContextFactory(
            self.clock.now,
            f"{os.getpid():x}-{time.time_ns() & 0xFFFFFF:x}-",
            config.server.default_timeout_ms,
            config.server.max_timeout_ms,
            {name: config.default_timeout_ms_for(name) for name in config.models},
        )
        self.listeners = Listeners(
            config,
            self.service,
            contexts,
            ServerInfo("sluice", __version__),
            _report_bug,
            self.telemetry.metrics.refuse,
        )
        self.backends = Backends(config, self.clock, self.tasks, _report_bug, self._backend_changed)
        self.manager: VersionManager | None = None
        self.releases: ReleaseControl | None = None
        self.admin_port = 0
        self._admin: AdminApi | None = None

    async def start(self) -> None:
        """Starts everything and returns when every model that can be served is.

        Raises:
            CannotStart: a port is taken, Triton is missing or does not come up.
        """
        try:
            await self.listeners.start()
            self.telemetry.metrics.sources = GaugeSources(
                in_flight=lambda: self.service.in_flight,
                queues=self._queues,
                connections=self.listeners.connections,
                registry=self._registry,
                drift=self.service.drift,
                releases=lambda: self.releases.views() if self.releases is not None else (),
            )
            self.telemetry.start()
            await self.backends.start(self._replica_lost)
        except (CannotListen, FolderInUse, TritonSetupError, TritonStartError) as error:
            raise CannotStart(str(error)) from None
        replicas = ReplicaSet(self.backends.replicas)
        self._replicas = replicas
        self._heads = HeadCache()
        self.manager = self._manager(replicas)
        view = EngineView(self.service, self.manager, replicas, self.telemetry.metrics, self.backends.alarms)
        if self.backends.watcher is not None:
            self.releases = releases_of(self.config, self.backends, self.manager, self.service, self.observer)
        await self._start_admin(view)
        await self._connected(10.0)
        self.manager.start()
        if self.releases is not None:
            self.tasks.spawn(self.releases.run(), "releases")
        self.backends.hear_events(self.manager.watch.look_now)
        await self.manager.settled()
        # What exists now lives as long as the process: collections need not look at it again.
        gc.collect()
        gc.freeze()

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stops in order; `hurry` ends the waiting."""
        server = self.config.server
        self.service.refuse_readiness()
        await _wait(hurry, server.drain_delay_ms / 1000)
        self.listeners.drain()
        finished = self.tasks.spawn(self._finish(server.drain_grace_ms / 1000), "drain")
        hurried = self.tasks.spawn(hurry.wait(), "hurry")
        await asyncio.wait({finished, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        self.service.shut()
        late = GatewayError(ErrorCode.SHUTTING_DOWN, "the gateway stopped before the request was finished")
        for served in self.service.all_versions():
            served.scheduler.fail_all(late)
        await self.listeners.close()
        if self.releases is not None:
            await self.releases.save()
        if self.manager is not None:
            await self.manager.close()
        await self.backends.close()
        if self._admin is not None:
            await self._admin.stop()
        await self.telemetry.stop()
        await self.tasks.close()

    def announcement(self) -> dict[str, Any]:
        """Returns the addresses and paths that a person or a script needs."""
        host = self.config.server.host
        process = self.backends.process
        facts: dict[str, Any] = {
            "rest": f"{host}:{self.listeners.rest_port}",
            "grpc": f"{host}:{self.listeners.grpc_port}",
            "admin": f"{self.config.admin_host}:{self.admin_port}",
            "pid": os.getpid(),
            "compiled": COMPILED,
            "models": {name: list(self.service.ready_versions(name)) for name in sorted(self.service.table.routes)},
            "failed": {str(v): why for v, why in self.manager.failures().items()} if self.manager else {},
            "access_log": self.config.telemetry.access_log or None,
        }
        if process is not None:
            facts |= {
                "triton_grpc": f"{process.host}:{process.grpc_port}",
                "triton_http": f"{process.host}:{process.http_port}",
                "triton_log": str(process.log_path),
                "triton_pid": process.server_pid,
                "triton_repository": str(self.backends.repository),
            }
        return facts

    async def _start_admin(self, view: EngineView) -> None:
        config, telemetry = self.config, self.telemetry
        parts: list[AdminPart] = [RoutesApi(self.service)]
        if self.releases is not None:
            parts += [ReleasesApi(config.registry.root, self.releases), OutcomesApi(self.releases)]
        token = admin_token(config)
        self._admin = AdminApi(view, telemetry.exposition, telemetry.rates, telemetry.lag, config, token, parts)
        host, port = config.admin_host, config.server.admin_port
        try:
            self.admin_port = await self._admin.start(host, port)
        except OSError as error:
            self._admin = None
            raise CannotStart(busy("the admin API", host, port, "server.admin_port", error)) from None

    async def _connected(self, seconds: float) -> None:
        """Waits a moment for the first connections, so that the first look finds replicas to load on."""
        for _ in range(int(seconds / 0.02)):
            if any(replica.backend.available for replica in self.backends.replicas):
                return
            await pause(0.02)
        _log.warning("no Triton can be reached yet; trying on")

    async def _finish(self, seconds: float) -> None:
        await self.listeners.wait_drained(seconds)

    def _manager(self, replicas: ReplicaSet) -> VersionManager:
        registry = self.config.registry
        rng = random.Random(os.urandom(8))
        options = ManagerOptions(
            policy=SwapPolicy(registry.swap_policy),
            drain_limit=registry.drain_limit_ms * _MILLISECOND,
            orphan_age=registry.orphan_age_ms * _MILLISECOND,
        )
        return VersionManager(
            SourceWatch(
                self.backends.source, self.clock, rng, registry.poll_interval_ms / 1000, self.backends.last_known()
            ),
            self.backends.watcher,
            replicas,
            self.service,
            self.clock,
            self.observer,
            self._serve,
            options,
            pause,
        )

    def _serve(self, version: ModelVersion, metadata: ModelMetadata) -> ServedVersion:
        scheduler = scheduler_of(
            version, metadata, self.config, self._replicas, self.clock, self.observer, self._heads, self._died
        )
        if self.releases is not None:
            self.releases.attach(scheduler)
        return ServedVersion(version, metadata, scheduler, self.config.telemetry.drift_sample_every)

    def _backend_changed(self) -> None:
        for served in self.service.all_versions():
            served.scheduler.wake()
        if self.manager is not None:
            self.manager.backend_changed()

    def _replica_lost(self, replica: Replica) -> None:
        if self.manager is not None:
            self.manager.replica_lost(replica)

    def _died(self, version: ModelVersion, replica: Replica) -> None:
        if self.manager is not None:
            self.manager.version_died(version, replica)

    def _registry(self) -> tuple[float, int] | None:
        if self.manager is None or self.backends.watcher is None:
            return None
        return self.manager.watch.age(), len(self.backends.alarms())

    def _queues(self) -> list[tuple[ModelVersion, int, int]]:
        return [
            (served.version, served.scheduler.batcher.queued_rows, served.scheduler.batcher.queued_bytes)
            for served in self.service.all_versions()
        ]


async def run(config: Config, *, announce: Announce) -> None:
    """Serves until SIGTERM or SIGINT; a second signal ends the drain.

    Raises:
        CannotStart: with what to do.
    """
    loop = asyncio.get_running_loop()
    asked, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            hurry.set()
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    gateway = Gateway(config)
    starting = gateway.tasks.spawn(gateway.start(), "start")
    waiting = gateway.tasks.spawn(asked.wait(), "signals")
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            announce(gateway.announcement())
            await asked.wait()
        else:
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
    finally:
        await gateway.stop(hurry)


def _report_bug(error: BaseException) -> None:
    _log.error("a bug: a callback raised", exc_info=error)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
