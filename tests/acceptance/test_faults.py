"""What goes wrong behind the gateway: one bad request fails alone, a dead model or Triton comes back by itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import urllib.error
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from gateway.transport.http2 import Http2Client
from tests.acceptance.clients import SERVICE, Answer, call, framed, grpc, grpc_head, rest
from tests.support.processes import Gateway, LoadClient, alive, descendants, fetch, until

INFER = grpc_head(SERVICE + "ModelInfer")
SLOW = 1300.0
"""A value that the model takes 300 ms for."""
NAN = float("nan")
V1 = "faulty.v1"


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory, registry: Path) -> Iterator[Gateway]:
    """A gateway of its own, to be broken; every test leaves it working."""
    fragile = Gateway(tmp_path_factory.mktemp("fragile"), registry, {"registry.poll_interval_ms": 500})
    yield fragile
    assert fragile.stop() == 0


@pytest.fixture
def beside(fragile: Gateway, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that has learned nothing yet of how long models take, in front of the same Triton, with tiny bounds."""
    settings: dict[str, Any] = {
        "triton.mode": "remote",
        "triton.source": "triton",
        "triton.addresses": [fragile.ready["triton_grpc"]],
        "batching.max_queue_rows": 8,
        "limits.max_requests_in_flight": 12,
    }
    beside = Gateway(tmp_path, None, settings)
    yield beside
    assert beside.stop() == 0


def faulty(*values: float, timeout_us: int | None = None, model: str = "faulty") -> bytes:
    message = ModelInferRequest(model_name=model)
    message.inputs.add(name="X", datatype="FP32", shape=[len(values), 1]).contents.fp32_contents.extend(values)
    if timeout_us is not None:
        message.parameters["timeout"].int64_param = timeout_us
    return framed(message.SerializeToString())


def json_of(*values: float, timeout_us: int | None = None) -> bytes:
    tensor = {"name": "X", "datatype": "FP32", "shape": [len(values), 1], "data": values}
    more = {"parameters": {"timeout": timeout_us}} if timeout_us is not None else {}
    return json.dumps({"inputs": [tensor], **more}).encode()


def doubled(answer: Answer) -> list[float]:
    assert answer.status == 0, answer
    output = ModelInferResponse.FromString(answer.body)
    return [float(v) for v in memoryview(output.raw_output_contents[0]).cast("f")]


async def connected(gateway: Gateway) -> Http2Client:
    client = Http2Client()
    host, _, port = gateway.grpc.rpartition(":")
    await client.connect(host, int(port))
    return client


def ask_all(gateway: Gateway, *bodies: bytes) -> list[Answer]:
    """Asks all at once on one connection, behind two slow ones that keep the model busy so that the rest can merge."""

    async def ask() -> list[Answer]:
        client = await connected(gateway)
        slow = [asyncio.ensure_future(call(client, INFER, faulty(SLOW))) for _ in range(2)]  # noqa: TID251
        answers = await asyncio.gather(*[call(client, INFER, body) for body in bodies])
        await asyncio.gather(*slow)
        client.close()
        return answers

    return asyncio.run(ask())


def settled(gateway: Gateway) -> None:
    """Waits until nothing is in flight."""
    until(lambda: gateway.metrics()["sluice_requests_in_flight"] == 0, 10, "nothing is in flight")


def ready(gateway: Gateway) -> bool:
    return rest(gateway.rest, "/v2/health/ready").status == 200


# ------------------------------------------------------------------ one bad request


@pytest.mark.parametrize(("bad", "status", "named"), [(NAN, 3, "X has a NaN"), (777.0, 13, "rows")], ids=["NaN", "777"])
def test_a_poisoned_request_fails_alone(fragile: Gateway, bad: float, status: int, named: str) -> None:
    before = fragile.metrics()
    answers = ask_all(fragile, *[faulty(float(i)) for i in range(1, 6)], faulty(bad), faulty(6.0))
    poisoned = answers.pop(5)
    assert [doubled(answer) for answer in answers] == [[2.0 * i] for i in range(1, 7)]
    assert (poisoned.status, named in poisoned.message) == (status, True), poisoned
    key = 'sluice_batches_total{model="faulty",version="1",reason="rerun"}'
    assert fragile.metrics().get(key, 0) - before.get(key, 0) >= 4, "the batch was not merged and run again in halves"


# ------------------------------------------------------------------ a dead model, a dead Triton


def test_a_model_whose_process_dies_is_loaded_again(fragile: Gateway) -> None:
    load = LoadClient(fragile, clients=3, models=["add_sub"], pace_ms=5)
    answer = grpc(fragile.grpc, "ModelInfer", faulty(666.0)[5:])
    assert answer.status in (13, 14), answer
    assert answer.message
    alone = until(
        lambda: (found := grpc(fragile.grpc, "ModelInfer", faulty(4.0)[5:])).status == 0 and found, 20, "loaded again"
    )
    assert doubled(alone) == [8.0]
    tally = load.finish()
    assert (tally["wrong"], tally["lost"], tally["errors"]) == ([], [], {})
    until(lambda: ready(fragile), 10, "ready again")


def test_a_killed_triton_comes_back_by_itself(fragile: Gateway) -> None:
    load = LoadClient(fragile, clients=6, models=["add_sub"], pace_ms=5)
    pid = fragile.ready["triton_pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not ready(fragile), 10, "readiness says no")
    refusal = rest(fragile.rest, "/v2/models/faulty/infer", json_of(1.0))
    assert refusal.status in (502, 503), refusal
    assert refusal.message
    answer = grpc(fragile.grpc, "ModelInfer", faulty(1.0)[5:])
    assert answer.status == 14, answer
    assert rest(fragile.rest, "/v2/health/live").status == 200
    until(lambda: ready(fragile), 40, "ready again")
    assert doubled(grpc(fragile.grpc, "ModelInfer", faulty(2.0)[5:])) == [4.0]
    tally = load.finish()
    assert (tally["wrong"], tally["lost"], tally["refused"]) == ([], [], 0)
    statuses = Counter(error.split()[1] for error in tally["errors"])
    assert set(statuses) <= {"14", "502", "503"}, tally["errors"]
    assert tally["right"] > 0


# ------------------------------------------------------------------ callers who leave, deadlines


def test_a_caller_who_leaves_is_withdrawn(fragile: Gateway) -> None:
    settled(fragile)
    before = fragile.metrics()
    host, _, port = fragile.rest.rpartition(":")
    body = json_of(2000.0)
    with socket.create_connection((host, int(port)), 10) as connection:
        head = f"POST /v2/models/faulty/infer HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(lambda: fragile.metrics()["sluice_requests_in_flight"] == 1, 5, "the REST request is in flight")

    async def leave() -> None:
        client = await connected(fragile)
        client.request(INFER, faulty(2000.0), lambda result: None)
        stream = client.request(INFER, faulty(1.0), lambda result: None)
        await call(client, grpc_head(SERVICE + "ServerLive"), framed(b""))  # the others have arrived
        stream.cancel()
        await call(client, grpc_head(SERVICE + "ServerLive"), framed(b""))
        client.close()

    asyncio.run(leave())
    settled(fragile)
    after = fragile.metrics()

    def cancelled(protocol: str) -> float:
        key = f'sluice_requests_total{{model="faulty",version="1",protocol="{protocol}",outcome="cancelled"}}'
        return after.get(key, 0) - before.get(key, 0)

    assert (cancelled("rest_json"), cancelled("grpc")) == (1, 2)
    assert doubled(grpc(fragile.grpc, "ModelInfer", faulty(3.0)[5:])) == [6.0]


def test_deadlines_over_grpc_end_only_their_own_request(beside: Gateway) -> None:
    """Running, staged or queued, the hasty hear of their deadline long before the model is done; the patient wait."""

    async def ask() -> list[str]:
        client = await connected(beside)
        order: list[str] = []

        async def one(name: str, body: bytes, *more: tuple[bytes, bytes]) -> Answer:
            answer = await call(client, [*INFER, *more], body)
            order.append(f"{name} {answer.status}")
            return answer

        hasty = (b"grpc-timeout", b"250m")
        async with asyncio.TaskGroup() as group:
            # What no model has taken long for is let in; it is the model that then takes a second.
            group.create_task(one("running", faulty(2000.0, model=V1), hasty))
            patient = group.create_task(one("patient", faulty(1999.0, model=V1)))
            queued = [group.create_task(one("queued", faulty(5.0, model=V1), hasty)) for _ in range(2)]
            by_parameter = group.create_task(one("parameter", faulty(6.0, timeout_us=240_000, model=V1)))
            late = group.create_task(one("late", faulty(7.0, model=V1)))
        client.close()
        assert doubled(patient.result()) == [3998.0]
        assert doubled(late.result()) == [14.0]
        assert "deadline" in by_parameter.result().message
        assert all("deadline" in task.result().message for task in queued)
        return order

    order = asyncio.run(ask())
    # Those that wait may be dropped a moment early; all the same it is their deadline that they have missed.
    assert sorted(line.split()[0] for line in order[:4]) == ["parameter", "queued", "queued", "running"], order
    assert "running 4" in order
    assert {line.split()[1] for line in order[:4]} == {"4"}, order
    assert sorted(order[4:]) == ["late 0", "patient 0"], order


def test_deadlines_over_rest_end_only_their_own_request(beside: Gateway) -> None:
    settled(beside)
    order: list[tuple[str, int]] = []
    lock = threading.Lock()

    def one(name: str, body: bytes) -> Answer:
        answer = rest(beside.rest, "/v2/models/faulty.v1/infer", body)
        with lock:
            order.append((name, answer.status))
        return answer

    with ThreadPoolExecutor(4) as threads:
        patient = threads.submit(one, "patient", json_of(2000.0))
        until(lambda: beside.metrics()["sluice_requests_in_flight"] == 1, 5, "the patient one is running")
        hasty = [threads.submit(one, "hasty", json_of(float(i), timeout_us=200_000)) for i in (1998, 5)]
        refusals = [task.result() for task in hasty]
        late = threads.submit(one, "late", json_of(8.0))
        assert json.loads(late.result().body)["outputs"][0]["data"] == [16.0]
        assert json.loads(patient.result().body)["outputs"][0]["data"] == [4000.0]
    assert all("deadline" in answer.message for answer in refusals), refusals
    assert [name for name, _ in order[:2]] == ["hasty"] * 2, order
    # The one that waits may be dropped a moment early; all the same it is its deadline that it has missed.
    assert [status for _, status in order[:2]] == [504, 504], order


# ------------------------------------------------------------------ overload


def test_overload_is_refused_at_once_with_a_hint(beside: Gateway) -> None:
    async def flood() -> tuple[list[str], list[Answer]]:
        client = await connected(beside)
        order: list[str] = []

        async def one() -> Answer:
            answer = await call(client, INFER, faulty(1400.0, model=V1))
            order.append("ok" if answer.status == 0 else "refused")
            return answer

        answers = await asyncio.gather(*[one() for _ in range(30)])
        client.close()
        return order, answers

    order, answers = asyncio.run(flood())
    refusals = [answer for answer in answers if answer.status]
    assert refusals
    assert order[: len(refusals)] == ["refused"] * len(refusals), "somebody was kept waiting to be refused"
    for answer in refusals:
        assert answer.status == 14, answer
        assert "batching.max_queue_rows = 8" in answer.message or "max_requests_in_flight = 12" in answer.message, (
            answer
        )
        assert int(answer.headers["grpc-retry-pushback-ms"]) > 0
    with ThreadPoolExecutor(24) as threads:
        url = "/v2/models/faulty.v1/infer"
        results = list(threads.map(lambda _: rest(beside.rest, url, json_of(1400.0)), range(24)))
    refused_over_rest = [answer for answer in results if answer.status != 200]
    assert refused_over_rest
    for answer in refused_over_rest:
        assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (503, True), answer


# ------------------------------------------------------------------ a killed gateway


def test_a_killed_gateway_leaves_no_process_behind(tmp_path: Path, registry: Path) -> None:
    doomed = Gateway(tmp_path, registry)
    below = descendants(doomed.process.pid)
    assert doomed.ready["triton_pid"] in below
    doomed.process.kill()
    doomed.process.wait(10)
    assert doomed.process.stdout is not None
    doomed.process.stdout.close()
    until(lambda: not [pid for pid in below if alive(pid)], 20, "every process below the gateway has ended")
    with pytest.raises(urllib.error.URLError):
        fetch(f"{doomed.ready['triton_http']}/v2/health/live")
