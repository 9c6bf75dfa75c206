"""Executions that no caller asked for: what a version is warmed and proved with, straight to one replica."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.engine.replicas import Replica
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Nanos, RequestHead
from gateway.ports import BackendRequest, BackendResponse
from gateway.versions import ModelVersion, TensorData

_TIMEOUT: Nanos = 30_000_000_000


async def execute(
    replica: Replica, version: ModelVersion, tensors: Sequence[TensorData], rows: int
) -> BackendResponse | GatewayError:
    """Runs `tensors` (together `rows` rows) as one batch and returns what came of it; never raises GatewayError."""
    specs = tuple(tensor.spec for tensor in tensors)
    head = RequestHead(version.model_name, None, specs)
    shapes = tuple(spec.shape for spec in specs)
    request = BackendRequest(version, head, rows, shapes, [[tensor.data] for tensor in tensors], _TIMEOUT, once=True)
    answered: asyncio.Future[BackendResponse | GatewayError] = asyncio.get_running_loop().create_future()

    def done(outcome: BackendResponse | GatewayError) -> None:
        if not answered.done():
            answered.set_result(outcome)

    try:
        call = replica.backend.infer(request, done)
    except GatewayError as error:
        return error
    try:
        async with asyncio.timeout(_TIMEOUT / 1e9):
            return await answered
    except TimeoutError:
        return GatewayError(ErrorCode.DEADLINE_EXCEEDED, "no answer in time")
    finally:
        call.cancel()
