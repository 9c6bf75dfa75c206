from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.engine.tasks import TaskGroup
from gateway.transport.http2 import ClientResult, Http2Pool, Http2Server, Http2Unavailable, ServerStream
from tests.gateway.transport.peers import RawServerProtocol, run, serving, until

REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/M"), (b":authority", b"x")]


def echo(stream: ServerStream) -> None:
    stream.respond([(b":status", b"200")], (stream.body,), [(b"t", b"1")])


class Results(list[ClientResult]):
    async def wait(self, count: int) -> None:
        await until(lambda: len(self) >= count)
        assert len(self) == count


def test_the_pool_spreads_loses_and_regains_connections() -> None:
    async def test() -> None:
        tasks = TaskGroup()
        held: list[ServerStream] = []
        server = Http2Server(held.append)
        changes: list[int] = []
        port = await server.start("127.0.0.1", 0)
        pool = Http2Pool(
            "127.0.0.1", port, 2, spawn=tasks.spawn, rng=random.Random(1), on_change=lambda: changes.append(1)
        )
        with pytest.raises(Http2Unavailable):
            pool.request(REQUEST, b"", lambda result: None)
        pool.start()
        await until(lambda: pool.connections == 2)
        results = Results()
        for _ in range(10):
            pool.request(REQUEST, b"", results.append)
        await until(lambda: len(held) == 10)
        assert sorted(client.load for client in pool._clients) == [5, 5]
        await server.close()
        await results.wait(10)
        assert not pool.available
        assert all(result.error for result in results)
        again = Http2Server(echo)
        await again.start("127.0.0.1", port)
        await until(lambda: pool.connections == 2)
        pool.request(REQUEST, b"back", results.append)
        await results.wait(11)
        assert results[10].body == b"back"
        assert len(changes) == 6
        pool.close()
        await until(lambda: pool.connections == 0)
        await again.close()
        await tasks.close()

    run(test)


def test_a_peer_that_hangs_up_at_once_is_tried_again_with_growing_delays() -> None:
    async def test() -> None:
        class HangUp(RawServerProtocol):
            def begin(self) -> None:
                self.transport.abort()

        attempts: list[str] = []
        tasks = TaskGroup()

        def spawn(coroutine: Coroutine[Any, Any, None], name: str) -> object:
            attempts.append(name)
            return tasks.spawn(coroutine, name)

        async with serving(HangUp) as port:
            pool = Http2Pool("127.0.0.1", port, 1, spawn=spawn, rng=random.Random(2))
            pool.start()
            await until(lambda: len(attempts) >= 4)
            pool.close()
            made = len(attempts)
            await tasks.close()
        assert len(attempts) == made

    run(test)
