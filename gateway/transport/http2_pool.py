"""A fixed number of HTTP/2 connections to one address, each re-made when it is lost.

Decides which connection a request takes (the least loaded) and when a lost one is made again: after 50 ms, doubling to
1 s while that fails, with jitter from the random source given.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias

from gateway.transport.http2_call import ClientStream, Http2ClientConfig, Http2Unavailable, ResultSink
from gateway.transport.http2_client import Http2Client
from gateway.transport.http2_session import Header
from gateway.transport.listener import Buffer, BugReport

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None], str], object]
"""Starts an owned task with a name, as the engine's task group does."""

_FIRST_DELAY = 0.050
_MAX_DELAY = 1.0


class Http2Pool:
    """Owns `size` connections to `host`:`port`. `on_change`, where set, is called after one came or went."""

    def __init__(
        self,
        host: str,
        port: int,
        size: int,
        *,
        spawn: Spawn,
        rng: random.Random,
        config: Http2ClientConfig | None = None,
        on_bug: BugReport | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._size = size
        self._spawn = spawn
        self._rng = rng
        self._config = config or Http2ClientConfig()
        self._on_bug = on_bug
        self._on_change = on_change
        self._clients: list[Http2Client] = []
        self._leaving: set[Http2Client] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._attempts = 0
        self._closed = False

    def start(self) -> None:
        """Begins connecting; returns at once. Called within the running loop."""
        for _ in range(self._size):
            self._attempt(0.0)

    @property
    def available(self) -> bool:
        """Whether `request` would find a connection now."""
        return any(client.available for client in self._clients)

    @property
    def connections(self) -> int:
        """Connections that take requests."""
        return len(self._clients)

    def request(self, headers: Iterable[Header], body: Buffer | Sequence[Buffer], sink: ResultSink) -> ClientStream:
        """Sends one request on the least loaded connection; see `Http2Client.request`. Raises Http2Unavailable."""
        best: Http2Client | None = None
        least = 1 << 62
        for client in self._clients:
            load = client.load
            if load < least and client.available:
                best = client
                least = load
        if best is None:
            raise Http2Unavailable("no connection")
        return best.request(headers, body, sink)

    def close(self) -> None:
        """Closes every connection; what is under way fails. May be called again."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for client in [*self._clients, *self._leaving]:
            client.close()

    def _attempt(self, delay: float) -> None:
        if not self._closed:
            self._spawn(self._connect(delay), f"http2-connect-{self._port}")

    async def _connect(self, delay: float) -> None:
        client = Http2Client(self._config, on_lost=self._lost, on_bug=self._on_bug)
        try:
            await client.connect(self._host, self._port)
        except OSError:  # TimeoutError is one
            connected = False
        else:
            connected = client.available  # not if the peer hung up at once
        if self._closed or not connected:
            client.close()
            self._retry(min(_MAX_DELAY, max(_FIRST_DELAY, 2 * delay)))
            return
        self._clients.append(client)
        self._changed()

    def _retry(self, delay: float) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def again() -> None:
            self._timers.discard(timer)
            self._attempt(delay)

        timer = loop.call_later(delay * self._rng.uniform(0.5, 1.0), again)
        self._timers.add(timer)

    def _lost(self, client: Http2Client) -> None:
        if client not in self._clients:
            return  # `_connect` sees that it is of no use
        self._clients.remove(client)
        self._leaving = {old for old in self._leaving if old.load}
        if client.load:
            self._leaving.add(client)
        self._changed()
        self._retry(_FIRST_DELAY)

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()
