"""What Triton itself does with a model that misbehaves: what the gateway has to be ready for."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any

from gateway.backends.triton_environment import TritonEnvironment
from gateway.versions import ModelVersion
from tests.support.triton import load, placement, triton

FAULTY = ModelVersion("faulty", 1)


def infer(port: int, *rows: float) -> tuple[int, dict[str, Any]]:
    tensor = {"name": "X", "datatype": "FP32", "shape": [len(rows), 1], "data": rows}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v2/models/faulty.v1/infer", json.dumps({"inputs": [tensor]}))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_each_fault_and_the_recovery_after_it(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    async def scenario() -> None:
        await placement(tmp_path).prepare(FAULTY)
        # Unloading an instance whose stub is dead never ends: Triton gives up when its exit time-out is over.
        async with triton(triton_environment, tmp_path, stop_grace_s=2) as process:
            await process.start()
            await asyncio.to_thread(load, process.http_port, FAULTY)
            await asyncio.to_thread(faults, process.http_port)
            assert process.restarts == 0, "a stub that dies does not take the server with it"

    asyncio.run(scenario())


def faults(port: int) -> None:
    status, answer = infer(port, 1.0, 2.5)
    assert status == 200
    assert answer["outputs"][0]["data"] == [2.0, 5.0]
    status, answer = infer(port, 1.0, float("nan"))
    assert status == 400
    assert "NaN" in answer["error"]
    status, answer = infer(port, 777, 1, 2)
    assert status == 200
    assert answer["outputs"][0]["shape"] == [2, 1], "Triton passes on an answer with a row too few"
    assert infer(port, 1001)[1]["outputs"][0]["data"] == [2002.0]
    status, answer = infer(port, 666)
    assert (status, "is not healthy" in answer["error"]) == (500, True)
    status, answer = infer(port, 3)
    assert (status, "is not healthy" in answer["error"]) == (500, True), "Triton never starts a dead stub again"
    load(port, FAULTY)
    status, answer = infer(port, 3)
    assert status == 200, "loading again does"
    assert answer["outputs"][0]["data"] == [6.0]
