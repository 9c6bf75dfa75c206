"""The version manager: performs what `core.reconciling` decides, one action at a time.

Order of a version's coming: load on a replica, confirm that it is ready, read its own metadata, warm it, READY, publish
a route table. Order of its going: out of the table, DRAINING until nobody holds it, unload. Any failure before the
publication leaves everything else as it was; the failed version is retried with back-off and says why it failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.core.reconciling import Action, ActionKind, VersionStatus, backoff, next_actions
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.engine.served import ServedVersion
from gateway.engine.service import InferService
from gateway.engine.tasks import TaskGroup
from gateway.errors import GatewayError
from gateway.messages import Instant, ModelMetadata
from gateway.ports import Clock, Observer, RegistrySource
from gateway.versions import ModelVersion, Route, RouteTable, VersionState

_log = logging.getLogger("sluice.manager")
_SECOND = 1_000_000_000


class VersionManager:
    """Owns the set of versions known to the gateway and everything that changes it."""

    def __init__(
        self,
        source: RegistrySource,
        replicas: ReplicaSet,
        service: InferService,
        clock: Clock,
        observer: Observer,
        serve: Callable[[ModelVersion, ModelMetadata], ServedVersion],
        warm: Callable[[ServedVersion, Replica], Awaitable[None]],
        interval_seconds: float = 5.0,
    ) -> None:
        """`serve` builds a version's scheduler; `warm` runs its warm-up on a replica."""
        self._source = source
        self._replicas = replicas
        self._service = service
        self._clock = clock
        self._observer = observer
        self._serve = serve
        self._warm = warm
        self._interval = interval_seconds
        self._desired: dict[str, tuple[int, ...]] = {}
        self._served: dict[ModelVersion, ServedVersion] = {}
        self._failures: dict[ModelVersion, tuple[int, Instant, str]] = {}
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._tasks = TaskGroup()
        self._generation = 0
        self.source_error: str | None = None

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Begins to reconcile in the background."""
        self._tasks.spawn(self._run(), "version manager")

    async def close(self) -> None:
        await self._tasks.close()

    async def settled(self) -> None:
        """Waits until nothing is left to do for the moment (failed versions wait for their retry)."""
        await self._settled.wait()

    def trigger(self) -> None:
        """Something changed: look again."""
        self._settled.clear()
        self._changed.set()

    def replica_lost(self, replica: Replica) -> None:
        """The replica's process died and took its loaded versions along."""
        replica.ready_versions.clear()
        for served in self._served.values():
            if served.state is VersionState.READY and not self._ready_on(served.version):
                self._set_state(served, VersionState.LOADING, "its backend is being restarted")
        self._publish()
        self.trigger()

    def version_died(self, version: ModelVersion, replica: Replica) -> None:
        """The replica's copy of a version no longer answers: nothing more is sent there until it is loaded again."""
        if version in replica.ready_versions:
            _log.error("%s died on %s; loading it again", version, replica.name)
            replica.ready_versions.discard(version)
            self.trigger()

    def failures(self) -> dict[ModelVersion, str]:
        """Returns why versions that should be served are not."""
        return {version: reason for version, (_, _, reason) in self._failures.items()}

    @property
    def desired(self) -> dict[str, tuple[int, ...]]:
        return self._desired

    # ------------------------------------------------------------------ the loop

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._reconcile()
            except Exception:
                _log.exception("reconciling")
            if not self._changed.is_set():
                self._settled.set()
            try:
                async with asyncio.timeout(self._wait_seconds()):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _wait_seconds(self) -> float:
        now = self._clock.now()
        retries = [(at - now) / _SECOND for _, at, _ in self._failures.values()]
        draining = any(served.state is VersionState.DRAINING for served in self._served.values())
        return max(0.05, min([self._interval, 0.25 if draining else self._interval, *retries]))

    async def _reconcile(self) -> None:
        try:
            self._desired = await self._source.desired()
            self.source_error = None
        except (GatewayError, ValueError, OSError) as error:
            if self.source_error != str(error):
                _log.error("registry: %s; serving the last good state", error)
            self.source_error = str(error)
        await self._verify_replicas()
        while True:
            connected = [i for i, r in enumerate(self._replicas.replicas) if r.backend.available]
            actions = next_actions(self._desired, self._status(), connected, self._clock.now())
            if not actions:
                break
            for action in actions:
                await self._perform(action)
        self._publish()

    async def _verify_replicas(self) -> None:
        """Forgets readiness that a replica no longer confirms (a remote Triton restarted, someone unloaded)."""
        for replica in self._replicas.replicas:
            if not replica.backend.available:
                continue
            for version in list(replica.ready_versions):
                if not await replica.control.is_ready(version):
                    _log.warning("%s is no longer ready on %s", version, replica.name)
                    replica.ready_versions.discard(version)
                    served = self._served.get(version)
                    if served is not None and not self._ready_on(version):
                        self._set_state(served, VersionState.LOADING, "lost by its backend")
                        self._publish()

    def _status(self) -> dict[ModelVersion, VersionStatus]:
        status = {}
        for version in {*self._served, *self._failures}:
            served = self._served.get(version)
            _, retry_at, _ = self._failures.get(version, (0, 0, ""))
            state = served.state if served is not None else VersionState.FAILED
            leases = len(served.scheduler.pending) if served is not None else 0
            status[version] = VersionStatus(version, state, frozenset(self._ready_on(version)), leases, retry_at)
        return status

    def _ready_on(self, version: ModelVersion) -> list[int]:
        return [i for i, replica in enumerate(self._replicas.replicas) if version in replica.ready_versions]

    async def _perform(self, action: Action) -> None:
        version = action.version
        if action.kind is ActionKind.LOAD:
            try:
                await self._load(version, self._replicas.replicas[action.replica])
            except GatewayError as error:
                self._load_failed(version, error.message)
            except Exception as error:
                _log.exception("loading %s", version)
                self._load_failed(version, f"internal error: {error}")
        elif action.kind is ActionKind.DRAIN:
            served = self._served[version]
            self._set_state(served, VersionState.DRAINING, "")
            self._publish()
            served.scheduler.drain()
        else:
            await self._unload(version)

    async def _load(self, version: ModelVersion, replica: Replica) -> None:
        self._observer.version_state(version, VersionState.LOADING, replica.name)
        await replica.control.load(version)
        metadata = await replica.control.metadata(version)
        served = self._served.get(version)
        if served is None or served.metadata != metadata:
            served = self._serve(version, metadata)
        replica.ready_versions.add(version)
        try:
            if served.state is not VersionState.READY:
                self._set_state(served, VersionState.WARMING, replica.name)
                await self._warm(served, replica)
        except BaseException:
            replica.ready_versions.discard(version)
            raise
        self._failures.pop(version, None)
        old = self._served.get(version)
        self._served[version] = served
        self._set_state(served, VersionState.READY, "")
        self._publish()
        if old is not None and old is not served:
            old.scheduler.drain()
        served.scheduler.wake()

    def _load_failed(self, version: ModelVersion, reason: str) -> None:
        count = self._failures.get(version, (0, 0, ""))[0] + 1
        retry_at = self._clock.now() + backoff(count, 1 * _SECOND, 60 * _SECOND)
        self._failures[version] = (count, retry_at, reason)
        _log.error("%s could not be loaded (attempt %d): %s", version, count, reason)
        self._observer.version_state(version, VersionState.FAILED, reason)

    async def _unload(self, version: ModelVersion) -> None:
        for replica in self._replicas.replicas:
            replica.ready_versions.discard(version)
            try:
                await replica.control.unload(version)
            except GatewayError as error:
                _log.warning("unloading %s from %s: %s", version, replica.name, error.message)
        self._served.pop(version, None)
        self._failures.pop(version, None)
        self._observer.version_state(version, VersionState.UNLOADED, "")
        self._publish()

    # ------------------------------------------------------------------ publication

    def _set_state(self, served: ServedVersion, state: VersionState, detail: str) -> None:
        if served.state is not state or served.detail != detail:
            served.state, served.detail = state, detail
            self._observer.version_state(served.version, state, detail)

    def _publish(self) -> None:
        """Routes every model to its first desired version that is ready (or to the first desired one at all)."""
        versions: dict[str, dict[int, ServedVersion]] = {name: {} for name in self._desired}
        for version, served in self._served.items():
            versions.setdefault(version.model_name, {})[version.number] = served
        routes = {}
        for name, numbers in self._desired.items():
            known = versions[name]
            ready = [n for n in numbers if n in known and known[n].state is VersionState.READY]
            fallback = [n for n, served in sorted(known.items()) if served.state is VersionState.READY]
            target = next(iter(ready or fallback or numbers), None)
            if target is not None:
                routes[name] = Route(name, ((target, 10_000),))
        self._generation += 1
        self._service.publish(RouteTable(self._generation, routes), versions)
