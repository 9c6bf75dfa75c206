"""HTTP/2 server on ngh2: frames in, whole unary requests out; each answered at most once.

Invariants: a stream is handed to the handler once, when its peer ended it; `on_reset` is called at most once and never
after an answer; answering is harmless after the stream or the connection is gone; what one connection does wrong ends
that connection alone. Bytes leave once per read and, for answers made outside a read, once per loop turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, cast

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataReceived,
    NGH2Error,
    RequestReceived,
    Role,
    Setting,
    StreamClosed,
    TrailersReceived,
)

from gateway.transport.limits import Http2Limits
from gateway.transport.listener import Buffer, BugReport, Listener

Header: TypeAlias = tuple[bytes, bytes]

_REFUSED_STREAM = 7
_CANCEL = 8
_CALM_DOWN = 11
_INTERNAL_ERROR = 2

_JOIN_BYTES = 64 * 1024
_SMALL_PART_BYTES = 1024
_WRITE_BYTES = 1024 * 1024
_WRITES_PER_TURN = 4


class ServerStream:
    """One request and the way back to its peer.

    `headers` has the last value of each name, `raw_headers` all of them in order, pseudo-headers included. `body` is whole.
    `on_reset`, where set, is called at most once, if the peer gives the stream up before the answer.
    """

    __slots__ = ("_connection", "_parts", "_size", "_tick", "body", "headers", "on_reset", "raw_headers", "stream_id")

    def __init__(self, connection: _Connection, stream_id: int, headers: tuple[Header, ...], tick: int) -> None:
        self._connection: _Connection | None = connection
        self.stream_id = stream_id
        self.raw_headers = headers
        self.headers: dict[bytes, bytes] = dict(headers)
        self.body: Buffer = b""
        self.on_reset: Callable[[], None] | None = None
        self._parts: list[bytes | bytearray] | None = None
        self._size = 0
        self._tick = tick

    @property
    def peer(self) -> object:
        """The peer's address as the socket names it; None once the stream has ended."""
        return self._connection.peer if self._connection is not None else None

    def respond(self, headers: Iterable[Header], chunks: Sequence[Buffer], trailers: Iterable[Header]) -> None:
        """Answers with headers, the body's pieces and trailers. Never raises; without effect once the stream ended.

        The pieces must not change until they are sent.
        """
        connection = self._connection
        if connection is not None:
            self._connection = None
            self.on_reset = None
            connection.respond(self.stream_id, headers, chunks, trailers)

    def respond_trailers_only(self, headers: Iterable[Header]) -> None:
        """Answers with one block of headers and nothing else, as gRPC does for failures. Never raises."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            self.on_reset = None
            connection.respond_headers_only(self.stream_id, headers)

    def reset(self, error_code: int) -> None:
        """Gives the stream up with an HTTP/2 error code instead of an answer. Never raises."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            self.on_reset = None
            connection.reset(self.stream_id, error_code)


Http2Handler: TypeAlias = Callable[[ServerStream], None]


def _reset_too_large(stream: ServerStream) -> None:
    stream.reset(_CANCEL)


class Http2Server(Listener):
    """An HTTP/2 listener (prior knowledge, or TLS with ALPN). `handler` is called once per request, inside the read.

    `on_body_too_large` answers a stream whose body passed the limit, usually trailers-only; the rest is ignored.
    """

    def __init__(
        self,
        handler: Http2Handler,
        *,
        limits: Http2Limits | None = None,
        on_body_too_large: Http2Handler = _reset_too_large,
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
        self.limits = limits
        self.configuration = Configuration(
            max_inbound_header_list_size=limits.max_header_bytes, max_inbound_header_count=limits.max_header_count
        )
        self.settings: dict[int, int] = {
            Setting.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            Setting.MAX_FRAME_SIZE: limits.max_frame_bytes,
            Setting.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
        }
        self.header_ticks = self.ticks(limits.header_timeout_ms)
        self.body_ticks = self.ticks(limits.body_timeout_ms)
        self.idle_ticks = self.ticks(limits.idle_timeout_ms)

    def connection(self) -> asyncio.Protocol:
        return _Connection(self)


class _Connection(asyncio.Protocol):
    """One connection: the ngh2 session, the streams not yet answered, and what is due to be sent."""

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._session = Connection(Role.SERVER, server.configuration)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, ServerStream] = {}
        self._inside = False
        self._flush_due = False
        self._paused = False
        self._closing = False
        self._ending: list[int] = []
        self._buffered = 0
        self._unsent = 0
        self._active = server.tick
        self._silent_since: int | None = server.tick
        self._stalled_since: int | None = None
        self._drain_tick: int | None = None

    # -- the transport's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport.set_write_buffer_limits(high=_WRITE_BYTES)
        if not self._server.registry.admit(self):
            self.abort()
            return
        self._session.initiate_connection(self._server.settings)
        self._session.set_local_window_size(self._server.limits.connection_window_bytes)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self._server.registry.remove(self)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._gone(stream)

    @property
    def peer(self) -> object:
        return self._transport.get_extra_info("peername") if self._transport is not None else None

    def pause_writing(self) -> None:
        self._paused = True
        self._stalled_since = self._server.tick
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._stalled_since = None
        if self._transport is not None:
            self._transport.resume_reading()
            self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._active = self._server.tick
        session = self._session
        try:
            session.receive_data(data)
        except NGH2Error:
            self._fail()
            return
        events = session.events()
        if events:
            self._silent_since = None
            self._inside = True
            for event in events:
                kind = type(event)
                if kind is DataReceived:
                    self._data(cast("DataReceived", event))
                elif kind is RequestReceived:
                    self._request(cast("RequestReceived", event))
                elif kind is StreamClosed:
                    if self._streams:
                        stream = self._streams.pop(cast("StreamClosed", event).stream_id, None)
                        if stream is not None:
                            self._buffered -= stream._size
                            self._gone(stream)
                elif kind is TrailersReceived:
                    self._trailers(cast("TrailersReceived", event).stream_id)
                elif kind is ConnectionClosed:
                    self._closing = True
            self._inside = False
        elif self._silent_since is None:
            self._silent_since = self._active
        self._flush()

    # -- requests ------------------------------------------------------------------------------------------------------

    def _request(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        stream = self._streams[stream_id] = ServerStream(self, stream_id, event.headers, self._active)
        if event.end_stream:
            self._deliver(stream)

    def _data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        data = event.data
        if stream._parts is None:
            if event.end_stream and len(data) <= self._server.limits.max_body_bytes:
                stream.body = data
                self._deliver(stream)
                return
            stream._parts = []
        size = len(data)
        stream._size += size
        self._buffered += size
        if stream._size > self._server.limits.max_body_bytes:
            self._too_large(stream)
            return
        if self._buffered > self._server.limits.max_buffered_bytes:
            stream.reset(_REFUSED_STREAM)
            return
        parts = stream._parts
        if size >= _SMALL_PART_BYTES or not parts:
            parts.append(data)
        elif type(tail := parts[-1]) is bytearray:
            tail += data  # a body that trickles must not cost an object per byte
        else:
            parts.append(bytearray(data))
        if event.end_stream:
            self._complete(stream)

    def _trailers(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._complete(stream)

    def _complete(self, stream: ServerStream) -> None:
        parts, stream._parts = stream._parts, None
        if parts:
            stream.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._buffered -= stream._size
        stream._size = 0
        self._deliver(stream)

    def _deliver(self, stream: ServerStream) -> None:
        stream._tick = -1
        self._call(self._server.handler, stream)

    def _too_large(self, stream: ServerStream) -> None:
        self._buffered -= stream._size
        stream._size = 0
        stream._parts = None
        self._ending.append(stream.stream_id)
        self._call(self._server.on_body_too_large, stream)
        stream.reset(_CANCEL)

    def _call(self, handler: Http2Handler, stream: ServerStream) -> None:
        try:
            handler(stream)
        except Exception as bug:
            self._server.report_bug(bug)
            stream.reset(_INTERNAL_ERROR)

    def _gone(self, stream: ServerStream) -> None:
        stream._connection = None
        stream._parts = None
        gone, stream.on_reset = stream.on_reset, None
        if gone is not None:
            try:
                gone()
            except Exception as bug:
                self._server.report_bug(bug)

    # -- answers -------------------------------------------------------------------------------------------------------

    def respond(
        self, stream_id: int, headers: Iterable[Header], chunks: Sequence[Buffer], trailers: Iterable[Header]
    ) -> None:
        """Queues a whole answer. See `ServerStream.respond`."""
        self._forget(stream_id)
        if self._closing:
            return
        session = self._session
        try:
            session.send_response(stream_id, headers)
            for chunk in chunks:
                session.send_data(stream_id, chunk)
                self._unsent += len(chunk)
            session.send_trailers(stream_id, trailers)
        except NGH2Error:
            return  # the stream is gone and its StreamClosed is on the way
        if not self._inside and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def respond_headers_only(self, stream_id: int, headers: Iterable[Header]) -> None:
        self._forget(stream_id)
        if self._closing:
            return
        try:
            self._session.send_response(stream_id, headers, end_stream=True)
        except NGH2Error:
            return
        self._schedule()

    def reset(self, stream_id: int, error_code: int) -> None:
        self._forget(stream_id)
        if self._closing:
            return
        try:
            self._session.reset_stream(stream_id, error_code)
        except NGH2Error:
            return
        self._schedule()

    def _forget(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None and stream._size:
            self._buffered -= stream._size
            stream._size = 0
            stream._parts = None

    def _schedule(self) -> None:
        if not self._inside and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hands what is due to the transport, in pieces, as long as it takes them."""
        self._flush_due = False
        transport = self._transport
        if self._paused or transport is None:
            return
        session = self._session
        try:
            data = session.data_to_send(_WRITE_BYTES)
            if data:
                transport.write(data)
                if len(data) == _WRITE_BYTES and not self._more(transport):
                    return
            if self._unsent > self._server.limits.max_buffered_bytes:
                self._unsent = session.queued_body_size()
                if self._unsent > self._server.limits.max_buffered_bytes:
                    self.abort()
                    return
            if self._ending:
                # Only now, because a reset overtakes an answer that is still queued.
                for stream_id in self._ending:
                    session.reset_stream(stream_id, 0)
                self._ending.clear()
                transport.write(session.data_to_send())
            if self._closing or (self._drain_tick is not None and not (session.want_read or session.want_write)):
                self._closing = True
                transport.close()
        except NGH2Error:
            self._fail()

    def _more(self, transport: asyncio.Transport) -> bool:
        """Goes on writing; returns whether everything was taken."""
        for _ in range(_WRITES_PER_TURN):
            if self._paused:
                return False
            data = self._session.data_to_send(_WRITE_BYTES)
            if not data:
                return True
            transport.write(data)
        self._schedule_next_turn()
        return False

    def _schedule_next_turn(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _fail(self) -> None:
        """Ends a connection whose peer does not speak HTTP/2, saying so where the session still can."""
        self._closing = True
        transport = self._transport
        if transport is None:
            return
        try:
            transport.write(self._session.data_to_send())
        except NGH2Error:
            pass
        transport.close()

    # -- the registry's side -------------------------------------------------------------------------------------------

    def sweep(self, tick: int) -> None:
        server = self._server
        if self._stalled_since is not None and tick - self._stalled_since > server.body_ticks:
            self.abort()
            return
        if self._closing:
            if tick - self._active > server.body_ticks:
                self.abort()
            return
        if self._drain_tick is not None and tick > self._drain_tick:
            self._finish_drain()
        late = tick - server.body_ticks
        for stream in [stream for stream in self._streams.values() if 0 <= stream._tick < late]:
            stream.reset(_CANCEL)
        if self._streams:
            return
        silent = self._silent_since is not None and tick - self._silent_since > server.header_ticks
        if silent or tick - self._active > server.idle_ticks:
            self._goodbye()

    def drain(self) -> None:
        """Announces the end; a sweep later, when the peer has heard, refuses new streams."""
        if self._closing or self._drain_tick is not None:
            return
        self._drain_tick = self._server.tick
        try:
            self._session.send_shutdown_notice()
        except NGH2Error:
            self._fail()
            return
        self._flush()

    def _finish_drain(self) -> None:
        self._drain_tick = 1 << 62
        try:
            self._session.send_goaway(0)
        except NGH2Error:
            self._fail()
            return
        self._flush()

    def _goodbye(self) -> None:
        try:
            self._session.terminate_connection(0)
        except NGH2Error:
            self._fail()
            return
        self._closing = True
        self._flush()

    def abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
