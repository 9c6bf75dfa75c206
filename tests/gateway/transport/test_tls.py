from __future__ import annotations

import asyncio
import http.client
import ssl
from pathlib import Path

import grpc

from gateway.transport.http1 import Http1Server, HttpExchange, HttpRequest
from gateway.transport.http2 import Http2Server, ServerStream
from gateway.transport.tls import server_context
from tests.gateway.transport.peers import run

PEM = str(Path(__file__).with_name("localhost.pem"))
"""A certificate for localhost with its key, made for these tests and trusted by nobody else."""


def test_both_protocols_over_tls() -> None:

    def answer(request: HttpRequest, exchange: HttpExchange) -> None:
        exchange.respond(200, b"", (request.body,))

    def echo(stream: ServerStream) -> None:
        stream.respond(
            [(b":status", b"200"), (b"content-type", b"application/grpc")], (stream.body,), [(b"grpc-status", b"0")]
        )

    def talk(port1: int, port2: int) -> None:
        body = bytes(1_000_000)
        client = http.client.HTTPSConnection(
            "localhost", port1, timeout=10, context=ssl.create_default_context(cafile=PEM)
        )
        client.request("POST", "/", body)
        assert client.getresponse().read() == body
        client.close()
        credentials = grpc.ssl_channel_credentials(Path(PEM).read_bytes())
        with grpc.secure_channel(f"localhost:{port2}", credentials) as channel:
            assert channel.unary_unary("/s/M")(body, timeout=10) == body

    async def test() -> None:
        one, two = Http1Server(answer), Http2Server(echo)
        port1 = await one.start("127.0.0.1", 0, tls=server_context(PEM, PEM, protocols=("http/1.1",)))
        port2 = await two.start("127.0.0.1", 0, tls=server_context(PEM, PEM, protocols=("h2",)))
        await asyncio.to_thread(talk, port1, port2)
        await one.close()
        await two.close()

    run(test)


def test_old_tls_is_not_spoken() -> None:
    assert server_context(PEM, PEM, protocols=("h2",)).minimum_version == ssl.TLSVersion.TLSv1_2
