"""One HTTP/2 client connection on ngh2: whole requests out, whole answers in.

Invariants: a sink is called exactly once per accepted request unless the request was cancelled first; a sink that raises
harms nobody; `ClientResult.processed` is False only where the peer surely did not act on the request.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataReceived,
    GoAwayReceived,
    NGH2Error,
    ResponseReceived,
    Role,
    Setting,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
)

from gateway.transport.listener import Buffer, BugReport

Header: TypeAlias = tuple[bytes, bytes]

_CANCEL = 8
_REFUSED_STREAM = 7
_WRITE_BYTES = 1024 * 1024
_WRITES_PER_TURN = 8
_SMALL_BODY_BYTES = 48 * 1024


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


class ClientStream:
    """One request under way."""

    __slots__ = ("_client", "_parts", "_queued", "_size", "result", "sink", "stream_id", "turn")

    def __init__(self, client: Http2Client, sink: ResultSink) -> None:
        self._client: Http2Client | None = client
        self.sink: ResultSink | None = sink
        self.result = ClientResult()
        self.stream_id = 0
        self.turn = -1
        self._parts: list[bytes] | None = None
        self._size = 0
        self._queued: tuple[Iterable[Header], Sequence[Buffer]] | None = None

    def cancel(self) -> None:
        """Gives the request up: the sink will not be called. Harmless when it is over."""
        client = self._client
        if client is not None:
            self._client = None
            self.sink = None
            client.cancelled(self)


class Http2Client(asyncio.Protocol):
    """One connection. `on_lost(client)` is called once, when no further request can be made on it."""

    def __init__(
        self,
        config: Http2ClientConfig | None = None,
        *,
        on_lost: Callable[[Http2Client], None] | None = None,
        on_bug: BugReport | None = None,
    ) -> None:
        self._config = config or Http2ClientConfig()
        self._on_lost = on_lost
        self._on_bug = on_bug
        self._session = Connection(Role.CLIENT, Configuration(peer_max_concurrent_streams=100))
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: dict[int, ClientStream] = {}
        self._queue: deque[ClientStream] = deque()
        self._max_streams = 100
        self._inside = False
        self._flush_due = False
        self._paused = False
        self._turn = 0
        self._usable = False
        self._lost = False
        self._closing = False
        self._heard = False
        self._ping_timer: asyncio.TimerHandle | None = None

    async def connect(self, host: str, port: int) -> None:
        """Connects. Raises OSError or TimeoutError; the object is then spent."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._config.connect_timeout_ms / 1000):
            await loop.create_connection(lambda: self, host, port)

    @property
    def available(self) -> bool:
        """Whether `request` would be accepted now."""
        return self._usable and len(self._queue) < self._config.max_queued_requests

    @property
    def load(self) -> int:
        """Requests under way and waiting."""
        return len(self._streams) + len(self._queue)

    def request(self, headers: Iterable[Header], body: Buffer | Sequence[Buffer], sink: ResultSink) -> ClientStream:
        """Sends one request; `sink` gets its result, later, never from within this call.

        `headers` include the pseudo-headers. The body's pieces must not change until the result. Raises
        Http2Unavailable where the connection takes no requests.
        """
        if not self._usable:
            raise Http2Unavailable("not connected")
        chunks = (body,) if isinstance(body, bytes | bytearray | memoryview) else body
        stream = ClientStream(self, sink)
        if len(self._streams) >= self._max_streams or self._queue:
            if len(self._queue) >= self._config.max_queued_requests:
                raise Http2Unavailable("too many requests waiting for a stream")
            stream._queued = (headers, chunks)
            self._queue.append(stream)
            return stream
        try:
            self._submit(stream, headers, chunks)
        except NGH2Error as error:
            raise Http2Unavailable("connection takes no more requests") from error
        return stream

    def _submit(self, stream: ClientStream, headers: Iterable[Header], chunks: Sequence[Buffer]) -> None:
        session = self._session
        size = 0
        for chunk in chunks:
            size += len(chunk)
        stream_id = stream.stream_id = session.send_request(headers, end_stream=not size)
        if size:
            if len(chunks) == 1:
                session.send_data(stream_id, chunks[0], end_stream=True)
            elif size <= _SMALL_BODY_BYTES:
                session.send_data(stream_id, b"".join(chunks), end_stream=True)
            else:
                for chunk in chunks:
                    if len(chunk):
                        session.send_data(stream_id, chunk)
                session.end_stream(stream_id)
        stream.turn = self._turn
        self._streams[stream_id] = stream
        self._schedule()

    def close(self) -> None:
        """Closes at once; what is under way fails. May be called again."""
        self._closing = True
        self._usable = False
        if self._transport is not None:
            self._transport.abort()

    # -- the transport's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._loop = asyncio.get_running_loop()
        self._transport.set_write_buffer_limits(high=_WRITE_BYTES)
        _watch_peer(self._transport, self._config.dead_peer_ms)
        config = self._config
        self._session.initiate_connection(
            {
                int(Setting.ENABLE_PUSH): 0,
                int(Setting.INITIAL_WINDOW_SIZE): config.stream_window_bytes,
                int(Setting.MAX_FRAME_SIZE): config.max_frame_bytes,
            }
        )
        self._session.set_local_window_size(config.connection_window_bytes)
        self._usable = not self._closing
        self._flush()
        self._ping_timer = self._loop.call_later(config.ping_interval_ms / 1000, self._check_peer)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._closing = True
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        streams, self._streams = self._streams, {}
        queue, self._queue = self._queue, deque()
        for stream in streams.values():
            self._fail(stream, "connection lost", processed=stream.turn != self._turn)
        for stream in queue:
            self._fail(stream, "connection lost", processed=False)
        self._end()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        session = self._session
        self._inside = True
        try:
            session.receive_data(data)
            for event in session.events():
                kind = type(event)
                if kind is DataReceived:
                    self._data(cast("DataReceived", event))
                elif kind is ResponseReceived:
                    response = cast("ResponseReceived", event)
                    stream = self._streams.get(response.stream_id)
                    if stream is not None:
                        stream.result.headers = dict(response.headers)
                        if response.end_stream:
                            self._complete(stream)
                elif kind is TrailersReceived:
                    trailers = cast("TrailersReceived", event)
                    stream = self._streams.get(trailers.stream_id)
                    if stream is not None:
                        stream.result.trailers = dict(trailers.headers)
                        self._complete(stream)
                elif kind is StreamClosed:
                    self._closed(cast("StreamClosed", event))
                elif kind is SettingsReceived:
                    self._max_streams = session.remote_settings.get(int(Setting.MAX_CONCURRENT_STREAMS), 1 << 31)
                elif kind is GoAwayReceived or kind is ConnectionClosed:
                    self._leave()
        except NGH2Error:
            self._inside = False
            self.close()
            return
        self._inside = False
        if self._queue:
            self._dequeue()
        self._flush()

    # -- answers -------------------------------------------------------------------------------------------------------

    def _data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        data = event.data
        if stream._parts is None:
            stream._parts = [data]
        elif data:
            stream._parts.append(data)
        stream._size += len(data)
        if stream._size > self._config.max_response_bytes:
            self._drop(stream)
            self._fail(stream, "response too large", processed=True)
        elif event.end_stream:
            self._complete(stream)

    def _complete(self, stream: ClientStream) -> None:
        del self._streams[stream.stream_id]
        parts = stream._parts
        if parts is not None:
            stream.result.body = parts[0] if len(parts) == 1 else b"".join(parts)
            stream._parts = None
        if self._session.queued_body_size(stream.stream_id):
            # Answered before it was asked in full: the rest of the question is of no use.
            self._drop(stream)
        self._finish(stream)

    def _closed(self, event: StreamClosed) -> None:
        stream = self._streams.pop(event.stream_id, None)
        if stream is not None:
            refused = event.error_code == _REFUSED_STREAM
            self._fail(stream, f"stream closed with HTTP/2 error {event.error_code}", processed=not refused)

    def _drop(self, stream: ClientStream) -> None:
        self._streams.pop(stream.stream_id, None)
        try:
            self._session.reset_stream(stream.stream_id, _CANCEL)
        except NGH2Error:
            return

    def _fail(self, stream: ClientStream, error: str, *, processed: bool) -> None:
        result = stream.result = ClientResult()
        result.error = error
        result.processed = processed
        stream._parts = None
        self._finish(stream)

    def _finish(self, stream: ClientStream) -> None:
        sink, stream.sink = stream.sink, None
        stream._client = None
        if sink is not None:
            try:
                sink(stream.result)
            except Exception as bug:
                if self._on_bug is not None:
                    self._on_bug(bug)

    def cancelled(self, stream: ClientStream) -> None:
        """Withdraws `stream`; see `ClientStream.cancel`."""
        if stream._queued is not None:
            self._queue.remove(stream)
            return
        self._drop(stream)
        self._schedule()

    def _dequeue(self) -> None:
        while self._queue and self._usable and len(self._streams) < self._max_streams:
            stream = self._queue.popleft()
            queued, stream._queued = stream._queued, None
            assert queued is not None
            try:
                self._submit(stream, *queued)
            except NGH2Error:
                self._fail(stream, "connection takes no more requests", processed=False)

    # -- sending and the end -------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._flush_due and not self._inside and self._loop is not None:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        if transport is None or self._paused or transport.is_closing():
            return
        try:
            for _ in range(_WRITES_PER_TURN):
                data = self._session.data_to_send(_WRITE_BYTES)
                if data:
                    self._turn += 1
                    transport.write(data)
                if len(data) < _WRITE_BYTES:
                    break
                if self._paused:
                    return
            else:
                self._schedule()
        except NGH2Error:
            self.close()
            return
        if not self._usable and not self._streams:
            transport.close()

    def _leave(self) -> None:
        """The peer says goodbye: what is under way may finish, what waits must go elsewhere."""
        self._usable = False
        queue, self._queue = self._queue, deque()
        for stream in queue:
            self._fail(stream, "connection is closing", processed=False)
        self._end()

    def _end(self) -> None:
        self._usable = False
        if not self._lost:
            self._lost = True
            if self._on_lost is not None:
                self._on_lost(self)

    def _check_peer(self) -> None:
        """Every ping interval: after silence while answers are due, asks for a sign of life."""
        assert self._loop is not None
        config = self._config
        if self._heard or not self._streams:
            self._heard = False
            self._ping_timer = self._loop.call_later(config.ping_interval_ms / 1000, self._check_peer)
            return
        try:
            self._session.ping(b"sluice\0\0")
        except NGH2Error:
            self.close()
            return
        self._flush()
        self._ping_timer = self._loop.call_later(config.ping_timeout_ms / 1000, self._check_pong)

    def _check_pong(self) -> None:
        if self._heard:
            self._check_peer()
        else:
            self.close()


def _watch_peer(transport: asyncio.Transport, dead_peer_ms: int) -> None:
    """Lets TCP notice a peer that vanished, busy or idle."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    seconds = max(1, dead_peer_ms // 3000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, dead_peer_ms)
