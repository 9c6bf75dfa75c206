"""The channel's promise to Triton: an execution under way is not reset and has no deadline on the wire."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.backends.triton_channel import Outcome, TritonChannel
from gateway.engine.tasks import TaskGroup
from gateway.errors import GatewayError
from gateway.ports import Cancellable
from gateway.transport.http2 import Http2Limits, Http2Server, ServerStream
from gateway.wire.grpc_frames import frame
from tests.gateway.transport.peers import listening, run, until

OK = [(b":status", b"200"), (b"content-type", b"application/grpc")]
MOST = 64
"""Calls that were given up and stay open."""


class Slow:
    """A server that answers when it is told to."""

    def __init__(self) -> None:
        self.held: list[ServerStream] = []
        self.resets: list[bytes] = []
        self.server = Http2Server(self.take, limits=Http2Limits(max_concurrent_streams=1000))

    def take(self, stream: ServerStream) -> None:
        self.held.append(stream)
        body = bytes(stream.body)[5:]
        stream.on_reset = lambda: self.resets.append(body)

    def answer(self, index: int) -> None:
        stream = self.held[index]
        stream.respond(OK, (stream.body,), [(b"grpc-status", b"0")])


@asynccontextmanager
async def connected(slow: Slow) -> AsyncIterator[TritonChannel]:
    tasks = TaskGroup()
    async with listening(slow.server) as port:
        channel = TritonChannel(
            f"127.0.0.1:{port}", 1, spawn=tasks.spawn, rng=random.Random(1), on_bug=lambda error: None,
            on_change=lambda: None,
        )  # fmt: skip
        channel.start()
        await until(lambda: channel.available)
        try:
            yield channel
        finally:
            channel.close()
            await tasks.close()


def test_an_execution_that_nobody_waits_for_is_not_reset_and_its_answer_is_thrown_away() -> None:
    async def test() -> None:
        slow, heard = Slow(), list[Outcome]()
        async with connected(slow) as channel:
            left = channel.execute(frame(b"left"), heard.append)
            channel.execute(frame(b"stays"), heard.append)
            await until(lambda: len(slow.held) == 2)
            left.cancel()
            left.cancel()
            slow.answer(0)
            slow.answer(1)
            await until(lambda: len(heard) == 1)
            left.cancel()
            channel.execute(frame(b"after"), heard.append)
            await until(lambda: len(slow.held) == 3)
            slow.answer(2)
            await until(lambda: len(heard) == 2)
            assert [bytes(outcome) for outcome in heard if not isinstance(outcome, Exception)] == [b"stays", b"after"]
            assert slow.resets == []
            assert not channel._unheard

    run(test)


def test_executions_have_no_deadline_on_the_wire_other_calls_do() -> None:
    async def test() -> None:
        slow, heard = Slow(), list[Outcome]()
        async with connected(slow) as channel:
            channel.execute(frame(b"1"), heard.append)
            channel.call(b"ServerReady", frame(b"2"), 10**9, heard.append)
            await until(lambda: len(slow.held) == 2)
            with_deadline = [b"grpc-timeout" in dict(stream.headers) for stream in slow.held]
            assert with_deadline == [False, True]

    run(test)


def test_executions_that_nobody_waits_for_are_bounded() -> None:
    async def test() -> None:
        slow, heard = Slow(), list[Outcome]()
        async with connected(slow) as channel:
            calls: list[Cancellable] = [channel.execute(frame(b"%d" % i), heard.append) for i in range(MOST + 3)]
            await until(lambda: len(slow.held) == MOST + 3)
            for call in calls:
                call.cancel()
            await until(lambda: len(slow.resets) == 3)
            assert slow.resets == [b"0", b"1", b"2"]
            assert not heard

    run(test)


def test_that_triton_has_done_with_an_execution_is_told_once_and_only_if_it_is_sure() -> None:
    async def test() -> None:
        slow, ends, heard = Slow(), list[str](), list[Outcome]()
        async with connected(slow) as channel:
            left = channel.execute(frame(b"left"), heard.append, lambda: ends.append("left"))
            channel.execute(frame(b"stays"), lambda outcome: ends.append("heard"), lambda: ends.append("stays"))
            channel.execute(frame(b"cut"), heard.append, lambda: ends.append("cut"))
            await until(lambda: len(slow.held) == 3)
            left.cancel()
            assert ends == []
            slow.answer(0)
            await until(lambda: ends == ["left"])
            slow.answer(1)
            await until(lambda: len(ends) == 3)
            assert ends == ["left", "stays", "heard"], "before the outcome"
        await until(lambda: len(heard) == 1)
        assert isinstance(heard[0], GatewayError)
        assert ends == ["left", "stays", "heard"], "nobody knows what became of the last one"

    run(test)
