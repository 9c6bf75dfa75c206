"""One HTTP/2 request as its handler sees it, and the way back to its peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from gateway.transport.http2_session import Header
from gateway.transport.listener import Buffer


class Answering(Protocol):
    """A connection as its streams see it. No method raises."""

    @property
    def peer(self) -> object: ...

    def respond(
        self, stream_id: int, headers: Iterable[Header], chunks: Sequence[Buffer], trailers: Iterable[Header]
    ) -> None: ...

    def respond_headers_only(self, stream_id: int, headers: Iterable[Header]) -> None: ...

    def reset(self, stream_id: int, error_code: int) -> None: ...


class ServerStream:
    """One request and the way back to its peer.

    `headers` has the last value of each name, `raw_headers` all of them in order, pseudo-headers included. `body` is
    whole. `on_reset`, where set, is called at most once, if the peer gives the stream up before the answer.
    The other attributes are the connection's.
    """

    __slots__ = ("body", "connection", "headers", "on_reset", "parts", "raw_headers", "size", "stream_id", "tick")

    def __init__(self, connection: Answering, stream_id: int, headers: tuple[Header, ...], tick: int) -> None:
        self.connection: Answering | None = connection
        self.stream_id = stream_id
        self.raw_headers = headers
        self.headers: dict[bytes, bytes] = dict(headers)
        self.body: Buffer = b""
        self.on_reset: Callable[[], None] | None = None
        self.parts: list[bytes | bytearray] | None = None
        self.size = 0
        self.tick = tick

    @property
    def peer(self) -> object:
        """The peer's address as the socket names it; None once the stream has ended."""
        return self.connection.peer if self.connection is not None else None

    def respond(self, headers: Iterable[Header], chunks: Sequence[Buffer], trailers: Iterable[Header]) -> None:
        """Answers with headers, the body's pieces and trailers. Never raises; without effect once the stream ended.

        The pieces must not change until they are sent.
        """
        connection = self.connection
        if connection is not None:
            self.connection = None
            self.on_reset = None
            connection.respond(self.stream_id, headers, chunks, trailers)

    def respond_trailers_only(self, headers: Iterable[Header]) -> None:
        """Answers with one block of headers and nothing else, as gRPC does for failures. Never raises."""
        connection = self.connection
        if connection is not None:
            self.connection = None
            self.on_reset = None
            connection.respond_headers_only(self.stream_id, headers)

    def reset(self, error_code: int) -> None:
        """Gives the stream up with an HTTP/2 error code instead of an answer. Never raises."""
        connection = self.connection
        if connection is not None:
            self.connection = None
            self.on_reset = None
            connection.reset(self.stream_id, error_code)


Http2Handler: TypeAlias = Callable[[ServerStream], None]
