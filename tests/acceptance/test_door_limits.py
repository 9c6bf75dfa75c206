"""Limits at the door, set small: what breaks one is refused by name, and neighbours notice nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.transport.http2 import Http2Client
from tests.acceptance.clients import SERVICE, Answer, bare, call, calls, exchange, framed, grpc_head, refused, rest
from tests.support.processes import Gateway, LoadClient, fetch, until

SETTINGS: dict[str, Any] = {
    "triton.mode": "remote",
    "triton.source": "triton",
    "limits.max_header_bytes": 1024,
    "limits.max_header_count": 20,
    "limits.max_body_bytes": 4096,
    "limits.header_timeout_ms": 250,
    "limits.body_timeout_ms": 250,
    "limits.max_connections": 12,
    "limits.max_streams_per_connection": 4,
}
HEAD = b"POST /v2/models/add_sub.v1/infer HTTP/1.1\r\nHost: t\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


@pytest.fixture(scope="module")
def strict(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with small limits in front of the same Triton, with well-behaved clients all the while."""
    settings = {**SETTINGS, "triton.addresses": [gateway.ready["triton_grpc"]]}
    strict = Gateway(tmp_path_factory.mktemp("strict"), None, settings)
    load = LoadClient(strict, clients=3, models=["add_sub"], suffix=".v1", pace_ms=10)
    yield strict
    tally = load.finish()
    assert (tally["wrong"], tally["lost"], tally["errors"], tally["refused"]) == ([], [], {}, 0)
    assert tally["right"] == tally["sent"] > 0
    assert strict.stop() == 0


def test_body_over_the_limit(strict: Gateway) -> None:
    refused(rest(strict.rest, "/v2/models/add_sub.v1/infer", bytes(4097)), "4096", 413)
    refused(bare(strict.rest, HEAD + b"Content-Length: 4097\r\n\r\n"), "4096", 413)
    refused(bare(strict.rest, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1001\r\n" + bytes(4097)), "4096", 413)
    over = [(grpc_head(SERVICE + "ModelInfer"), framed(bytes(size))) for size in (4097, 1 << 20)]
    for answer in asyncio.run(calls(strict.grpc, over)):
        refused(answer, "limits.max_body_bytes", 8)


def test_heads_over_the_limit(strict: Gateway) -> None:
    refused(bare(strict.rest, HEAD + b"X: " + b"a" * 1024 + b"\r\n\r\n"), "1024", 431)
    refused(bare(strict.rest, HEAD + b"X: a\r\n" * 20 + b"\r\n"), "20", 431)
    for more in ([(b"x", b"a" * 1024)], [(b"x%d" % i, b"a") for i in range(20)]):
        (answer,) = asyncio.run(calls(strict.grpc, [(grpc_head(SERVICE + "ServerLive", *more), framed(b""))]))
        assert answer.status != 0


@pytest.mark.parametrize(
    ("data", "named"),
    [(HEAD[:20], "head"), (HEAD, "head"), (HEAD + b"Content-Length: 9\r\n\r\n123", "body")],
    ids=["half a line", "half a head", "half a body"],
)
def test_slow_rest_clients_are_told(strict: Gateway, data: bytes, named: str) -> None:
    refused(bare(strict.rest, data), named, 408)


@pytest.mark.parametrize("data", [b"", PREFACE[:10], PREFACE[:-3]], ids=["nothing", "half a preface", "half a frame"])
def test_silent_grpc_clients_are_let_go(strict: Gateway, data: bytes) -> None:
    assert b"HTTP/1.1" not in exchange(strict.grpc, data)


def test_half_a_grpc_message_is_given_up(strict: Gateway) -> None:
    """The peer announces a body and never sends it: its stream is reset, the next one is served."""

    async def half() -> Answer:
        reader, writer = await asyncio.open_connection(*strict.grpc.split(":"))
        block = b"\x83\x86\x44\x0c/inference.X\x41\x01t"
        writer.write(PREFACE + len(block).to_bytes(3, "big") + b"\1\4\0\0\0\1" + block)
        received = b""
        async with asyncio.timeout(20):
            while b"\0\0\4\3\0\0\0\0\1" not in received:  # RST_STREAM of stream 1
                part = await reader.read(4096)
                assert part, "the connection ended instead of the stream"
                received += part
        writer.close()
        return Answer(0, "", {}, received)

    asyncio.run(half())


def test_too_many_connections(strict: Gateway) -> None:
    def open_() -> float:
        return strict.metrics()['sluice_connections{listener="rest"}']

    host, _, port = strict.rest.rpartition(":")
    held = []
    try:
        for _ in range(12):
            held.append(socket.create_connection((host, int(port)), 20))
            held[-1].sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n")
        answers = [connection.recv(1 << 16) for connection in held]
        turned_away = [answer for answer in answers if b" 503 " in answer]
        assert len(turned_away) >= 2, answers
        assert all(b"too many connections" in answer for answer in turned_away)
        assert fetch(f"{strict.admin}/healthz")
    finally:
        for connection in held:
            connection.close()
    until(lambda: open_() <= 2, 10, "the connections are counted out again")
    assert rest(strict.rest, "/v2/health/live").status == 200


def test_too_many_streams(strict: Gateway) -> None:
    """Beyond the announced four a stream is refused as not processed; a client that knows the limit keeps to it."""
    live = (grpc_head(SERVICE + "ServerLive"), framed(b""))

    async def burst() -> list[Answer]:
        client = Http2Client()
        host, _, port = strict.grpc.rpartition(":")
        await client.connect(host, int(port))
        assert (await call(client, *live)).status == 0
        answers = await asyncio.gather(*[call(client, *live) for _ in range(40)])
        client.close()
        return answers

    assert [answer.status for answer in asyncio.run(burst())] == [0] * 40
    hasty = asyncio.run(calls(strict.grpc, [live] * 40))
    assert {(answer.status, answer.message) for answer in hasty if answer.status} <= {
        (-1, "stream reset, HTTP/2 error 7")
    }
    assert sum(answer.status == 0 for answer in hasty) >= 4


def test_unknown_content_types_are_read_as_json(strict: Gateway) -> None:
    """As Triton does: what counts is the body."""
    tensors = [{"name": name, "datatype": "INT32", "shape": [1, 16], "data": [3] * 16} for name in "AB"]
    body = json.dumps({"inputs": tensors}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        answer = rest(strict.rest, "/v2/models/add_sub.v1/infer", body, headers={"Content-Type": kind})
        assert answer.status == 200, answer
    refused(rest(strict.rest, "/v2/models/add_sub.v1/infer", b"a=b", headers={"Content-Type": "nonsense"}), "", 400)


def test_zero_sized_tensors_are_answered_or_refused_by_name(gateway: Gateway) -> None:
    """A row of no elements is a row: it comes back as it was sent."""
    body = {"inputs": [{"name": "FP32_IN", "datatype": "FP32", "shape": [2, 0], "data": []}]}
    answer = rest(gateway.rest, "/v2/models/identity/infer", json.dumps(body).encode())
    assert answer.status == 200, answer
    (output,) = json.loads(answer.body)["outputs"]
    assert (output["name"], output["shape"], output["data"]) == ("FP32_OUT", [2, 0], [])
