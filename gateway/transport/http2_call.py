"""One request of an HTTP/2 client: its configuration, its result, and the handle to give it up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from gateway.transport.http2_session import Header
from gateway.transport.listener import Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2ClientConfig:
    """How a client connection behaves."""

    connect_timeout_ms: int = 5_000
    max_queued_requests: int = 4096
    """Requests waiting because the peer allows no more streams."""
    max_response_bytes: int = 256 * 1024 * 1024
    ping_interval_ms: int = 310_000
    """Silence after which a PING goes out while answers are due. gRPC servers tolerate one in 300 s and hang up on
    more; a vanished host is noticed much sooner, by TCP (`dead_peer_ms`)."""
    ping_timeout_ms: int = 10_000
    dead_peer_ms: int = 15_000
    """TCP gives the connection up after so long without an acknowledgement."""
    stream_window_bytes: int = 64 * 1024 * 1024
    connection_window_bytes: int = 256 * 1024 * 1024
    max_frame_bytes: int = 1024 * 1024


class Http2Unavailable(Exception):
    """The request was not accepted: nothing was sent and no sink will be called."""


class ClientResult:
    """What became of one request: `error` is None and headers, body and trailers are whole, or `error` says why not.

    `processed` is False where the peer surely did not act on the request, so that it may be sent again.
    """

    __slots__ = ("body", "error", "headers", "processed", "trailers")

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body: Buffer = b""
        self.trailers: dict[bytes, bytes] = {}
        self.error: str | None = None
        self.processed = True


ResultSink: TypeAlias = Callable[[ClientResult], None]


class Cancelling(Protocol):
    """A connection as its streams see it."""

    def cancelled(self, stream: ClientStream) -> None: ...


class ClientStream:
    """One request under way."""

    __slots__ = ("client", "large", "parts", "queued", "result", "sink", "size", "stream_id", "submitted_after")

    def __init__(self, client: Cancelling, sink: ResultSink) -> None:
        self.client: Cancelling | None = client
        self.sink: ResultSink | None = sink
        self.result = ClientResult()
        self.stream_id = 0
        self.submitted_after = 0
        self.parts: list[bytes] | None = None
        self.size = 0
        self.large = False
        self.queued: tuple[Iterable[Header], Sequence[Buffer]] | None = None

    def cancel(self) -> None:
        """Gives the request up: the sink will not be called. Harmless when it is over."""
        client = self.client
        if client is not None:
            self.client = None
            self.sink = None
            client.cancelled(self)
