"""What a listener tolerates from its peers, and the set of connections it has open.

Every limit has a safe default and its unit in its name. A limit of a connection is enforced by that connection; the
number of connections, the sweep over them and the drain are the `ConnectionRegistry`'s.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Http1Limits:
    """Limits of an HTTP/1.1 listener."""

    max_header_bytes: int = 16 * 1024
    max_header_count: int = 100
    max_body_bytes: int = 64 * 1024 * 1024
    header_timeout_ms: int = 10_000
    """From accept, or from a request's first byte, to its complete head."""
    body_timeout_ms: int = 30_000
    """From the complete head to the complete body; also how long a peer may refuse to read what it was sent."""
    idle_timeout_ms: int = 75_000
    max_connections: int = 1024
    max_pipelined_requests: int = 64
    """Requests of one connection being answered at a time; beyond it the connection is not read."""
    max_buffered_bytes: int = 1024 * 1024 * 1024
    """Incomplete bodies of all connections together."""
    memo_entries: int = 4096
    """Request heads remembered with their parse; 0 turns the memo off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """Limits of an HTTP/2 listener."""

    max_header_bytes: int = 16 * 1024
    max_header_count: int = 100
    max_body_bytes: int = 64 * 1024 * 1024
    header_timeout_ms: int = 10_000
    """From accept to the first complete frame, and from a frame's first byte to its end where no stream is open."""
    body_timeout_ms: int = 30_000
    """From the head of a request to its end; also how long a peer may refuse to read what it was sent."""
    idle_timeout_ms: int = 300_000
    max_connections: int = 1024
    max_concurrent_streams: int = 1024
    max_buffered_bytes: int = 256 * 1024 * 1024
    """Per connection: incomplete request bodies, and separately answers the peer does not take."""
    max_total_buffered_bytes: int = 1024 * 1024 * 1024
    """Incomplete request bodies of all connections together."""
    stream_window_bytes: int = 16 * 1024 * 1024
    connection_window_bytes: int = 64 * 1024 * 1024
    max_frame_bytes: int = 1024 * 1024


class SweptConnection(Protocol):
    """A connection as its registry sees it. None of the methods may raise."""

    def sweep(self, tick: int) -> None:
        """Enforces the timeouts; `tick` counts the listener's sweeps."""
        ...

    def drain(self) -> None:
        """Finishes what was begun, then closes; closes at once when idle."""
        ...

    def abort(self) -> None:
        """Closes now, losing what was not sent."""
        ...


class ConnectionRegistry:
    """Owns the open connections of one listener: the limit on their number, close-all, drain."""

    def __init__(self, max_connections: int) -> None:
        self._max = max_connections
        self._open: set[SweptConnection] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def draining(self) -> bool:
        return self._draining

    def admit(self, connection: SweptConnection) -> bool:
        """Returns whether `connection` may stay; if so it is registered until `remove`."""
        if len(self._open) >= self._max or self._draining:
            return False
        self._open.add(connection)
        return True

    def remove(self, connection: SweptConnection) -> None:
        """Forgets `connection`; harmless if it was never admitted."""
        self._open.discard(connection)
        if not self._open:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def sweep(self, tick: int) -> None:
        for connection in list(self._open):
            connection.sweep(tick)

    def drain(self) -> None:
        """Refuses new connections and lets every open one finish."""
        self._draining = True
        for connection in list(self._open):
            connection.drain()

    def abort_all(self) -> None:
        self._draining = True
        for connection in list(self._open):
            connection.abort()

    async def wait_empty(self) -> None:
        """Returns when no connection is open. The caller bounds the wait."""
        if not self._open:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter
