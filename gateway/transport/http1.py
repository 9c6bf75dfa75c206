"""HTTP/1.1 server: the listener and the names that the layers above use.

Invariants: every request handed to the handler is answered at most once and answering is always harmless, also after
the peer left; answers leave in the order of the requests; input that is refused is answered and ends its connection
only. A peer that closes its side has left: what it asked for is withdrawn.
"""

from __future__ import annotations

import asyncio
import json

from gateway.transport.http1_connection import Http1Connection
from gateway.transport.http1_exchange import ErrorBody, HttpExchange, HttpHandler, HttpRequest
from gateway.transport.http1_head import HeadParser
from gateway.transport.limits import Http1Limits
from gateway.transport.listener import BugReport, Listener

__all__ = ["Http1Limits", "Http1Server", "HttpExchange", "HttpHandler", "HttpRequest"]


def _json_error(status: int, message: str) -> bytes:
    return json.dumps({"error": message}).encode()


class Http1Server(Listener):
    """An HTTP/1.1 listener. `handler` is called once per request, inside the read; it must not raise.

    `error_body(status, message)` makes the JSON body of the answers this layer gives itself.
    """

    def __init__(
        self,
        handler: HttpHandler,
        *,
        limits: Http1Limits | None = None,
        error_body: ErrorBody = _json_error,
        on_bug: BugReport | None = None,
    ) -> None:
        limits = limits or Http1Limits()
        super().__init__(
            max_connections=limits.max_connections,
            timeouts_ms=(limits.header_timeout_ms, limits.body_timeout_ms, limits.idle_timeout_ms),
            on_bug=on_bug,
        )
        self.handler = handler
        self.limits = limits
        self.error_body = error_body
        self.heads = HeadParser(
            max_header_count=limits.max_header_count,
            memo_entries=limits.memo_entries,
            max_body_bytes=limits.max_body_bytes,
        )

    def connection(self) -> asyncio.Protocol:
        return Http1Connection(self, self.handler, limits=self.limits, heads=self.heads, error_body=self.error_body)
