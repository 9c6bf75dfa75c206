"""Added latency at low load: one gRPC request at a time, straight to Triton and through Sluice, blocks alternating."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.loads import LoadFailed
from gateway.bench.encoding import grpc_headers
from gateway.bench.grpc_codec import grpc_infer
from gateway.bench.payload import Tensor
from gateway.transport.http2 import ClientResult, Http2Client

BLOCKS, PER_BLOCK, WARM_UP = 8, 400, 200


def compare(direct: str, sluice: str, direct_model: str, model: str, tensors: Sequence[Tensor]) -> dict[str, Any]:
    """Returns p50 and p99 of both arms and what Sluice adds, in microseconds; the added p50 is the median over pairs
    of blocks."""
    return asyncio.run(_compare(direct, sluice, grpc_infer(direct_model, "", tensors), grpc_infer(model, "", tensors)))


async def _compare(direct: str, sluice: str, direct_message: bytes, message: bytes) -> dict[str, Any]:
    arms = {"triton": (direct, direct_message), "sluice": (sluice, message)}
    blocks: dict[str, list[list[float]]] = {name: [] for name in arms}
    clients = {}
    for name, (address, message) in arms.items():
        host, _, port = address.rpartition(":")
        clients[name] = Http2Client()
        await clients[name].connect(host, int(port))
        await _block(clients[name], address, message, WARM_UP)
    for index in range(BLOCKS):
        for name in list(arms) if index % 2 == 0 else list(arms)[::-1]:
            address, message = arms[name]
            blocks[name].append(await _block(clients[name], address, message, PER_BLOCK))
    for client in clients.values():
        client.close()
    added = [
        statistics.median(ours) - statistics.median(theirs)
        for ours, theirs in zip(blocks["sluice"], blocks["triton"], strict=True)
    ]
    found: dict[str, Any] = {"added_p50": round(statistics.median(added), 1), "requests_per_arm": BLOCKS * PER_BLOCK}
    for name, taken in blocks.items():
        times = sorted(value for block in taken for value in block)
        found[f"{name}_p50"] = round(times[len(times) // 2], 1)
        found[f"{name}_p99"] = round(times[len(times) * 99 // 100], 1)
    return found


async def _block(client: Http2Client, address: str, message: bytes, count: int) -> list[float]:
    """Sends `count` requests one after the other; returns their round trips in microseconds."""
    headers = grpc_headers(address, "ModelInfer")
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(count):
        answered: asyncio.Future[ClientResult] = loop.create_future()
        started = time.perf_counter_ns()
        client.request(headers, message, answered.set_result)
        result = await answered
        times.append((time.perf_counter_ns() - started) / 1000)
        if result.error is not None or result.trailers.get(b"grpc-status") != b"0":
            raise LoadFailed(f"a request failed: {result.error or result.trailers or result.headers}")
    return times
