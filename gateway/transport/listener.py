"""What HTTP/1 and HTTP/2 listeners share: the socket, the sweep timer, the drain.

Time is counted in ticks: one coarse timer per listener, no timer per connection or request and no clock read on the hot
path. A timeout is therefore late by up to one tick and never early.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeAlias

from gateway.transport.limits import ConnectionRegistry

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes on their way out or in; a memoryview is one-dimensional and of single bytes."""

BugReport: TypeAlias = Callable[[BaseException], None]
"""Hears an exception that a callback of the layer above should not have raised."""

_MAX_SWEEP_MS = 500


class Listener:
    """Owns one listening socket, its connections and their sweep timer."""

    def __init__(self, *, max_connections: int, timeouts_ms: tuple[int, ...], on_bug: BugReport | None) -> None:
        self.registry = ConnectionRegistry(max_connections)
        self.tick = 0
        self.buffered_bytes = 0
        self._on_bug = on_bug
        self._sweep_ms = max(5, min(_MAX_SWEEP_MS, min(timeouts_ms) // 4))
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def ticks(self, milliseconds: int) -> int:
        """Returns the number of sweeps after which `milliseconds` have surely passed."""
        return -(-milliseconds // self._sweep_ms) + 1

    def report_bug(self, error: BaseException) -> None:
        """Hands an unexpected exception of the layer above to whoever asked for it."""
        if self._on_bug is not None:
            self._on_bug(error)

    def connection(self) -> asyncio.Protocol:
        """Returns the protocol of one new connection."""
        raise NotImplementedError

    async def start(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        sock: socket.socket | None = None,
        backlog: int = 1024,
        reuse_port: bool = False,
    ) -> int:
        """Listens on `host`:`port` (0: any), or on `sock` where given, and returns the port.

        Raises OSError where the address cannot be had.
        """
        loop = self._loop = asyncio.get_running_loop()
        if sock is not None:
            self._server = await loop.create_server(self.connection, sock=sock, ssl=tls, backlog=backlog)
        else:
            self._server = await loop.create_server(
                self.connection, host, port, ssl=tls, backlog=backlog, reuse_port=reuse_port or None
            )
        self._timer = loop.call_later(self._sweep_ms / 1000, self._sweep)
        return int(self._server.sockets[0].getsockname()[1])

    def _sweep(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(self._sweep_ms / 1000, self._sweep)
        self.tick += 1
        self.registry.sweep(self.tick)

    def stop_accepting(self) -> None:
        """Closes the listening socket; open connections go on."""
        if self._server is not None:
            self._server.close()

    def drain(self) -> None:
        """Stops accepting and lets every connection finish what it began."""
        self.stop_accepting()
        self.registry.drain()

    async def wait_drained(self) -> None:
        """Returns when the last connection is gone. The caller bounds the wait and then calls `close`."""
        await self.registry.wait_empty()

    async def close(self) -> None:
        """Closes the socket and all connections at once. May be called again."""
        self.stop_accepting()
        self.registry.abort_all()
        await self.registry.wait_empty()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
