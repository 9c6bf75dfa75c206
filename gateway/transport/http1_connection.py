"""The reading half of an HTTP/1.1 connection: bytes in, whole requests out, and every timeout.

What is between two messages is a full head, looked up in the memo, or nothing; a partial head is kept as it is and
looked at again with what follows, so that the requests do not depend on how the bytes were cut.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from gateway.transport.http1_chunked import ChunkedBody
from gateway.transport.http1_exchange import ErrorBody, HttpExchange, HttpHandler, HttpRequest
from gateway.transport.http1_head import CHUNKED, HeadError, HeadParser, RequestHead, check_partial
from gateway.transport.http1_output import WRITE_BYTES, Http1Output
from gateway.transport.limits import Http1Limits
from gateway.transport.listener import Buffer, Listener

_VIEW_BYTES = 16 * 1024
"""From this size on a body is a view of what was received instead of a copy."""
_LINGER_MS = 2_000
_LINGER_BYTES = 16 * 1024 * 1024
_DRAIN_MS = 1_000
"""How long a connection with nothing to do is still read while draining: its peer may just be sending a request, and
would take a close for a lost one. What comes is answered with `connection: close`."""
_JSON = b"content-type: application/json\r\n"

_HEAD, _BODY, _CHUNKED = range(3)
"""What the next bytes are, unless the connection is ending: a head, a body of known length, a chunked body."""

_REFUSED = RequestHead(b"GET", b"/", b"", {}, old=False)
_REFUSED.keep_alive = False


class Http1Connection(Http1Output):
    """One connection: the state of its input; its answers are the base class's."""

    def __init__(
        self, listener: Listener, handler: HttpHandler, *, limits: Http1Limits, heads: HeadParser, error_body: ErrorBody
    ) -> None:
        super().__init__(listener.registry, limits.max_pipelined_requests)
        self._listener = listener
        self._handler = handler
        self._limits = limits
        self._heads = heads
        self._memo = heads.memo
        self._error_body = error_body
        self._mode = _HEAD
        self._head: RequestHead = _REFUSED
        self._body = bytearray()
        self._chunked: ChunkedBody | None = None
        self._need = 0
        self._ignored = 0
        self._charged = 0
        self._since = self._active = listener.tick
        self._expecting_head = True
        self._drained_at: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport.set_write_buffer_limits(high=WRITE_BYTES)
        if not self._registry.admit(self):
            why = "the server is shutting down" if self._registry.draining else "too many connections"
            self._refuse(503, why, linger=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._ending = True
        self._charge(-self._charged)
        self._registry.remove(self)
        pending, self._pending = self._pending, deque()
        for exchange in pending:
            exchange.open = False
            gone, exchange.on_disconnect = exchange.on_disconnect, None
            if gone is not None:
                try:
                    gone()
                except Exception as bug:
                    self._listener.report_bug(bug)

    def pause_writing(self) -> None:
        self._stalled_since = self._listener.tick
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self._blocked:
            if self._has_room():
                self._unblock_soon()
        elif self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._active = self._listener.tick
        self._inside = True
        try:
            if self._buffer or self._ending or self._mode != _HEAD:
                data = self._continue(data)
            if data:
                self._consume(data)
        except HeadError as refusal:
            self._refuse(refusal.status, refusal.message)
        self._inside = False
        if self._out:
            self._flush()

    def _consume(self, data: bytes) -> None:
        """Takes `data` from a message boundary on: the hot path."""
        memo = self._memo.get
        pending = self._pending
        size = len(data)
        position = 0
        while position < size:
            if len(pending) >= self._depth or self._out_bytes + self._ready_bytes > WRITE_BYTES:
                self._block(data[position:])
                return
            end = data.find(b"\r\n\r\n", position) + 4
            if end < 4:
                self._keep_partial(data[position:])
                return
            raw = data[position:end]
            head = memo(raw)
            if head is None:
                if raw.startswith(b"\r\n"):
                    position += 2  # clients of old send an empty line after a body
                    continue
                head = self._parse(raw)
            length = head.content_length
            if length == 0:
                position = end
                self._behind = size - end
                self._dispatch(head, b"")
            elif 0 < length <= size - end:
                position = end + length
                self._behind = size - position
                self._dispatch(head, data[end:position] if length < _VIEW_BYTES else memoryview(data)[end:position])
            else:
                data = self._begin_body(head, data[end:])
                size = len(data)
                position = 0
            if self._ending:
                return

    def _parse(self, raw: bytes) -> RequestHead:
        limits = self._limits
        if len(raw) > limits.max_header_bytes:
            raise HeadError(431, f"request head larger than {limits.max_header_bytes} bytes")
        return self._heads.parse(raw)

    def _keep_partial(self, rest: bytes) -> None:
        if len(rest) > self._limits.max_header_bytes:
            raise HeadError(431, f"request head larger than {self._limits.max_header_bytes} bytes")
        check_partial(rest)
        if not self._expecting_head:
            self._expecting_head = True
            self._since = self._active
        self._buffer = rest

    def _continue(self, data: bytes) -> bytes:
        """Takes `data` in the middle of something; returns what lies beyond it, from a message boundary on."""
        if self._ending:
            self._ignored += len(data)
            if self._ignored > _LINGER_BYTES:
                self.abort()
            return b""
        if self._mode == _BODY:
            taken = data if len(data) <= self._need else data[: self._need]
            self._body += taken
            self._need -= len(taken)
            self._charge(len(taken))
            if self._need:
                return b""
            self._behind = len(data) - len(taken)
            self._end_body(self._body)
            return b"" if self._ending else data[len(taken) :]
        if self._mode == _CHUNKED:
            return self._feed_chunked(data)
        data = self._buffer + data
        if self._blocked:
            self._buffer = data
            return b""
        self._buffer = b""
        return data

    def _begin_body(self, head: RequestHead, rest: bytes) -> bytes:
        """Starts collecting; returns what follows the body if it ends within `rest`."""
        self._head = head
        self._since = self._active
        if head.expects and not rest:
            self._emit_continue(head)
        if head.content_length == CHUNKED:
            self._mode = _CHUNKED
            self._chunked = ChunkedBody(self._limits.max_body_bytes)
            return self._feed_chunked(rest) if rest else b""
        # The claimed length is only ever compared, never allocated: memory follows what arrives.
        self._mode = _BODY
        self._body = bytearray(rest)
        self._need = head.content_length - len(rest)
        self._charge(len(rest))
        return b""

    def _feed_chunked(self, data: bytes) -> bytes:
        assert self._chunked is not None
        body = self._chunked.body
        before = len(body)
        following = self._chunked.feed(data)
        self._charge(len(body) - before)
        if following is None:
            return b""
        self._chunked = None
        self._behind = len(following)
        self._end_body(body)
        return b"" if self._ending else following

    def _end_body(self, body: bytearray) -> None:
        self._mode = _HEAD
        self._body = bytearray()
        self._charge(-self._charged)
        self._dispatch(self._head, body)

    def _charge(self, size: int) -> None:
        """Accounts for bytes of an incomplete body against the listener's bound."""
        self._charged += size
        self._listener.buffered_bytes += size
        if size > 0 and self._listener.buffered_bytes > self._limits.max_buffered_bytes:
            raise HeadError(503, "too many request bodies in transfer")

    def _dispatch(self, head: RequestHead, body: Buffer) -> None:
        self._expecting_head = False
        exchange = HttpExchange(self, head)
        self._pending.append(exchange)
        if not head.keep_alive:
            self._ending = True
        try:
            self._handler(HttpRequest(head, body), exchange)
        except Exception as bug:
            self._listener.report_bug(bug)
            exchange.respond(500, _JSON, (self._error_body(500, "internal error"),))

    def _block(self, rest: bytes) -> None:
        """Stops reading: the peer has as many requests in flight, or as many answers to read, as it may."""
        self._blocked = True
        self._buffer = rest
        if self._transport is not None:
            self._transport.pause_reading()
        if self._has_room():
            self._unblock_soon()

    def _unblock(self) -> None:
        if not self._blocked or self._transport is None or self._stalled_since is not None:
            return
        self._blocked = False
        rest, self._buffer = self._buffer, b""
        self._transport.resume_reading()
        self.data_received(rest)

    def _refuse(self, status: int, message: str, *, linger: bool = True) -> None:
        """Answers with an error of this layer, after what is due before it, and ends the connection."""
        self._ending = True
        self._lingering = linger
        self._buffer = b""
        self._body = bytearray()
        self._chunked = None
        self._charge(-self._charged)
        self._since = self._listener.tick
        exchange = HttpExchange(self, _REFUSED)
        self._pending.append(exchange)
        exchange.respond(status, _JSON, (self._error_body(status, message),))

    def _receiving(self) -> bool:
        return self._mode != _HEAD

    def _start_closing(self) -> None:
        self._since = self._listener.tick

    def sweep(self, tick: int) -> None:
        limits = self._limits
        ticks = self._listener.ticks
        age = tick - self._since
        if self._stalled_since is not None:
            if tick - self._stalled_since > ticks(limits.body_timeout_ms):
                self.abort()
        elif self._ending:
            if not self._pending and age > ticks(_LINGER_MS if self._lingering else limits.body_timeout_ms):
                self.abort()
        elif self._mode != _HEAD:
            if age > ticks(limits.body_timeout_ms):
                self._refuse(408, "request body not received in time")
        elif self._pending or self._blocked:
            return
        elif self._buffer:
            if age > ticks(limits.header_timeout_ms):
                self._refuse(408, "request head not received in time")
        elif tick - self._active > ticks(
            limits.header_timeout_ms if self._expecting_head else limits.idle_timeout_ms
        ) or (self._drained_at is not None and tick - max(self._drained_at, self._active) > ticks(_DRAIN_MS)):
            self._close()

    def drain(self) -> None:
        if self._drained_at is None:
            self._drained_at = self._listener.tick

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
