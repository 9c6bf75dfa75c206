"""One HTTP/2 connection of the server: frames in, whole unary requests out; each answered at most once.

Invariants: a stream is handed to the handler once, when its peer ended it; `on_reset` is called at most once and never
after an answer; answering is harmless after the stream or the connection is gone; what one connection does wrong ends
that connection alone. Incomplete bodies and answers not taken are bounded in bytes and in time. A request for an
unknown path is answered at its head: its peer may wait for an answer before it sends more, as streaming calls do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Container, Iterable, Sequence

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

from gateway.transport.http2_input import DELIVERED, Http2Input
from gateway.transport.http2_session import CANCEL, INTERNAL_ERROR, NO_ERROR, Header
from gateway.transport.http2_stream import Http2Handler, ServerStream
from gateway.transport.limits import Http2Limits
from gateway.transport.listener import Buffer, Listener

_GOAWAY_SENT = 1 << 62


class Http2Connection(Http2Input):
    """Everything but the input: answers, timeouts, the end."""

    def __init__(
        self,
        listener: Listener,
        handler: Http2Handler,
        on_body_too_large: Http2Handler,
        limits: Http2Limits,
        known_paths: Container[bytes] | None,
    ) -> None:
        configuration = Configuration(
            max_inbound_header_list_size=limits.max_header_bytes, max_inbound_header_count=limits.max_header_count
        )
        super().__init__(Connection(Role.SERVER, configuration), listener, handler, on_body_too_large, limits)
        self._known_paths = known_paths
        self._unsent = 0
        self._untaken = 0
        self._untaken_since = 0
        self._active = listener.tick
        self._silent_since: int | None = listener.tick
        self._stalled_since: int | None = None
        self._drain_tick: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._attach(transport)
        if not self._listener.registry.admit(self):
            self.abort()
            return
        limits = self._limits
        self._initiate(
            stream_window_bytes=limits.stream_window_bytes,
            connection_window_bytes=limits.connection_window_bytes,
            max_frame_bytes=limits.max_frame_bytes,
            more={
                int(Setting.MAX_CONCURRENT_STREAMS): limits.max_concurrent_streams,
                int(Setting.MAX_HEADER_LIST_SIZE): limits.max_header_bytes,
            },
        )

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self._listener.registry.remove(self)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._gone(stream)

    def pause_writing(self) -> None:
        self._paused = True
        self._stalled_since = self._listener.tick
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self._transport is not None:
            self._transport.resume_reading()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._active = self._listener.tick
        session = self._session
        try:
            session.receive_data(data)
        except NGH2Error:
            self._fail()
            return
        events = session.events()
        known_paths = self._known_paths
        if events:
            self._silent_since = None
            self._inside = True
            for event in events:
                if type(event) is DataReceived:
                    self._data(event)
                elif type(event) is RequestReceived:
                    stream_id = event.stream_id
                    stream = self._streams[stream_id] = ServerStream(self, stream_id, event.headers, self._active)
                    if event.end_stream:
                        self._deliver(stream)
                    elif known_paths is not None and stream.headers.get(b":path") not in known_paths:
                        self._cut(stream, self._handler)
                elif type(event) is StreamClosed:
                    if event.stream_id in self._streams:
                        self._gone(self._streams.pop(event.stream_id))
                elif type(event) is TrailersReceived:
                    if event.stream_id in self._streams:
                        self._complete(self._streams[event.stream_id])
                elif type(event) is ConnectionClosed:
                    self._closing = True
            self._inside = False
        elif self._silent_since is None:
            self._silent_since = self._active
        self._flush()

    def respond(
        self, stream_id: int, headers: Iterable[Header], chunks: Sequence[Buffer], trailers: Iterable[Header]
    ) -> None:
        """Queues a whole answer. See `ServerStream.respond`."""
        self._streams.pop(stream_id, None)
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
        except (TypeError, ValueError) as bug:
            self._broken(stream_id, bug)
        self._schedule()

    def respond_headers_only(self, stream_id: int, headers: Iterable[Header]) -> None:
        """Queues an answer of one header block. See `ServerStream.respond_trailers_only`."""
        self._streams.pop(stream_id, None)
        if self._closing:
            return
        try:
            self._session.send_response(stream_id, headers, end_stream=True)
        except NGH2Error:
            return
        except (TypeError, ValueError) as bug:
            self._broken(stream_id, bug)
        self._schedule()

    def reset(self, stream_id: int, error_code: int) -> None:
        """Queues a reset. See `ServerStream.reset`."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._release(stream)
        if self._closing:
            return
        with contextlib.suppress(NGH2Error):
            self._session.reset_stream(stream_id, error_code)
        self._schedule()

    def _broken(self, stream_id: int, bug: Exception) -> None:
        """The layer above answered with something that is no answer."""
        self._listener.report_bug(bug)
        with contextlib.suppress(NGH2Error):
            self._session.reset_stream(stream_id, INTERNAL_ERROR)

    def _flushed(self, transport: asyncio.Transport) -> None:
        session = self._session
        if self._unsent > self._limits.max_buffered_bytes:
            self._unsent = session.queued_body_size()
            if self._unsent > self._limits.max_buffered_bytes:
                self.abort()
                return
        if self._cut_short:
            # Only now, because a reset overtakes an answer that is still queued.
            for stream_id in self._cut_short:
                with contextlib.suppress(NGH2Error):
                    session.reset_stream(stream_id, NO_ERROR)
            self._cut_short.clear()
            transport.write(session.data_to_send())
        if self._closing or not (session.want_read or session.want_write):
            self._closing = True
            transport.close()

    def sweep(self, tick: int) -> None:
        limits = self._limits
        body_ticks = self._listener.ticks(limits.body_timeout_ms)
        if self._stalled_since is not None and tick - self._stalled_since > body_ticks:
            self.abort()
        elif self._closing:
            if tick - self._active > body_ticks:
                self.abort()
        else:
            if self._drain_tick is not None and tick > self._drain_tick:
                self._drain_tick = _GOAWAY_SENT
                self._say(self._session.send_goaway)
            if self._unsent:
                self._sweep_unsent(tick, body_ticks)
            late = tick - body_ticks
            for stream in [stream for stream in self._streams.values() if DELIVERED < stream.tick < late]:
                stream.reset(CANCEL)
            ticks = self._listener.ticks
            silent = self._silent_since is not None and tick - self._silent_since > ticks(limits.header_timeout_ms)
            if not self._streams and (silent or tick - self._active > ticks(limits.idle_timeout_ms)):
                self._closing = True
                self._say(self._session.terminate_connection)

    def _sweep_unsent(self, tick: int, body_ticks: int) -> None:
        """Gives up a peer that opens no window for what it asked for."""
        untaken = self._session.queued_body_size()
        self._unsent = untaken
        if untaken != self._untaken or not untaken:
            self._untaken = untaken
            self._untaken_since = tick
        elif tick - self._untaken_since > body_ticks:
            self.abort()

    def drain(self) -> None:
        """Announces the end; a sweep later, when the peer has heard, refuses new streams."""
        if self._closing or self._drain_tick is not None:
            return
        self._drain_tick = self._listener.tick
        self._say(self._session.send_shutdown_notice)

    def _say(self, goodbye: Callable[[], None]) -> None:
        try:
            goodbye()
        except NGH2Error:
            self._fail()
        else:
            self._flush()
