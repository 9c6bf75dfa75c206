"""Many clients of one model over both protocols, without a pause; a process of its own.

Called with a JSON object: `grpc` and `rest` addresses, `clients`, `share_rest`, `pace_ms`, `segments`, `seed`. Prints
"under way"; reads lines: `mark NAME` begins a phase, "" (end of input) ends. Prints the tally by phase: requests and
failures by version that answered, ids of the last answers, and latencies.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
from typing import Any

import aiohttp
import grpc

from gateway._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse

MODEL = "classifier"
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Tally:
    """What happened in one phase."""

    def __init__(self) -> None:
        self.sent = 0
        self.by_version: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.wrong: list[str] = []
        self.latencies: list[float] = []
        self.began = time.time()

    def document(self) -> dict[str, Any]:
        ordered = sorted(self.latencies)
        at = {q: ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.9, 0.99)} if ordered else {}
        return {
            "sent": self.sent, "by_version": self.by_version, "failed": self.failed, "wrong": self.wrong[:20],
            "latency_ms": {str(q): value * 1000 for q, value in at.items()}, "seconds": time.time() - self.began,
        }  # fmt: skip


class Clients:
    def __init__(self, call: dict[str, Any]) -> None:
        self.call = call
        self.phases: dict[str, Tally] = {"start": Tally()}
        self.tally = self.phases["start"]
        self.rng = random.Random(call.get("seed", 1))
        self.ended = False
        self.serial = 0
        self.sticky: dict[str, str] = {}
        self.outcomes: list[dict[str, Any]] = []

    async def run(self) -> None:
        channel = grpc.aio.insecure_channel(self.call["grpc"])
        infer = channel.unary_unary(INFER, ModelInferRequest.SerializeToString, ModelInferResponse.FromString)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            rest = round(self.call["clients"] * self.call.get("share_rest", 0.5))
            loops = [
                self._loop(index, infer, session if index < rest else None) for index in range(self.call["clients"])
            ]
            async with asyncio.TaskGroup() as group:
                group.create_task(self._commands())
                group.create_task(self._outcomes(session))
                for loop in loops:
                    group.create_task(loop)
        await channel.close()

    async def _commands(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print("under way", flush=True)
        while line := (await reader.readline()).decode().strip():
            self.tally = self.phases[line.removeprefix("mark ")] = Tally()
        self.ended = True

    async def _outcomes(self, session: aiohttp.ClientSession) -> None:
        """Reports the truth of what was answered, in batches."""
        while not self.ended and self.call.get("outcomes"):
            await asyncio.sleep(0.2)  # noqa: TID251
            batch, self.outcomes = self.outcomes, []
            async with session.post(f"http://{self.call['admin']}/v1/outcomes", json=batch) as answer:
                assert answer.status == 200, await answer.text()

    async def _loop(self, index: int, infer: Any, session: aiohttp.ClientSession | None) -> None:
        while not self.ended:
            self.serial += 1
            row = [self.rng.uniform(0.5, 10.0) for _ in range(4)]
            truth = row.index(max(row))
            key = f"user-{self.rng.randrange(self.call.get('users', 1_000_000))}"
            request_id = f"q{self.call.get('seed', 1)}-{self.serial}"
            headers = {"x-request-id": request_id, "x-sluice-sticky-key": key, "x-country": "de" if index % 2 else "fr"}
            tally = self.tally
            tally.sent += 1
            began = time.perf_counter()
            try:
                call = self._grpc(infer, row, headers) if session is None else self._rest(session, row, headers)
                version, label = await call
            except (grpc.aio.AioRpcError, aiohttp.ClientError, OSError, RuntimeError) as error:
                code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else str(error)[:60]
                tally.failed[code] = tally.failed.get(code, 0) + 1
                continue
            tally.latencies.append(time.perf_counter() - began)
            tally.by_version[version] = tally.by_version.get(version, 0) + 1
            if self.call.get("outcomes"):
                self.outcomes.append({"request_id": request_id, "label": truth})
            if pace := self.call.get("pace_ms"):
                await asyncio.sleep(pace / 1000)  # noqa: TID251
            if label != truth and self.call.get("exact"):
                tally.wrong.append(request_id)

    async def _grpc(self, infer: Any, row: list[float], headers: dict[str, str]) -> tuple[str, int]:
        request = ModelInferRequest(model_name=MODEL)
        tensor = request.inputs.add()
        tensor.name, tensor.datatype = "X", "FP32"
        tensor.shape[:] = [1, 4]
        request.raw_input_contents.append(struct.pack("<4f", *row))
        answer = await infer(request, metadata=tuple(headers.items()), timeout=30)
        names = [output.name for output in answer.outputs]
        return answer.model_version, struct.unpack("<q", answer.raw_output_contents[names.index("LABEL")])[0]

    async def _rest(self, session: aiohttp.ClientSession, row: list[float], headers: dict[str, str]) -> tuple[str, int]:
        body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": row}]}
        url = f"http://{self.call['rest']}/v2/models/{MODEL}/infer"
        async with session.post(url, json=body, headers=headers) as answer:
            document = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {document['error']}")
            [label] = [output["data"][0] for output in document["outputs"] if output["name"] == "LABEL"]
            return document["model_version"], label


if __name__ == "__main__":
    clients = Clients(json.loads(sys.argv[1]))
    asyncio.run(clients.run())
    print(json.dumps({name: tally.document() for name, tally in clients.phases.items()}), flush=True)
