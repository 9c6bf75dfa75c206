"""One HTTP/1.1 request as its handler sees it, and the way back to its peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from gateway.transport.http1_head import RequestHead
from gateway.transport.listener import Buffer


class HttpRequest:
    """One complete request. `headers` have lower-case names, repeats joined by b", "; they are shared: never change
    them. `path` and `query` are as sent, not decoded. `body` is whole."""

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(self, head: RequestHead, body: Buffer) -> None:
        self.method: bytes = head.method
        self.path: bytes = head.path
        self.query: bytes = head.query
        self.headers: dict[bytes, bytes] = head.headers
        self.body = body


class Answering(Protocol):
    """A connection as its exchanges see it."""

    @property
    def peer(self) -> object: ...

    def answer(self, exchange: HttpExchange, status: int, headers: bytes, chunks: Sequence[Buffer]) -> None: ...


class HttpExchange:
    """The way back to the peer of one request.

    `on_disconnect`, where set, is called at most once, if the peer leaves before the answer. The other attributes are
    the connection's.
    """

    __slots__ = ("connection", "head", "on_disconnect", "open", "ready")

    def __init__(self, connection: Answering, head: RequestHead) -> None:
        self.connection = connection
        self.head = head
        self.open = True
        self.ready: list[Buffer] | None = None
        self.on_disconnect: Callable[[], None] | None = None

    @property
    def peer(self) -> object:
        """The peer's address as the socket names it; None where it has none or has left."""
        return self.connection.peer

    def respond(self, status: int, headers: bytes, chunks: Sequence[Buffer]) -> None:
        """Answers: `headers` are complete lines without content-length and connection, `chunks` the body's pieces.

        The pieces must not change until they are sent. Never raises; without effect once answered or the peer left.
        """
        if self.open:
            self.open = False
            self.on_disconnect = None
            self.connection.answer(self, status, headers, chunks)


HttpHandler: TypeAlias = Callable[[HttpRequest, HttpExchange], None]
ErrorBody: TypeAlias = Callable[[int, str], bytes]
