"""HTTP/2 server: the listener. What a connection guarantees is written in `http2_connection`."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from gateway.transport.http2_connection import Http2Connection
from gateway.transport.http2_session import CANCEL
from gateway.transport.http2_stream import Http2Handler, ServerStream
from gateway.transport.limits import Http2Limits
from gateway.transport.listener import BugReport, Listener


def _reset_too_large(stream: ServerStream) -> None:
    stream.reset(CANCEL)


class Http2Server(Listener):
    """An HTTP/2 listener (prior knowledge, or TLS with ALPN). `handler` is called once per request, inside the read.

    `on_body_too_large` answers a stream whose body passed the limit, usually trailers-only; the rest is ignored.
    With `known_paths` a request for any other path is handed over as soon as its head is there, without a body, and
    must be answered within the call.
    """

    def __init__(
        self,
        handler: Http2Handler,
        *,
        limits: Http2Limits | None = None,
        on_body_too_large: Http2Handler = _reset_too_large,
        known_paths: Container[bytes] | None = None,
        on_bug: BugReport | None = None,
    ) -> None:
        limits = limits or Http2Limits()
        super().__init__(
            max_connections=limits.max_connections,
            timeouts_ms=(limits.header_timeout_ms, limits.body_timeout_ms, limits.idle_timeout_ms),
            on_bug=on_bug,
        )
        self.handler = handler
        self.on_body_too_large = on_body_too_large
        self.known_paths = known_paths
        self.limits = limits

    def connection(self) -> asyncio.Protocol:
        return Http2Connection(self, self.handler, self.on_body_too_large, self.limits, self.known_paths)
