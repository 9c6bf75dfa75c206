"""Small clients for single calls: REST, gRPC over the project's HTTP/2 client, bare sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from gateway.transport.http2 import ClientResult, Http2Client

SERVICE = "/inference.GRPCInferenceService/"
SECONDS = 20
Headers = Sequence[tuple[bytes, bytes]]


class Answer:
    """What came back, whatever the protocol: `status` is HTTP's or gRPC's, `message` the error's text or ""."""

    def __init__(self, status: int, message: str, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.message = message
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"{self.status} {self.message!r} {self.headers} {self.body[:200]!r}"


def rest(
    address: str,
    path: str,
    body: bytes | None = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Makes one request: a POST where there is a body."""
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
        return Answer(answer.status, _error(data), {k.lower(): v for k, v in answer.getheaders()}, data)
    finally:
        connection.close()


def bare(address: str, data: bytes, *, half_close: bool = False, pieces: int = 1) -> Answer:
    """Sends bytes to a REST listener and reads until it closes; status 0 where it closed without an HTTP answer."""
    received = exchange(address, data, half_close=half_close, pieces=pieces)
    if not received.startswith(b"HTTP/1.1 "):
        return Answer(0, "", {}, received)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), _error(body), headers, body)


def exchange(address: str, data: bytes, *, half_close: bool = False, pieces: int = 1) -> bytes:
    """Sends bytes and returns everything that comes until the peer closes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        step = max(1, -(-len(data) // pieces))
        received = b""
        try:
            for start in range(0, len(data), step):
                connection.sendall(data[start : start + step])
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


def grpc_head(path: str, *more: tuple[bytes, bytes], replace: dict[bytes, bytes] | None = None) -> Headers:
    """Returns the headers of a call to `path`; `replace` changes (or, with b"", leaves out) some."""
    usual = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path.encode(),
        b":authority": b"test",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    } | (replace or {})
    return [*((name, value) for name, value in usual.items() if value), *more]


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


async def calls(address: str, requests: Sequence[tuple[Headers, bytes]]) -> list[Answer]:
    """Makes all calls at once on one connection; status -1 where a stream was reset or the connection lost."""
    host, _, port = address.rpartition(":")
    client = Http2Client()
    await client.connect(host, int(port))
    try:
        async with asyncio.timeout(SECONDS):
            return await asyncio.gather(*[call(client, headers, body) for headers, body in requests])
    finally:
        client.close()


async def call(client: Http2Client, headers: Headers, body: bytes) -> Answer:
    """Makes one call on an open connection."""
    answered: asyncio.Future[ClientResult] = asyncio.get_running_loop().create_future()
    client.request(headers, body, answered.set_result)
    return grpc_answer(await answered)


def grpc_answer(result: ClientResult) -> Answer:
    if result.error is not None:
        return Answer(-1, result.error, {}, b"")
    pairs = {**result.headers, **result.trailers}
    headers = {name.decode(): value.decode("latin-1") for name, value in pairs.items()}
    message = unquote(headers.get("grpc-message", ""))
    return Answer(int(headers.get("grpc-status", "-1")), message, headers, bytes(result.body)[5:])


def grpc(address: str, method: str, message: bytes, *more: tuple[bytes, bytes]) -> Answer:
    """Makes one unary call of the inference service (or of another, where `method` is a whole path)."""
    path = method if method.startswith("/") else SERVICE + method
    return asyncio.run(calls(address, [(grpc_head(path, *more), framed(message))]))[0]


def refused(answer: Answer, named: str, *statuses: int) -> None:
    """Fails unless `answer` has one of the statuses and an error text that contains `named`."""
    assert answer.status in statuses, answer
    assert answer.message, answer
    assert named in answer.message, answer
    assert "Traceback" not in answer.message, answer


def _error(body: bytes) -> str:
    """Returns the text of an OIP error object, or "" where the body is none."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        return ""
    return value["error"] if isinstance(value, dict) and isinstance(value.get("error"), str) else ""
