"""The receiving half of an HTTP/2 connection: the streams not yet answered, and what came of their bodies.

Incomplete bodies are charged to their connection and to their listener, and every byte is given back when its stream
is complete, cut short or gone.
"""

from __future__ import annotations

from ngh2 import Connection, DataReceived

from gateway.transport.http2_session import CANCEL, INTERNAL_ERROR, REFUSED_STREAM, Http2Session
from gateway.transport.http2_stream import Http2Handler, ServerStream
from gateway.transport.limits import Http2Limits
from gateway.transport.listener import Listener

_SMALL_PART_BYTES = 1024
DELIVERED = -1
"""`ServerStream.tick` of a stream that waits for its answer and no longer for its body."""


class Http2Input(Http2Session):
    """Collects bodies and hands whole requests over. `_cut_short` are streams that were answered before their end."""

    def __init__(
        self,
        session: Connection,
        listener: Listener,
        handler: Http2Handler,
        on_body_too_large: Http2Handler,
        limits: Http2Limits,
    ) -> None:
        super().__init__(session)
        self._listener = listener
        self._handler = handler
        self._on_body_too_large = on_body_too_large
        self._limits = limits
        self._streams: dict[int, ServerStream] = {}
        self._cut_short: list[int] = []
        self._buffered = 0

    def _data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        data = event.data
        size = len(data)
        parts = stream.parts
        if parts is None:
            if event.end_stream and size <= self._limits.max_body_bytes:
                stream.body = data
                self._deliver(stream)
                return
            parts = stream.parts = []
        stream.size += size
        self._buffered += size
        listener = self._listener
        listener.buffered_bytes += size
        if stream.size > self._limits.max_body_bytes:
            self._cut(stream, self._on_body_too_large)
            return
        if (
            self._buffered > self._limits.max_buffered_bytes
            or listener.buffered_bytes > self._limits.max_total_buffered_bytes
        ):
            stream.reset(REFUSED_STREAM)
            return
        if size >= _SMALL_PART_BYTES or not parts:
            parts.append(data)
        elif type(tail := parts[-1]) is bytearray:
            tail += data  # a body that trickles must not cost an object per byte
        else:
            parts.append(bytearray(data))
        if event.end_stream:
            self._complete(stream)

    def _complete(self, stream: ServerStream) -> None:
        parts = stream.parts
        if parts:
            stream.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._release(stream)
        self._deliver(stream)

    def _deliver(self, stream: ServerStream) -> None:
        stream.tick = DELIVERED
        self._call(self._handler, stream)

    def _cut(self, stream: ServerStream, handler: Http2Handler) -> None:
        """Has a stream answered now; the rest of its body is ignored."""
        self._release(stream)
        self._cut_short.append(stream.stream_id)
        self._call(handler, stream)
        stream.reset(CANCEL)

    def _call(self, handler: Http2Handler, stream: ServerStream) -> None:
        try:
            handler(stream)
        except Exception as bug:
            self._listener.report_bug(bug)
            stream.reset(INTERNAL_ERROR)

    def _release(self, stream: ServerStream) -> None:
        self._buffered -= stream.size
        self._listener.buffered_bytes -= stream.size
        stream.size = 0
        stream.parts = None

    def _gone(self, stream: ServerStream) -> None:
        self._release(stream)
        stream.connection = None
        gone, stream.on_reset = stream.on_reset, None
        if gone is not None:
            try:
                gone()
            except Exception as bug:
                self._listener.report_bug(bug)
