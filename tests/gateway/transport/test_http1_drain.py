"""Draining: a peer that is just sending its next request must not lose it to a close."""

from __future__ import annotations

import asyncio

from gateway.transport.http1 import Http1Limits, Http1Server, HttpExchange, HttpRequest
from tests.gateway.transport.peers import listening, run, until

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def echo(request: HttpRequest, exchange: HttpExchange) -> None:
    exchange.respond(200, b"", (request.path,))


def test_an_idle_connection_may_still_ask_while_draining_and_is_told_to_close() -> None:
    async def test() -> None:
        server = Http1Server(echo)
        async with listening(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            first = await reader.readuntil(b"\r\n\r\n/")
            assert b"connection: close" not in first
            server.drain()
            writer.write(GET)
            last = await reader.read()
            assert last.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close\r\n" in last
            writer.close()
            await writer.wait_closed()
            await server.wait_drained()

    run(test)


def test_an_idle_connection_is_closed_a_while_after_the_drain_began() -> None:
    async def test() -> None:
        server = Http1Server(echo, limits=Http1Limits(header_timeout_ms=20_000, body_timeout_ms=20_000))
        async with listening(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: len(server.registry) == 1)
            server.drain()
            tick = server.tick
            assert await reader.read() == b""
            assert server.tick - tick >= server.ticks(1_000), "closed at once"
            writer.close()
            await writer.wait_closed()
            await server.wait_drained()

    run(test)
