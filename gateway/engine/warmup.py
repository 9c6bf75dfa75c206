"""Warms a version on a replica before it takes traffic: one execution for each batch size in use.

The first execution of each shape is slow in most runtimes; here the gateway pays for it, not a caller. What is measured
on the second run of a size seeds the cost profile. Inputs are zeros (dimensions of -1 become a small number),
so a model that cannot answer zeros is reported and served all the same.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.engine.replicas import Replica
from gateway.engine.served import ServedVersion
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Buffer, ModelMetadata, Nanos, RequestHead
from gateway.ports import BackendRequest, BackendResponse, Clock
from gateway.tensors import DataType, TensorSpec, byte_size, element_count

_log = logging.getLogger("sluice.warmup")
_BUDGET: Nanos = 3_000_000_000
_CALL_TIMEOUT: Nanos = 30_000_000_000
_MOST_ROWS = 64
_FREE_DIMENSION = 8


async def warm(served: ServedVersion, replica: Replica, clock: Clock) -> None:
    """Runs batch sizes 1, 2, 4 … twice each until the largest in use or until the time budget is spent.

    Raises:
        GatewayError: BACKEND_UNREACHABLE, the replica went away.
    """
    started = clock.now()
    for rows in _sizes(served.metadata):
        request = _zeros(served, rows)
        for again in (False, True):
            before = clock.now()
            outcome = await _run(replica, request)
            if isinstance(outcome, GatewayError):
                if outcome.code is ErrorCode.BACKEND_UNREACHABLE:
                    raise outcome
                _log.warning("warm-up of %s with %d rows of zeros failed: %s", served.version, rows, outcome.message)
                return
            if again:
                served.scheduler.profile.observe(rows, clock.now() - before)
        if clock.now() - started > _BUDGET:
            return


def _sizes(metadata: ModelMetadata) -> list[int]:
    if metadata.max_batch_size < 1 or not metadata.batchable:
        return [1]
    sizes = [1]
    while sizes[-1] * 2 <= min(metadata.max_batch_size, _MOST_ROWS):
        sizes.append(sizes[-1] * 2)
    return sizes


def _zeros(served: ServedVersion, rows: int) -> BackendRequest:
    metadata = served.metadata
    specs: list[TensorSpec] = []
    chunks: list[list[Buffer]] = []
    for spec in metadata.inputs:
        shape = tuple(_FREE_DIMENSION if size < 0 else size for size in spec.shape)
        if metadata.max_batch_size > 0:
            shape = (rows, *shape[1:])
        concrete = TensorSpec(spec.name, spec.datatype, shape)
        specs.append(concrete)
        size = byte_size(concrete)
        chunks.append([bytes(4 * element_count(shape)) if spec.datatype is DataType.BYTES else bytes(size or 0)])
    head = RequestHead(metadata.name, None, tuple(specs))
    shapes = tuple(spec.shape for spec in specs)
    return BackendRequest(served.version, head, rows, shapes, chunks, _CALL_TIMEOUT)


async def _run(replica: Replica, request: BackendRequest) -> BackendResponse | GatewayError:
    answered: asyncio.Future[BackendResponse | GatewayError] = asyncio.get_running_loop().create_future()

    def done(outcome: BackendResponse | GatewayError) -> None:
        if not answered.done():
            answered.set_result(outcome)

    call = replica.backend.infer(request, done)
    try:
        async with asyncio.timeout(_CALL_TIMEOUT / 1e9):
            return await answered
    except TimeoutError:
        call.cancel()
        return GatewayError(ErrorCode.DEADLINE_EXCEEDED, "no answer in time")
