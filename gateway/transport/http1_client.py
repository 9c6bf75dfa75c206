"""HTTP/1.1 client connections on httptools: whole requests out, whole answers in, one at a time on a connection.

Made for load generation: request bytes are ready-made, nothing is retried. Invariants: a sink is called exactly once
per accepted request, never from within `request`; requests that find no free connection wait in order of arrival.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias, cast

import httptools

from gateway.transport.listener import Buffer

Http1Sink: TypeAlias = Callable[[int, dict[bytes, bytes], bytes, str | None], None]
"""Gets status, headers (lower case), body, and None or what went wrong (status is then 0)."""

_RECONNECT_SECONDS = 0.1


class Http1Client(asyncio.Protocol):
    """One connection of a pool."""

    def __init__(self, pool: Http1Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._sink: Http1Sink | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def send(self, pieces: Sequence[Buffer], sink: Http1Sink) -> None:
        """Sends one request; the connection must be free."""
        assert self._transport is not None
        assert self._sink is None
        self._sink = sink
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the base class
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        sink, self._sink = self._sink, None
        if sink is not None:
            sink(0, {}, b"", "connection lost")
        self._pool.lost(self)

    # Called by httptools.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        headers, self._headers = self._headers, {}
        pieces, self._body = self._body, []
        sink, self._sink = self._sink, None
        if status == 100:  # "go on": the answer is still to come
            self._sink = sink
            return
        if sink is None:
            self.close()  # an answer nobody asked for
            return
        sink(status, headers, pieces[0] if len(pieces) == 1 else b"".join(pieces), None)
        if keep:
            self._pool.freed(self)
        else:
            self.close()


class Http1Pool:
    """`size` connections to one address, each made anew 100 ms after it was lost."""

    def __init__(self, host: str, port: int, size: int, spawn: Callable[[Coroutine[Any, Any, None], str], object]):
        self._host, self._port, self._size = host, port, size
        self._spawn = spawn
        self._free: list[Http1Client] = []
        self._all: set[Http1Client] = set()
        self._waiting: deque[tuple[Sequence[Buffer], Http1Sink]] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._closed = False
        self.most_waiting = 0
        """Most requests that ever waited for a free connection."""

    async def open(self) -> None:
        """Makes every connection. Raises OSError when one cannot be made."""
        for _ in range(self._size):
            await self._connect()

    def request(self, pieces: Sequence[Buffer], sink: Http1Sink) -> None:
        """Sends one request (head and body, ready-made) on a free connection, or when one is free."""
        if self._free:
            self._free.pop().send(pieces, sink)
            return
        self._waiting.append((pieces, sink))
        if len(self._waiting) > self.most_waiting:
            self.most_waiting = len(self._waiting)

    def close(self) -> None:
        """Closes every connection. What waits is dropped, what is under way fails."""
        self._closed = True
        self._waiting.clear()
        for timer in self._timers:
            timer.cancel()
        for client in list(self._all):
            client.close()

    def freed(self, client: Http1Client) -> None:
        """Called by a connection that may take the next request."""
        if self._waiting and not self._closed:
            client.send(*self._waiting.popleft())
        else:
            self._free.append(client)

    def lost(self, client: Http1Client) -> None:
        """Called by a connection that is gone."""
        self._all.discard(client)
        if client in self._free:
            self._free.remove(client)
        if self._closed:
            return
        timer: asyncio.TimerHandle

        def again() -> None:
            self._timers.discard(timer)
            self._spawn(self._reconnect(), f"http1-connect-{self._port}")

        timer = asyncio.get_running_loop().call_later(_RECONNECT_SECONDS, again)
        self._timers.add(timer)

    async def _connect(self) -> None:
        client = Http1Client(self)
        await asyncio.get_running_loop().create_connection(lambda: client, self._host, self._port)
        self._all.add(client)
        if self._closed:
            client.close()
        else:
            self.freed(client)

    async def _reconnect(self) -> None:
        try:
            await self._connect()
        except OSError:
            self.lost(Http1Client(self))
