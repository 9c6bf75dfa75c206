"""Builders for engine tests: a served model, a world with a manual clock, callers that remember their answers."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager, nullcontext

from gateway.backends.echo import EchoBackend
from gateway.core.admission import Admission
from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.merging import HeadCache
from gateway.core.plans import BatchLimits
from gateway.engine.batch import PendingRequest
from gateway.engine.flights import Flights
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.engine.scheduler import VersionScheduler
from gateway.engine.served import ServedVersion
from gateway.engine.service import InferService
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, InferResponse, ModelMetadata, RequestContext, RequestHead
from gateway.ports import Clock
from gateway.routes import Route, RouteTable
from gateway.tensors import DataType, TensorSpec
from gateway.versions import ModelVersion, VersionState
from tests.support.clock import ManualClock

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class NoControl:
    """Stands where a replica's control connection would be; engine tests never use it."""

    async def load(self, version: ModelVersion) -> None:
        raise AssertionError("not used")

    def changing(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def fits(self, version: ModelVersion) -> None:
        raise AssertionError("not used")

    async def unload(self, version: ModelVersion) -> None:
        raise AssertionError("not used")

    async def is_ready(self, version: ModelVersion) -> bool:
        raise AssertionError("not used")

    async def metadata(self, version: ModelVersion) -> ModelMetadata:
        raise AssertionError("not used")

    async def server_ready(self) -> bool:
        raise AssertionError("not used")


class Recorder:
    """An Observer that keeps what it hears."""

    def __init__(self) -> None:
        self.requests: list[ErrorCode | None] = []
        self.batches: list[tuple[int, int, str, bool]] = []
        self.states: list[tuple[ModelVersion, VersionState, str]] = []

    def request_done(self, context, version, code, rows, queued, finished_at, model_name, message="") -> None:  # type: ignore[no-untyped-def]
        self.requests.append(code)

    def requests_done(self, version, contexts, rows, dispatched_at, finished_at) -> None:  # type: ignore[no-untyped-def]
        assert len(contexts) == len(rows) > 0
        for context, own in zip(contexts, rows, strict=True):
            queued = dispatched_at - context.received_at
            self.request_done(context, version, None, own, queued, finished_at, version.model_name)

    def batch_done(self, version, requests, rows, reason, backend, ok) -> None:  # type: ignore[no-untyped-def]
        self.batches.append((requests, rows, reason, ok))

    def version_state(self, version: ModelVersion, state: VersionState, detail: str) -> None:
        self.states.append((version, state, detail))


class Caller:
    """One caller: remembers its answer and fails the test if it is answered twice."""

    def __init__(self) -> None:
        self.response: InferResponse | None = None
        self.error: GatewayError | None = None
        self.pending: PendingRequest | None = None

    @property
    def answered(self) -> bool:
        return self.response is not None or self.error is not None

    def succeed(self, response: InferResponse) -> None:
        assert not self.answered
        self.response = response

    def fail(self, error: GatewayError) -> None:
        assert not self.answered
        self.error = error

    @property
    def values(self) -> list[float]:
        assert self.response is not None, self.error
        data = bytes(self.response.data[0])
        return list(struct.unpack(f"<{len(data) // 4}f", data))


METADATA = ModelMetadata(
    name="m",
    versions=("1",),
    platform="python",
    inputs=(TensorSpec("x", DataType.FP32, (-1, 2)),),
    outputs=(TensorSpec("x", DataType.FP32, (-1, 2)),),
    max_batch_size=8,
)


class World:
    """An engine around one echo backend and one model, `m` version 1, rows of two floats."""

    def __init__(self, metadata: ModelMetadata = METADATA, slots: int = 2, **limits: int) -> None:
        self.clock = ManualClock()
        self.observer = Recorder()
        self.backend = EchoBackend()
        self.version = ModelVersion("m", 1)
        self.died: list[ModelVersion] = []
        self.replica = Replica("r0", self.backend, NoControl())
        self.replica.ready_versions.add(self.version)
        self.replicas = ReplicaSet([self.replica])
        profile = CostProfile()
        batchable = metadata.max_batch_size > 0 and metadata.batchable
        limits.setdefault("max_rows", max(1, metadata.max_batch_size))
        batcher = Batcher(BatchLimits(batchable=batchable, **limits), profile)
        self.scheduler = VersionScheduler(
            self.version,
            batcher,
            profile,
            Flights(self.version, self.replicas, 1, slots),
            self.clock,
            self.observer,
            HeadCache(),
            lambda version, replica: self.died.append(version),
        )
        self.served = ServedVersion(self.version, metadata, self.scheduler)
        self.served.state = VersionState.READY
        self.service = InferService(self.clock, self.observer, Admission(1000, 1 << 30))
        self.service.publish(RouteTable(1, {"m": Route("m", ((1, 10_000),))}), {"m": {1: self.served}})
        self._heads: dict[tuple[int, str | None], RequestHead] = {}

    def head(self, rows: int, version: str | None = None) -> RequestHead:
        key = (rows, version)
        if key not in self._heads:
            self._heads[key] = RequestHead("m", version, (TensorSpec("x", DataType.FP32, (rows, 2)),))
        return self._heads[key]

    def context(self, timeout: int = 10 * SECOND, priority: int = 0) -> RequestContext:
        now = self.clock.now()
        return RequestContext(f"id{now}", now, now + timeout, "grpc", priority)

    def ask(self, *rows: tuple[float, float], timeout: int = 10 * SECOND, version: str | None = None) -> Caller:
        """Submits one request of these rows; the caller's answer comes when the backend is told to answer."""
        caller = Caller()
        data = struct.pack(f"<{2 * len(rows)}f", *[value for row in rows for value in row])
        request = InferRequest(self.head(len(rows), version), "", [data])
        caller.pending = self.service.submit(request, self.context(timeout), caller)
        return caller


__all__ = ["METADATA", "MILLISECOND", "SECOND", "Caller", "Clock", "Recorder", "World"]
