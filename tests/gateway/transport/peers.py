"""Peers for the transports under test: an in-memory transport, and raw sockets on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from gateway.transport.listener import Listener

BOUND = 20.0
"""Seconds after which a wait in a test has failed."""


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs `test` on uvloop, bounded in time."""

    async def bounded() -> None:
        async with asyncio.timeout(BOUND):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@asynccontextmanager
async def listening(server: Listener) -> AsyncIterator[int]:
    """Yields the port that `server` listens on; afterwards it is closed."""
    port = await server.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await server.close()


async def converse(port: int, *pieces: bytes) -> bytes:
    """Sends `pieces` and returns everything received until the peer closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for piece in pieces:
            writer.write(piece)
        while data := await reader.read(65536):
            received += data
    except ConnectionError:
        pass
    finally:
        writer.close()
    return received


async def until(condition: Callable[[], bool]) -> None:
    """Returns when `condition` holds, looking at it once per turn of the loop; the test's bound ends it."""
    loop = asyncio.get_running_loop()
    while not condition():
        turn = loop.create_future()
        loop.call_later(0.002, turn.set_result, None)
        await turn


class MemoryTransport(asyncio.Transport):
    """Collects what a protocol writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.closed = False
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class RawServerProtocol(asyncio.Protocol):
    """The server's side of a scripted connection; subclasses say what it does wrong."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.begin()

    def begin(self) -> None: ...


@asynccontextmanager
async def serving(factory: Callable[[], RawServerProtocol]) -> AsyncIterator[int]:
    """Yields the port of a server of `factory`'s protocols; afterwards all its connections are gone."""
    made: list[RawServerProtocol] = []
    lost: list[object] = []

    def make() -> RawServerProtocol:
        protocol = factory()
        made.append(protocol)
        protocol.connection_lost = lost.append  # type: ignore[method-assign]
        return protocol

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for protocol in made:
            protocol.transport.abort()
        await until(lambda: len(lost) == len(made))
