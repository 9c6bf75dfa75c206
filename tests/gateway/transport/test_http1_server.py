from __future__ import annotations

import asyncio
import http.client
import random

import pytest

from gateway.transport.http1 import Http1Limits, Http1Server, HttpExchange, HttpRequest
from gateway.transport.http1_connection import Http1Connection
from tests.gateway.transport.peers import converse, listening, run, until

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def echo(request: HttpRequest, exchange: HttpExchange) -> None:
    exchange.respond(200, b"x-path: " + request.path + b"\r\n", (request.body,))


class Held:
    """A handler that answers when told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[HttpRequest, HttpExchange]] = []
        self.gone: list[bytes] = []

    def __call__(self, request: HttpRequest, exchange: HttpExchange) -> None:
        self.requests.append((request, exchange))
        exchange.on_disconnect = lambda: self.gone.append(request.path)

    def answer(self, index: int, body: bytes | None = None) -> None:
        request, exchange = self.requests[index]
        exchange.respond(200, b"", (request.path if body is None else body,))


def test_an_ordinary_client_on_a_kept_connection() -> None:
    async def test() -> None:
        async with listening(Http1Server(echo)) as port:

            def talk() -> None:
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                for size in (0, 1, 1000, 70_000, 3_000_000):
                    body = random.Random(size).randbytes(size)
                    client.request("POST", "/p?q", body)
                    answer = client.getresponse()
                    assert (answer.status, answer.read(), answer.getheader("x-path")) == (200, body, "/p")
                client.request("POST", "/", iter([b"ab", b"cd"]), encode_chunked=True)
                assert client.getresponse().read() == b"abcd"
                client.request("HEAD", "/")
                assert client.getresponse().read() == b""
                client.close()

            await asyncio.to_thread(talk)

    run(test)


def test_a_body_too_large_is_answered_although_the_client_sends_it_all() -> None:
    async def test() -> None:
        async with listening(Http1Server(echo, limits=Http1Limits(max_body_bytes=1000))) as port:

            def talk() -> None:
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                client.request("POST", "/", b"x" * 4_000_000)
                answer = client.getresponse()
                assert (answer.status, answer.read()) == (413, b'{"error": "request body larger than 1000 bytes"}')
                client.close()

            await asyncio.to_thread(talk)

    run(test)


def test_a_client_that_expects_100_gets_it_before_it_sends() -> None:
    async def test() -> None:
        async with listening(Http1Server(echo)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = b"POST /e HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
            for _ in range(2):
                writer.write(head)
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(b"abc")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\nx-path: /e\r\n")
                assert await reader.readexactly(3) == b"abc"
            writer.close()

    run(test)


def test_pipelined_answers_leave_in_the_order_of_the_requests() -> None:
    async def test() -> None:
        held = Held()
        async with listening(Http1Server(held)) as port:
            requests = b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % i for i in range(5)) + LAST
            talk = asyncio.ensure_future(converse(port, requests))  # noqa: TID251
            await until(lambda: len(held.requests) == 6)
            for index in (5, 3, 1, 0, 4, 2):
                held.answer(index)
            parts = (await talk).split(b"\r\n\r\n")[1:]
            assert [part.partition(b"HTTP")[0] for part in parts] == [b"/0", b"/1", b"/2", b"/3", b"/4", b"/last"]

    run(test)


def test_no_more_requests_are_in_flight_than_allowed_and_all_are_answered() -> None:
    async def test() -> None:
        held = Held()
        async with listening(Http1Server(held, limits=Http1Limits(max_pipelined_requests=4))) as port:
            talk = asyncio.ensure_future(converse(port, GET * 50 + LAST))  # noqa: TID251
            for answered in range(51):
                await until(lambda wanted=answered + 1: len(held.requests) >= wanted)
                assert len(held.requests) - answered <= 4
                held.answer(answered)
            assert (await talk).count(b"HTTP/1.1 200 OK") == 51

    run(test)


def test_answers_that_wait_for_an_earlier_one_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a megabyte of them the connection is not read, and not looked at again, until the earlier one is sent."""
    turns = []
    unblock = Http1Connection._unblock
    monkeypatch.setattr(Http1Connection, "_unblock", lambda self: (turns.append(1), unblock(self)))

    async def test() -> None:
        held = Held()

        def handle(request: HttpRequest, exchange: HttpExchange) -> None:
            held(request, exchange)
            if request.path == b"/":
                held.answer(-1, bytes(300_000))

        async with listening(Http1Server(handle)) as port:
            talk = asyncio.ensure_future(converse(port, b"GET /first" + GET[5:] + GET * 50 + LAST))  # noqa: TID251
            await until(lambda: len(held.requests) > 4)
            begun = len(held.requests)
            for _ in range(20):
                await asyncio.to_thread(int)
            assert begun == len(held.requests) <= 6
            assert not turns
            held.answer(0)
            await until(lambda: held.requests[-1][0].path == b"/last")
            held.answer(-1)
            assert (await talk).count(b"HTTP/1.1 200 OK") == 52

    run(test)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nhost", b"HTTP/1.1 408"),
        (GET + b"GET", b"HTTP/1.1 200 OK"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc", b"HTTP/1.1 408"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", b"HTTP/1.1 408"),
        (GET, b"HTTP/1.1 200 OK"),
    ],
    ids=["nothing", "half a head", "half a second head", "half a body", "half a chunk", "idle"],
)
def test_who_does_not_go_on_is_sent_away(sent: bytes, expected: bytes) -> None:
    async def test() -> None:
        limits = Http1Limits(header_timeout_ms=30, body_timeout_ms=30, idle_timeout_ms=30)
        server = Http1Server(echo, limits=limits)
        async with listening(server) as port:
            received = await converse(port, sent)
            assert received.startswith(expected)
            assert received.count(b" 408 ") == (1 if b"408" in expected or sent.endswith(b"GET") else 0)
            await until(lambda: len(server.registry) == 0)
            assert server.buffered_bytes == 0

    run(test)


def test_a_slow_handler_is_not_a_slow_client() -> None:
    async def test() -> None:
        held = Held()
        limits = Http1Limits(header_timeout_ms=20, body_timeout_ms=20, idle_timeout_ms=20)
        server = Http1Server(held, limits=limits)
        async with listening(server) as port:
            talk = asyncio.ensure_future(converse(port, LAST))  # noqa: TID251
            await until(lambda: server.tick > 20)
            held.answer(0)
            assert (await talk).endswith(b"/last")

    run(test)


def test_who_leaves_is_withdrawn_and_answering_him_is_harmless() -> None:
    async def test() -> None:
        held = Held()
        bugs: list[BaseException] = []
        server = Http1Server(held, on_bug=bugs.append)
        async with listening(server) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n")
            await until(lambda: len(held.requests) == 2)
            held.answer(1)
            writer.close()
            await until(lambda: bool(held.gone))
            assert held.gone == [b"/a"]
            held.answer(0)
            held.answer(1)
            assert len(server.registry) == 0
            assert held.requests[0][1].peer is None
            assert bugs == []

    run(test)


def test_a_handler_that_raises_costs_its_own_request_only() -> None:
    async def test() -> None:
        bugs: list[BaseException] = []

        def handle(request: HttpRequest, exchange: HttpExchange) -> None:
            if request.path == b"/bad":
                raise RuntimeError("bug")
            echo(request, exchange)

        async with listening(Http1Server(handle, on_bug=bugs.append)) as port:
            received = await converse(port, b"GET /bad HTTP/1.1\r\nhost: x\r\n\r\n" + LAST)
            assert received.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
            assert b"x-path: /last" in received
            assert [str(bug) for bug in bugs] == ["bug"]

    run(test)


def test_drain_closes_idle_connections_and_finishes_the_others() -> None:
    async def test() -> None:
        held = Held()
        server = Http1Server(held)
        async with listening(server) as port:
            idle = await asyncio.open_connection("127.0.0.1", port)
            busy = asyncio.ensure_future(converse(port, GET + GET))  # noqa: TID251
            await until(lambda: len(held.requests) == 2 and len(server.registry) == 2)
            server.drain()
            assert await idle[0].read() == b""
            idle[1].close()
            held.answer(0, b"one")
            held.answer(1, b"two")
            received = await busy
            assert received.index(b"one") < received.index(b"connection: close") < received.index(b"two")
            await server.wait_drained()

    run(test)


def test_connections_beyond_the_limit_are_refused_and_make_room_when_they_leave() -> None:
    async def test() -> None:
        server = Http1Server(echo, limits=Http1Limits(max_connections=1))
        async with listening(server) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: len(server.registry) == 1)
            assert (await converse(port)).startswith(b"HTTP/1.1 503 ")
            writer.close()
            await until(lambda: len(server.registry) == 0)
            assert b"x-path: /last" in await converse(port, LAST)

    run(test)


def test_who_does_not_read_is_no_longer_read_and_in_the_end_cut_off() -> None:
    async def test() -> None:
        answered = 0

        def handle(request: HttpRequest, exchange: HttpExchange) -> None:
            nonlocal answered
            answered += 1
            exchange.respond(200, b"", (bytes(1_000_000),))

        server = Http1Server(handle, limits=Http1Limits(body_timeout_ms=50))
        async with listening(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
            writer.write(GET * 10_000)
            await until(lambda: answered > 0 and len(server.registry) == 0)
            assert answered < 200
            writer.close()
            del reader

    run(test)


def test_bodies_in_transfer_are_bounded_over_all_connections() -> None:
    async def test() -> None:
        server = Http1Server(echo, limits=Http1Limits(max_buffered_bytes=100_000))
        async with listening(server) as port:
            head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n"
            _, first = await asyncio.open_connection("127.0.0.1", port)
            first.write(head + bytes(80_000))
            await until(lambda: server.buffered_bytes == 80_000)
            assert (await converse(port, head + bytes(80_000))).startswith(b"HTTP/1.1 503 ")
            assert server.buffered_bytes == 80_000
            first.close()
            await until(lambda: server.buffered_bytes == 0)

    run(test)


def test_garbage_does_not_harm_the_neighbour() -> None:
    async def test() -> None:
        rng = random.Random(7)
        bugs: list[BaseException] = []
        server = Http1Server(echo, on_bug=bugs.append, limits=Http1Limits(header_timeout_ms=100))
        async with listening(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(50):
                await converse(port, rng.randbytes(rng.randrange(200)) + b"\n\n")
                writer.write(GET)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
            writer.close()
            assert bugs == []

    run(test)
