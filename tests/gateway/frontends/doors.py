"""Frontends over an engine with an echo backend, and the ends of HTTP requests that tests look at."""

from __future__ import annotations

import json
from typing import Any

from gateway.frontends.context import ContextFactory
from gateway.frontends.grpc import NativeGrpc
from gateway.frontends.grpc_handlers import GrpcHandlers
from gateway.frontends.rest import RestFrontend
from gateway.frontends.server_info import ServerInfo
from gateway.transport.http1_exchange import HttpExchange, HttpRequest
from gateway.transport.http1_head import RequestHead
from gateway.transport.http2_stream import ServerStream
from tests.support.engine import SECOND, World

BODY: dict[str, Any] = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}


class HttpPeer:
    """Stands for an HTTP/1.1 connection; keeps the answer of its one request."""

    peer = "test"

    def __init__(self) -> None:
        self.status = 0
        self.headers = b""
        self.body = b""

    def answer(self, exchange: HttpExchange, status: int, headers: bytes, chunks: Any) -> None:
        assert not self.status, "answered twice"
        self.status, self.headers, self.body = status, headers, b"".join(chunks)

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


class GrpcPeer:
    """Stands for an HTTP/2 connection; keeps the answer of its one stream."""

    peer = "test"

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}

    def respond(self, stream_id: int, headers: Any, chunks: Any, trailers: Any) -> None:
        self.headers = {**dict(headers), **dict(trailers)}

    def respond_headers_only(self, stream_id: int, headers: Any) -> None:
        self.headers = dict(headers)

    def reset(self, stream_id: int, error_code: int) -> None:
        raise AssertionError("reset")


class Doors:
    """Both frontends before one world."""

    def __init__(self, world: World, max_body_bytes: int = 1 << 20, max_json_bytes: int = 1 << 20) -> None:
        self.world = world
        contexts = ContextFactory(world.clock.now, "t", 10 * SECOND, 10 * SECOND)
        info = ServerInfo("sluice", "0")
        self.rest = RestFrontend(world.service, contexts, info, max_body_bytes, max_json_bytes)
        self.grpc = NativeGrpc(GrpcHandlers(world.service, contexts, info), max_body_bytes)

    def post(self, body: object, path: bytes = b"/v2/models/m/infer", **headers: str) -> HttpPeer:
        """Makes a REST request; underscores in header names stand for dashes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        head = RequestHead(b"POST", path, b"", named, old=False)
        peer = HttpPeer()
        self.rest(HttpRequest(head, data), HttpExchange(peer, head))
        return peer

    def call(self, path: bytes, body: bytes, **headers: bytes) -> dict[bytes, bytes]:
        """Makes a gRPC call and returns all header and trailer fields of its answer."""
        sent = {b":method": b"POST", b":path": path, b"content-type": b"application/grpc"}
        sent |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
        peer = GrpcPeer()
        stream = ServerStream(peer, 1, tuple(sent.items()), 0)
        stream.body = body
        self.grpc(stream)
        return peer.headers
