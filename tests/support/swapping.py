"""A real version manager among scripted replicas: loads take time and fail on command, replicas die and come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from gateway.backends.triton_errors import BackendUnreachable
from gateway.core.admission import Admission
from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.merging import HeadCache
from gateway.core.plans import BatchLimits
from gateway.engine.flights import Flights
from gateway.engine.manager import ManagerOptions, VersionManager
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.engine.scheduler import VersionScheduler
from gateway.engine.served import ServedVersion
from gateway.engine.service import InferService
from gateway.engine.watching import SourceWatch
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, ModelMetadata, RequestContext, RequestHead
from gateway.ports import BackendRequest, BackendResponse, Cancellable
from gateway.releases import Release
from gateway.tensors import DataType, TensorSpec
from gateway.versions import ModelVersion, VersionRecord
from tests.support.engine import METADATA, SECOND, Caller, Recorder
from tests.support.virtual_loop import VirtualClock, pause

HEAD = RequestHead("m", None, (TensorSpec("x", DataType.FP32, (1, 2)),))


class Scripted:
    """One replica: both its connections. `load_seconds` and `fault` decide how a load goes."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.available = True
        self.versions: set[ModelVersion] = set()
        self.loads: list[ModelVersion] = []
        self.misfit: Callable[[ModelVersion], str | None] = lambda version: None
        self.fault: Callable[[ModelVersion], str | None] = lambda version: None
        self.metadata_of: Callable[[ModelVersion], ModelMetadata] = lambda version: METADATA
        self.shape_of: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda shape: shape
        self.load_seconds: Callable[[], float] = lambda: rng.uniform(0.05, 1.5)
        self.infer_seconds: Callable[[], float] = lambda: rng.uniform(0.001, 0.02)
        self.gate: asyncio.Event | None = None
        self._working: set[ModelVersion] = set()
        self._calls: dict[int, tuple[asyncio.TimerHandle, Callable[[Any], None]]] = {}
        self._serial = 0

    # ports.InferenceBackend

    def infer(self, request: BackendRequest, done: Callable[[BackendResponse | GatewayError], None]) -> Cancellable:
        if not self.available:
            raise BackendUnreachable("away", unprocessed=True)
        assert request.version in self.versions, f"{request.version} was sent to {self.name}, which does not have it"
        self._serial += 1
        key = self._serial
        outputs = tuple(
            TensorSpec(spec.name, spec.datatype, self.shape_of(shape))
            for spec, shape in zip(request.head.inputs, request.shapes, strict=True)
        )

        def answer() -> None:
            del self._calls[key]
            assert request.version in self.versions, f"{request.version} was unloaded while it had work"
            done(BackendResponse(outputs, [b"".join(chunks) for chunks in request.chunks]))

        handle = asyncio.get_running_loop().call_later(self.infer_seconds(), answer)
        self._calls[key] = (handle, done)

        class Call:
            def cancel(call) -> None:  # noqa: N805
                handle.cancel()
                self._calls.pop(key, None)

        return Call()

    def forget(self, version: ModelVersion) -> None:
        """Nothing is remembered."""

    # ports.RepositoryControl

    async def load(self, version: ModelVersion, *, fresh: bool = False) -> None:
        assert version not in self._working, f"two loads or unloads of {version} on {self.name} at once"
        assert not self._working, f"{version} is loaded on {self.name} while {self._working} is"
        self._working.add(version)
        try:
            self.loads.append(version)
            await self._take(self.load_seconds())
            reason = self.fault(version)
            if reason is not None:
                raise GatewayError(ErrorCode.BACKEND_FAILED, reason)
            self.versions.add(version)
        finally:
            self._working.discard(version)

    def changing(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def fits(self, version: ModelVersion) -> None:
        if (reason := self.misfit(version)) is not None:
            raise GatewayError(ErrorCode.BACKEND_FAILED, reason)

    async def unload(self, version: ModelVersion) -> None:
        assert not self._working, f"{version} is unloaded from {self.name} while {self._working} is loaded"
        self._working.add(version)
        try:
            await self._take(0.05)
            self.versions.discard(version)
        finally:
            self._working.discard(version)

    async def is_ready(self, version: ModelVersion) -> bool | None:
        return version in self.versions if self.available else None

    async def metadata(self, version: ModelVersion) -> ModelMetadata:
        await self._take(0.001)
        return self.metadata_of(version)

    async def loaded(self) -> list[ModelVersion]:
        await self._take(0.001)
        return sorted(self.versions)

    async def server_ready(self) -> bool:
        return self.available

    # what happens to it

    async def _take(self, seconds: float) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await pause(seconds)
        if not self.available:
            raise BackendUnreachable("away", unprocessed=False)

    def die(self) -> None:
        self.available = False
        self.versions.clear()
        calls, self._calls = self._calls, {}
        for handle, done in calls.values():
            handle.cancel()
            done(BackendUnreachable("died", unprocessed=False))


class Source:
    """A registry in memory: implements RegistrySource and VersionRecords."""

    def __init__(self) -> None:
        self.wanted: dict[str, tuple[int, ...]] = {}
        self.records: dict[ModelVersion, VersionRecord | str] = {}
        self.served: dict[str, int] = {}
        self.error: str | None = None
        self.breaking = False
        self.decisions = 0
        self.released: dict[str, Release] = {}
        self.mute: frozenset[str] = frozenset()

    def releases(self) -> dict[str, Release]:
        return self.released

    async def desired(self) -> dict[str, tuple[int, ...]]:
        if self.error is not None:
            raise ValueError(self.error)
        self.served = {name: number for name, number in self.served.items() if self.wanted.get(name)}
        return dict(self.wanted)

    async def record(self, version: ModelVersion) -> VersionRecord:
        found = self.records.get(version, VersionRecord(METADATA))
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def unreadable(self) -> frozenset[str]:
        return self.mute

    def allows_breaking(self, model_name: str) -> bool:
        return self.breaking

    def generation(self, model_name: str) -> int:
        return hash((self.wanted.get(model_name), self.decisions))

    def last_good(self, model_name: str) -> int | None:
        return self.served.get(model_name)

    async def remember(self, model_name: str, number: int) -> None:
        self.served[model_name] = number


class Swapping:
    """Everything around one manager; use inside `virtual_loop.run`."""

    def __init__(self, seed: int = 0, replicas: int = 1, source: Source | None = None, **options: Any) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.observer = Recorder()
        self.source = source or Source()
        self.replicas = [Scripted(f"r{index}", self.rng) for index in range(replicas)]
        self.set = ReplicaSet([Replica(one.name, one, one) for one in self.replicas])
        self.service = InferService(self.clock, self.observer, Admission(100_000, 1 << 30))
        self.manager = VersionManager(
            SourceWatch(self.source, self.clock, self.rng, 1.0, {}),
            self.source,
            self.set,
            self.service,
            self.clock,
            self.observer,
            self._serve,
            ManagerOptions(**options),
            pause,
        )
        self.manager.routes.releases = self.source.releases
        self._heads = HeadCache()
        self._serial = 0

    def _serve(self, version: ModelVersion, metadata: ModelMetadata) -> ServedVersion:
        profile = CostProfile()
        scheduler = VersionScheduler(
            version,
            Batcher(BatchLimits(max_rows=max(1, metadata.max_batch_size)), profile),
            profile,
            Flights(version, self.set, 1, 2),
            self.clock,
            self.observer,
            self._heads,
            self.manager.version_died,
        )
        return ServedVersion(version, metadata, scheduler)

    async def want(self, *numbers: int, model: str = "m") -> None:
        """Changes the pointer and waits until the manager has nothing left to do."""
        self.source.wanted[model] = numbers
        self.source.decisions += 1
        await self.look()

    async def look(self) -> None:
        self.manager.watch.look_now()
        await pause(0.11)  # some time lies between looks
        await self.manager.settled()

    def die(self, index: int) -> None:
        self.replicas[index].die()
        self.manager.replica_lost(self.set.replicas[index])

    def come_back(self, index: int) -> None:
        self.replicas[index].available = True
        self.manager.backend_changed()

    async def release(self, release: Release, *also: int, model: str = "m") -> None:
        """Makes `release` the one in the registry, with what it needs loaded, and waits until that is so."""
        self.source.released[model] = release
        plan = release.plan
        await self.want(plan.stable, *(arm.version for arm in plan.arms), *also, model=model)

    def ask(self, seconds: float = 10, key: str | None = None) -> Caller:
        """Submits one request; raises GatewayError when it is refused."""
        return self.submit(Caller(), seconds, key)

    def submit(self, caller: Caller, seconds: float = 10, key: str | None = None) -> Caller:
        """Submits the request of a caller; raises GatewayError when it is refused."""
        now = self.clock.now()
        self._serial += 1
        context = RequestContext(f"id{self._serial}", now, now + round(seconds * SECOND), "grpc", sticky_key=key)
        caller.pending = self.service.submit(InferRequest(HEAD, "", [bytes(8)]), context, caller)
        return caller
