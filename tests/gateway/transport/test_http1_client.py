"""The HTTP/1.1 client against scripted servers on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.engine.tasks import TaskGroup
from gateway.transport.http1_client import Http1Pool

Answer = tuple[int, dict[bytes, bytes], bytes, str | None]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Kind: a\r\n\r\nhi"


async def talk(serve: Serve, size: int, use: Callable[[Http1Pool], Awaitable[Any]]) -> Any:
    tasks = TaskGroup()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    pool = Http1Pool("127.0.0.1", server.sockets[0].getsockname()[1], size, tasks.spawn)
    try:
        async with asyncio.timeout(20):
            await pool.open()
            return await use(pool)
    finally:
        pool.close()
        server.close()
        await server.wait_closed()
        await tasks.close()


def ask(pool: Http1Pool, request: tuple[bytes, ...] = GET) -> asyncio.Future[Answer]:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    pool.request(request, lambda *answer: answered.set_result(answer))
    return answered


async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        writer.write(OK)


def test_answers_come_whole_and_connections_are_used_again() -> None:
    async def use(pool: Http1Pool) -> list[Answer]:
        return [await ask(pool) for _ in range(3)]

    answers = asyncio.run(talk(forever, 1, use))
    assert answers == [(200, {b"content-length": b"2", b"x-kind": b"a"}, b"hi", None)] * 3


def test_requests_wait_in_order_for_a_free_connection() -> None:
    async def use(pool: Http1Pool) -> tuple[list[int], int]:
        order: list[int] = []
        futures = [ask(pool) for _ in range(5)]
        for index, future in enumerate(futures):
            future.add_done_callback(lambda _, index=index: order.append(index))
        await asyncio.gather(*futures)
        return order, pool.most_waiting

    order, waiting = asyncio.run(talk(forever, 1, use))
    assert order == [0, 1, 2, 3, 4]
    assert waiting == 4


def test_a_body_in_pieces_and_an_interim_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(6) == b"abcdef"
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")

    async def use(pool: Http1Pool) -> Answer:
        return await ask(pool, (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n", b"abcdef"))

    status, _, body, error = asyncio.run(talk(serve, 1, use))
    assert (status, body, error) == (200, b"abcdef", None)


def test_a_lost_connection_fails_its_request_and_is_made_again() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await reader.readuntil(b"\r\n\r\n")
            return
        await forever(reader, writer)

    async def use(pool: Http1Pool) -> tuple[Answer, Answer]:
        return await ask(pool), await ask(pool)

    lost, again = asyncio.run(talk(serve, 1, use))
    assert lost == (0, {}, b"", "connection lost")
    assert again[0] == 200


def test_nonsense_is_a_lost_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"what?\r\n\r\n")

    async def use(pool: Http1Pool) -> Answer:
        return await ask(pool)

    assert asyncio.run(talk(serve, 1, use))[3] == "connection lost"


def test_a_server_that_closes_after_its_answer_is_connected_again() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    async def use(pool: Http1Pool) -> list[int]:
        return [(await ask(pool))[0] for _ in range(2)]

    assert asyncio.run(talk(serve, 1, use)) == [200, 200]
