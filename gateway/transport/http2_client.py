"""One HTTP/2 client connection on ngh2: whole requests out, whole answers in.

Invariants: a sink is called exactly once per accepted request unless it was cancelled first; a sink that raises harms
nobody; `ClientResult.processed` is False only where the peer surely did not act on the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence

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

from gateway.transport.http2_call import (
    ClientResult,
    ClientStream,
    Http2ClientConfig,
    Http2Unavailable,
    ResultSink,
)
from gateway.transport.http2_session import CANCEL, REFUSED_STREAM, Header, Http2Session
from gateway.transport.listener import Buffer, BugReport

_JOIN_BYTES = 48 * 1024
_PIECE_BYTES = 8 * 1024
"""A body is joined, copying it once, where it is small or its pieces are on average: handing each over costs too."""
_MAY_BE_HELD_BYTES = 48 * 1024
"""From this size on a request body may still be on its way when the answer comes."""
_ASSUMED_STREAMS = 100
_UNLIMITED = 1 << 31


class Http2Client(Http2Session):
    """One connection. `on_lost(client)` is called once, when no further request can be made on it."""

    def __init__(
        self,
        config: Http2ClientConfig | None = None,
        *,
        on_lost: Callable[[Http2Client], None] | None = None,
        on_bug: BugReport | None = None,
    ) -> None:
        super().__init__(Connection(Role.CLIENT, Configuration(peer_max_concurrent_streams=_ASSUMED_STREAMS)))
        self._config = config or Http2ClientConfig()
        self._on_lost = on_lost
        self._on_bug = on_bug
        self._streams: dict[int, ClientStream] = {}
        self._queue: deque[ClientStream] = deque()
        self._max_streams = _ASSUMED_STREAMS
        self._usable = False
        self._lost = False
        self._heard = False
        self._ping_timer: asyncio.TimerHandle | None = None

    async def connect(self, host: str, port: int) -> None:
        """Connects. Raises OSError (TimeoutError is one); the object is then spent."""
        async with asyncio.timeout(self._config.connect_timeout_ms / 1000):
            await self._loop.create_connection(lambda: self, host, port)

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
            stream.queued = (headers, chunks)
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
            elif size <= _JOIN_BYTES or size < len(chunks) * _PIECE_BYTES:
                session.send_data(stream_id, b"".join(chunks), end_stream=True)
            else:
                for chunk in chunks:
                    if len(chunk):
                        session.send_data(stream_id, chunk)
                session.end_stream(stream_id)
        stream.submitted_after = self._writes
        stream.large = size >= _MAY_BE_HELD_BYTES
        self._streams[stream_id] = stream
        self._schedule()

    def close(self) -> None:
        """Closes at once; what is under way fails. May be called again."""
        self._usable = False
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        config = self._config
        _watch_peer(self._attach(transport), config.dead_peer_ms)
        if self._closing:
            self.abort()
            return
        self._usable = True
        self._initiate(
            stream_window_bytes=config.stream_window_bytes,
            connection_window_bytes=config.connection_window_bytes,
            max_frame_bytes=config.max_frame_bytes,
            more={int(Setting.ENABLE_PUSH): 0},
        )
        self._ping_timer = self._loop.call_later(config.ping_interval_ms / 1000, self._check_peer)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self._usable = False
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._give_up(stream, "connection lost", processed=stream.submitted_after != self._writes)
        self._leave()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard = True
        session = self._session
        self._inside = True
        try:
            session.receive_data(data)
            for event in session.events():
                if type(event) is DataReceived:
                    self._data(event)
                elif type(event) is ResponseReceived:
                    stream = self._streams.get(event.stream_id)
                    if stream is not None:
                        stream.result.headers = dict(event.headers)
                        if event.end_stream:
                            self._complete(stream)
                elif type(event) is TrailersReceived:
                    stream = self._streams.get(event.stream_id)
                    if stream is not None:
                        stream.result.trailers = dict(event.headers)
                        self._complete(stream)
                elif type(event) is StreamClosed:
                    stream = self._streams.pop(event.stream_id, None)
                    if stream is not None:
                        code = event.error_code
                        self._give_up(stream, f"stream reset, HTTP/2 error {code}", processed=code != REFUSED_STREAM)
                elif type(event) is SettingsReceived:
                    limit = session.remote_settings.get(int(Setting.MAX_CONCURRENT_STREAMS))
                    self._max_streams = _UNLIMITED if limit is None else limit
                elif type(event) is GoAwayReceived or type(event) is ConnectionClosed:
                    self._leave()
        except NGH2Error:
            self._fail()
        self._inside = False
        if self._queue:
            self._dequeue()
        self._flush()

    def _data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        data = event.data
        if stream.parts is None:
            stream.parts = [data]
        elif data:
            stream.parts.append(data)
        stream.size += len(data)
        if stream.size > self._config.max_response_bytes:
            self._drop(stream)
            self._give_up(stream, "response too large", processed=True)
        elif event.end_stream:
            self._complete(stream)

    def _complete(self, stream: ClientStream) -> None:
        del self._streams[stream.stream_id]
        parts = stream.parts
        if parts is not None:
            stream.result.body = parts[0] if len(parts) == 1 else b"".join(parts)
            stream.parts = None
        if stream.large and self._session.queued_body_size(stream.stream_id):
            self._drop(stream)  # answered before it was asked in full: the rest is of no use
        self._finish(stream)

    def _drop(self, stream: ClientStream) -> None:
        self._streams.pop(stream.stream_id, None)
        with contextlib.suppress(NGH2Error):
            self._session.reset_stream(stream.stream_id, CANCEL)

    def _give_up(self, stream: ClientStream, error: str, *, processed: bool) -> None:
        result = stream.result = ClientResult()
        result.error = error
        result.processed = processed
        stream.parts = None
        self._finish(stream)

    def _finish(self, stream: ClientStream) -> None:
        sink, stream.sink = stream.sink, None
        stream.client = None
        if sink is not None:
            try:
                sink(stream.result)
            except Exception as bug:
                if self._on_bug is not None:
                    self._on_bug(bug)

    def cancelled(self, stream: ClientStream) -> None:
        """Withdraws `stream`; see `ClientStream.cancel`."""
        if stream.queued is not None:
            with contextlib.suppress(ValueError):  # its queue is just being given up
                self._queue.remove(stream)
            return
        self._drop(stream)
        if self._queue:
            self._loop.call_soon(self._dequeue)
        self._schedule()

    def _dequeue(self) -> None:
        while self._queue and self._usable and len(self._streams) < self._max_streams:
            stream = self._queue.popleft()
            queued, stream.queued = stream.queued, None
            assert queued is not None
            try:
                self._submit(stream, *queued)
            except NGH2Error:
                self._give_up(stream, "connection takes no more requests", processed=False)

    def _flushed(self, transport: asyncio.Transport) -> None:
        session = self._session
        if not (self._usable or self._streams) or not (session.want_read or session.want_write):
            self._usable = False
            transport.close()

    def _fail(self) -> None:
        self._usable = False
        super()._fail()

    def _leave(self) -> None:
        """No more requests: what is under way may finish, what waits must go elsewhere."""
        self._usable = False
        queue, self._queue = self._queue, deque()
        for stream in queue:
            self._give_up(stream, "connection is closing", processed=False)
        if not self._lost:
            self._lost = True
            if self._on_lost is not None:
                self._on_lost(self)

    def _check_peer(self) -> None:
        """Every ping interval: after silence while answers are due, asks for a sign of life."""
        config = self._config
        if self._heard or not self._streams:
            self._heard = False
            self._ping_timer = self._loop.call_later(config.ping_interval_ms / 1000, self._check_peer)
            return
        with contextlib.suppress(NGH2Error):
            self._session.ping(b"liveness")
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
