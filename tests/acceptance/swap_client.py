"""A client process that asks a model which changes its version under it, at a steady pace, over every protocol.

Called with one JSON object: {"rest", "grpc": addresses, "clients", "rate": requests a second of all clients together,
"protocols": some of PROTOCOLS}.
Every answer must name one version and be that version's: Y = X + model_version. Prints "under way"; a line on standard
input begins a new phase; at its end prints {"sent", "right", "refused", "wrong", "lost", "errors",
"phases": {name: {"requests", "p50_ms", "p99_ms"}},
"first": {version: when its first answer came, CLOCK_MONOTONIC}, "back": times a client went back to an older version}.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import struct
import sys
import threading
import time
from collections import Counter
from typing import Any

import uvloop

from gateway._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.acceptance.load_client import Failed, GrpcClient, Lost, Refused, RestClient

MODEL = "shift"
PROTOCOLS = ("grpc", "json", "binary")


class Question:
    """One request and what came back: `version` is the one that answered, and its values were right."""

    def __init__(self, serial: int) -> None:
        self.model = MODEL
        self.values = [float(serial % 1000 + i) for i in range(4)]
        self.raw = struct.pack("<4f", *self.values)
        self.version = 0

    def to_proto(self, message: ModelInferRequest) -> ModelInferRequest:
        message.model_name = MODEL
        message.inputs.add(name="X", datatype="FP32", shape=[1, 4])
        message.raw_input_contents.append(self.raw)
        return message

    def check_proto(self, data: bytes) -> None:
        answer = ModelInferResponse.FromString(data)
        self._check(answer.model_version, answer.raw_output_contents[0])

    def to_rest(self, *, binary: bool) -> tuple[bytes, int | None]:
        tensor: dict[str, Any] = {"name": "X", "datatype": "FP32", "shape": [1, 4]}
        if not binary:
            return json.dumps({"inputs": [{**tensor, "data": self.values}]}).encode(), None
        tensor["parameters"] = {"binary_data_size": len(self.raw)}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        return head + self.raw, len(head)

    def check_rest(self, body: bytes, header_length: int | None) -> None:
        answer = json.loads(body[:header_length])
        output = answer["outputs"][0]
        data = body[header_length:] if header_length is not None else struct.pack("<4f", *output["data"])
        self._check(answer["model_version"], data)

    def _check(self, version: str, data: bytes) -> None:
        found, wanted = struct.unpack("<4f", data), [value + int(version) for value in self.values]
        assert list(found) == wanted, f"version {version} answered {found} instead of {wanted}"
        self.version = int(version)


class Asking:
    """Owns the clients and the tally."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._call = call
        self._serial = 0
        self._starting = call["clients"]
        self._newest = 0
        self.stop = False
        self.phase = "begin"
        self.times: dict[str, list[float]] = {}
        self.tally: dict[str, Any] = {"sent": 0, "right": 0, "refused": 0, "back": 0, "wrong": [], "lost": []}
        self.errors: Counter[str] = Counter()
        self.first: dict[int, float] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._call["clients"]):
                group.create_task(self._client(number, self._call["protocols"][number % len(self._call["protocols"])]))

    async def _client(self, number: int, protocol: str) -> None:
        client: GrpcClient | RestClient
        if protocol == "grpc":
            client = GrpcClient(self._call["grpc"])
        else:
            client = RestClient(self._call["rest"], binary=protocol == "binary")
        loop = asyncio.get_running_loop()
        period = self._call["clients"] / self._call["rate"]
        due = loop.time() + period * number / self._call["clients"]
        newest, first = 0, True
        while not self.stop:
            await asyncio.sleep(max(0.0, due - loop.time()))  # noqa: TID251
            due = max(due + period, loop.time())
            newest = await self._ask(client, newest, f"client {number} ({protocol})")
            if first:
                first = False
                self._starting -= 1
                if not self._starting:
                    print("under way", flush=True)
        client.close()

    async def _ask(self, client: GrpcClient | RestClient, newest: int, who: str) -> int:
        """Sends one request and notes what became of it; returns the newest version that this client has seen."""
        tally, phase = self.tally, self.phase
        self._serial += 1
        question = Question(self._serial)
        tally["sent"] += 1
        started = time.perf_counter()
        try:
            await client.ask(question)  # type: ignore[arg-type]
        except Refused:
            tally["refused"] += 1
        except Lost as error:
            tally["lost"].append(f"{who}: {error}")
        except Failed as error:
            self.errors[str(error)] += 1
        except AssertionError as error:
            tally["wrong"].append(f"{who}: {error}")
        else:
            tally["right"] += 1
            self.times.setdefault(phase, []).append((time.perf_counter() - started) * 1000)
            self.first.setdefault(question.version, time.monotonic())  # noqa: TID251
            tally["back"] += question.version < newest
            return max(newest, question.version)
        return newest

    def report(self) -> dict[str, Any]:
        phases = {}
        together = [time for name in ("swaps", "between") for time in self.times.get(name, [])]
        for name, times in {**self.times, "first to last swap": together}.items():
            if not times:
                continue
            times.sort()
            pick = [round(times[min(len(times) - 1, int(len(times) * share))], 2) for share in (0.5, 0.99)]
            phases[name] = {"requests": len(times), "p50_ms": pick[0], "p99_ms": pick[1]}
        return {**self.tally, "errors": self.errors, "phases": phases, "first": self.first}


async def main(call: dict[str, Any]) -> None:
    asking = Asking(call)
    # The clients stand for other machines: they do not wait for a core that a loading version has.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))

    def read_phases() -> None:
        for line in sys.stdin:
            asking.phase = line.strip()
        asking.stop = True

    threading.Thread(target=read_phases, daemon=True).start()
    # A collection stops all clients for tens of milliseconds: that would be taken for the gateway's doing.
    gc.collect()
    gc.freeze()
    gc.disable()
    await asking.run()
    print(json.dumps(asking.report()), flush=True)


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
