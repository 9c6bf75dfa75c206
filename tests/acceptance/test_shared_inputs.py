"""Large inputs reach a real Triton through shared memory, whatever becomes of it, and nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from gateway.transport.http2 import Http2Client
from tests.acceptance.clients import SERVICE, Headers, call, calls, framed, grpc_head, rest
from tests.support.processes import Gateway, fetch, until

INFER = grpc_head(SERVICE + "ModelInfer")
SIZES = (1_000, 10_000, 40_000, 150_000, 400_000, 40_000, 5_000_000)
"""Numbers in a row: messages, shared memory, and the last is more than any batch may place there."""


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory, registry: Path) -> Iterator[Gateway]:
    """A gateway of its own; every test leaves it working."""
    sharing = Gateway(tmp_path_factory.mktemp("sharing"), registry)
    yield sharing
    assert sharing.stop() == 0
    assert names_of(sharing) == []


def names_of(gateway: Gateway) -> list[str]:
    """Returns the files of a gateway's shared inputs."""
    return [name for name in os.listdir("/dev/shm") if f"sluice_{gateway.process.pid}_" in name and "inputs" in name]


def regions(gateway: Gateway) -> list[dict[str, Any]]:
    """Returns what Triton says is shared with it."""
    found: list[dict[str, Any]] = json.loads(fetch(f"{gateway.ready['triton_http']}/v2/systemsharedmemory/status"))
    return found


def numbers(seed: int, count: int) -> bytes:
    """Returns seeded FP32 numbers, all of one request the same and each request's different: quick to make."""
    return array("f", [random.Random(seed).random()]).tobytes() * (count - 1) + array("f", [seed]).tobytes()


def asked(data: bytes, rows: int = 1) -> tuple[Headers, bytes]:
    message = ModelInferRequest(model_name="identity")
    message.inputs.add(name="FP32_IN", datatype="FP32", shape=[rows, len(data) // 4 // rows])
    message.raw_input_contents.append(data)
    return INFER, framed(message.SerializeToString())


def check(gateway: Gateway, seed: int, sizes: tuple[int, ...] = SIZES) -> None:
    """Sends everything at once and compares every byte that comes back."""
    sent = [numbers(seed + index, size) for index, size in enumerate(sizes)]
    answers = asyncio.run(calls(gateway.grpc, [asked(data) for data in sent]))
    for data, answer in zip(sent, answers, strict=True):
        assert answer.status == 0, answer
        assert ModelInferResponse.FromString(answer.body).raw_output_contents[0] == data


def test_large_inputs_are_shared_and_come_back_right(sharing: Gateway) -> None:
    assert regions(sharing) == [], "nothing was large yet"
    check(sharing, 1)
    (region,) = until(lambda: regions(sharing), 10, "Triton knows the region")
    assert region["byte_size"] == 64 << 20
    until(lambda: names_of(sharing) == [], 10, "its file has no name any more")
    for seed in range(100, 160, 10):
        check(sharing, seed)
    check(sharing, 500, (40_000,) * 40)
    assert [found["name"] for found in regions(sharing)] == [region["name"]]
    body = json.dumps({"inputs": [{"name": "BYTES_IN", "datatype": "BYTES", "shape": [1, 1], "data": ["x" * 99_999]}]})
    answer = rest(sharing.rest, "/v2/models/identity/infer", body.encode())
    assert json.loads(answer.body)["outputs"][0]["data"] == ["x" * 99_999]


def test_a_region_that_triton_was_made_to_forget_is_replaced(sharing: Gateway) -> None:
    check(sharing, 1)
    (before,) = until(lambda: regions(sharing), 10, "Triton knows the region")
    assert rest(sharing.ready["triton_http"], "/v2/systemsharedmemory/unregister", b"").status == 200
    assert regions(sharing) == []
    check(sharing, 2, (40_000,))
    check(sharing, 3)
    (after,) = until(lambda: regions(sharing), 10, "Triton knows another region")
    assert after["name"] != before["name"]
    check(sharing, 4)


def test_a_new_triton_gets_a_new_region(sharing: Gateway) -> None:
    check(sharing, 1)
    until(lambda: regions(sharing), 10, "Triton knows the region")
    os.kill(sharing.ready["triton_pid"], signal.SIGKILL)
    until(lambda: rest(sharing.rest, "/v2/health/ready").status != 200, 10, "readiness says no")
    until(lambda: rest(sharing.rest, "/v2/health/ready").status == 200, 40, "ready again")
    for seed in range(10, 50, 10):
        check(sharing, seed)
    assert len(until(lambda: regions(sharing), 10, "the new Triton knows a region")) == 1


def test_a_caller_who_leaves_takes_nobody_s_memory(sharing: Gateway) -> None:
    """The slow ones are given up while Triton has them; what others then send and get is theirs."""

    async def leave_and_ask(seed: int) -> None:
        client = Http2Client()
        host, _, port = sharing.grpc.rpartition(":")
        await client.connect(host, int(port))
        left = [client.request(*asked(numbers(seed + index, 60_000)), lambda result: None) for index in range(4)]
        await call(client, grpc_head(SERVICE + "ServerLive"), framed(b""))  # the others have arrived
        for stream in left:
            stream.cancel()
        sent = [numbers(seed + index, 60_000) for index in range(4, 8)]
        answers = await asyncio.gather(*[call(client, *asked(data)) for data in sent])
        client.close()
        for data, answer in zip(sent, answers, strict=True):
            assert answer.status == 0, answer
            assert ModelInferResponse.FromString(answer.body).raw_output_contents[0] == data

    for seed in range(1000, 1100, 10):
        asyncio.run(leave_and_ask(seed))
    check(sharing, 7)


def test_it_can_be_switched_off(tmp_path: Path, registry: Path) -> None:
    alone = Gateway(tmp_path, registry, {"triton.shared_memory_bytes": 0})
    try:
        check(alone, 1)
        check(alone, 2)
        assert regions(alone) == []
    finally:
        assert alone.stop() == 0
