"""HTTP/1.1 server on asyncio.Protocol: bytes in, whole requests out; answers back in request order.

Invariants: every request handed to the handler is answered at most once and answering is always harmless, also after
the peer left; answers leave in the order of the requests; an input that is refused is answered (where a head could be
told) and ends its connection only. A peer that closes its side has left: what it asked for is withdrawn.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from gateway.transport.http1_chunked import ChunkedBody
from gateway.transport.http1_head import CHUNKED, HeadError, HeadParser, RequestHead, check_partial
from gateway.transport.http1_status import content_length_line, status_line
from gateway.transport.limits import Http1Limits
from gateway.transport.listener import Buffer, BugReport, Listener

__all__ = ["Http1Limits", "Http1Server", "HttpExchange", "HttpHandler", "HttpRequest"]

_JOIN_BYTES = 64 * 1024
"""Up to this many bytes one joined write is cheaper than many."""
_VIEW_BYTES = 16 * 1024
"""From this size on a body is a view of what was received instead of a copy."""
_LINGER_MS = 2_000
_LINGER_BYTES = 16 * 1024 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_KEEP = b"connection: keep-alive\r\n"

_HEAD, _BODY, _CHUNKED, _IGNORE = range(4)
"""What the next bytes are: a head, a body of known length, a chunked body, nothing of interest."""


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


class HttpExchange:
    """The way back to the peer of one request.

    `on_disconnect`, where set, is called at most once, if the peer leaves before the answer.
    """

    __slots__ = ("_connection", "_head", "_open", "_ready", "on_disconnect")

    def __init__(self, connection: _Connection, head: RequestHead) -> None:
        self._connection = connection
        self._head = head
        self._open = True
        self._ready: list[Buffer] | None = None
        self.on_disconnect: Callable[[], None] | None = None

    @property
    def peer(self) -> object:
        """The peer's address as the socket names it, None where it has none."""
        return self._connection.peer

    def respond(self, status: int, headers: bytes, chunks: Sequence[Buffer]) -> None:
        """Answers: `headers` are complete lines without content-length and connection, `chunks` the body's pieces.

        The pieces must not change until they are sent. Never raises; without effect once answered or when the peer left.
        """
        if self._open:
            self._open = False
            self.on_disconnect = None
            self._connection.answer(self, status, headers, chunks)


HttpHandler: TypeAlias = Callable[[HttpRequest, HttpExchange], None]
ErrorBody: TypeAlias = Callable[[int, str], bytes]


def _json_error(status: int, message: str) -> bytes:
    return json.dumps({"error": message}).encode()


_REFUSED = RequestHead(b"GET", b"/", b"", {}, old=False)
_REFUSED.keep_alive = False


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
        self.heads = HeadParser(max_header_count=limits.max_header_count, memo_entries=limits.memo_entries)
        self.header_ticks = self.ticks(limits.header_timeout_ms)
        self.body_ticks = self.ticks(limits.body_timeout_ms)
        self.idle_ticks = self.ticks(limits.idle_timeout_ms)
        self.linger_ticks = self.ticks(_LINGER_MS)

    def connection(self) -> asyncio.Protocol:
        return _Connection(self)


class _Connection(asyncio.Protocol):
    """One connection: the state of its input, and its requests in order."""

    def __init__(self, server: Http1Server) -> None:
        self._server = server
        self._memo = server.heads.memo
        self._depth = server.limits.max_pipelined_requests
        self._handler = server.handler
        self._transport: asyncio.Transport | None = None
        self._mode = _HEAD
        self._buffer = b""
        self._blocked = False
        self._inside = False
        self._pending: deque[HttpExchange] = deque()
        self._out: list[Buffer] = []
        self._out_bytes = 0
        self._closing = False
        self._lingering = False
        self._head: RequestHead = _REFUSED
        self._body = bytearray()
        self._chunked: ChunkedBody | None = None
        self._need = 0
        self._ignored = 0
        self._charged = 0
        self._since = self._active = server.tick
        self._fresh = True
        self._stalled_since: int | None = None

    # -- the transport's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport = transport
        transport.set_write_buffer_limits(high=1024 * 1024)
        if not self._server.registry.admit(self):
            self._refuse(503, "too many connections")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._mode = _IGNORE
        self._charge(-self._charged)
        self._server.registry.remove(self)
        pending, self._pending = self._pending, deque()
        for exchange in pending:
            if exchange._open:
                exchange._open = False
                gone, exchange.on_disconnect = exchange.on_disconnect, None
                if gone is not None:
                    try:
                        gone()
                    except Exception as bug:
                        self._server.report_bug(bug)

    @property
    def peer(self) -> object:
        return self._transport.get_extra_info("peername") if self._transport is not None else None

    def pause_writing(self) -> None:
        self._stalled_since = self._server.tick
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self._transport is not None and not self._blocked:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._active = self._server.tick
        self._inside = True
        try:
            if self._mode != _HEAD or self._buffer or self._blocked:
                data = self._continue(data)
            if data:
                self._consume(data)
        except HeadError as refusal:
            self._refuse(refusal.status, refusal.message)
        self._inside = False
        if self._out:
            self._flush()

    # -- input ---------------------------------------------------------------------------------------------------------

    def _consume(self, data: bytes) -> None:
        """Takes `data` from a message boundary on: the hot path."""
        memo = self._memo.get
        pending = self._pending
        size = len(data)
        position = 0
        while position < size:
            if len(pending) >= self._depth:
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
                body: Buffer = b""
                position = end
            elif 0 < length <= size - end:
                position = end + length
                body = data[end:position] if length < _VIEW_BYTES else memoryview(data)[end:position]
            else:
                position = size
                following = self._begin_body(head, data[end:])
                if following:
                    data, size, position = following, len(following), 0
                continue
            self._dispatch(head, body)
            if self._mode == _IGNORE:
                return
        self._since = self._active

    def _parse(self, raw: bytes) -> RequestHead:
        if len(raw) > self._server.limits.max_header_bytes:
            raise HeadError(431, f"request head larger than {self._server.limits.max_header_bytes} bytes")
        head = self._server.heads.parse(raw)
        if head.content_length > self._server.limits.max_body_bytes:
            self._server.heads.memo.pop(raw, None)
            raise HeadError(413, f"request body larger than {self._server.limits.max_body_bytes} bytes")
        return head

    def _keep_partial(self, rest: bytes) -> None:
        if len(rest) > self._server.limits.max_header_bytes:
            raise HeadError(431, f"request head larger than {self._server.limits.max_header_bytes} bytes")
        check_partial(rest)
        if not self._buffer and not self._fresh:
            self._since = self._active
        self._fresh = True
        self._buffer = rest

    def _continue(self, data: bytes) -> bytes:
        """Takes `data` in the middle of something; returns what lies beyond it."""
        if self._mode == _BODY:
            taken = data if len(data) <= self._need else data[: self._need]
            self._body += taken
            self._need -= len(taken)
            self._charge(len(taken))
            if self._need:
                return b""
            self._end_body(self._body)
            return data[len(taken) :] if self._mode == _HEAD else b""
        if self._mode == _CHUNKED:
            return self._feed_chunked(data)
        if self._mode == _IGNORE:
            self._ignored += len(data)
            if self._ignored > _LINGER_BYTES:
                self.abort()
            return b""
        data, self._buffer = self._buffer + data, b""
        if self._blocked:
            self._buffer = data
            return b""
        return data

    def _begin_body(self, head: RequestHead, rest: bytes) -> bytes:
        """Starts collecting; returns what follows the body if it ends within `rest`."""
        self._head = head
        self._since = self._active
        if head.expects and not rest:
            self._emit_continue(head)
        if head.content_length == CHUNKED:
            self._mode = _CHUNKED
            self._chunked = ChunkedBody(self._server.limits.max_body_bytes)
            return self._feed_chunked(rest) if rest else b""
        # The claimed length is only ever compared, never allocated: memory follows what arrives.
        self._mode = _BODY
        self._body = bytearray(rest)
        self._need = head.content_length - len(rest)
        self._charge(len(rest))
        return b""

    def _feed_chunked(self, data: bytes) -> bytes:
        assert self._chunked is not None
        before = len(self._chunked.body)
        following = self._chunked.feed(data)
        self._charge(len(self._chunked.body) - before)
        if following is None:
            return b""
        body = self._chunked.body
        self._chunked = None
        self._end_body(body)
        return following if self._mode == _HEAD else b""

    def _end_body(self, body: bytearray) -> None:
        self._mode = _HEAD
        self._body = bytearray()
        self._charge(-self._charged)
        self._since = self._active
        self._fresh = False
        self._dispatch(self._head, body)

    def _charge(self, size: int) -> None:
        """Accounts for bytes of an incomplete body against the listener's bound."""
        self._charged += size
        self._server.buffered_bytes += size
        if size > 0 and self._server.buffered_bytes > self._server.limits.max_buffered_bytes:
            raise HeadError(503, "too many request bodies in transfer")

    def _dispatch(self, head: RequestHead, body: Buffer) -> None:
        self._fresh = False
        exchange = HttpExchange(self, head)
        self._pending.append(exchange)
        if not head.keep_alive:
            self._mode = _IGNORE
        try:
            self._handler(HttpRequest(head, body), exchange)
        except Exception as bug:
            self._server.report_bug(bug)
            exchange.respond(
                500, b"content-type: application/json\r\n", [self._server.error_body(500, "internal error")]
            )

    def _block(self, rest: bytes) -> None:
        """Stops reading: the peer has as many requests in flight as it may."""
        self._blocked = True
        self._buffer = rest
        if self._transport is not None:
            self._transport.pause_reading()

    def _unblock(self) -> None:
        if not self._blocked or self._transport is None:
            return
        self._blocked = False
        rest, self._buffer = self._buffer, b""
        if self._stalled_since is None:
            self._transport.resume_reading()
        self.data_received(rest)

    def _refuse(self, status: int, message: str) -> None:
        """Answers with an error of this layer, after what is due before it, and ends the connection."""
        self._mode = _IGNORE
        self._lingering = True
        self._buffer = b""
        self._body = bytearray()
        self._chunked = None
        self._charge(-self._charged)
        self._since = self._server.tick
        exchange = HttpExchange(self, _REFUSED)
        self._pending.append(exchange)
        exchange.respond(status, b"content-type: application/json\r\n", [self._server.error_body(status, message)])

    # -- output --------------------------------------------------------------------------------------------------------

    def answer(self, exchange: HttpExchange, status: int, headers: bytes, chunks: Sequence[Buffer]) -> None:
        """Puts the answer of `exchange` in its place; sends it if nothing is due before it."""
        if self._transport is None:
            return
        head = exchange._head
        size = 0
        for chunk in chunks:
            size += len(chunk)
        parts: list[Buffer] = [status_line(status), headers]
        if not head.keep_alive or (self._server.registry.draining and self._is_last(exchange)):
            parts.append(_CLOSE)
            self._mode = _IGNORE
            self._closing = True
        elif head.old:
            parts.append(_KEEP)
        if status == 204 or status == 304:
            parts.append(b"\r\n")
        else:
            parts.append(content_length_line(size))
            if not head.is_head:
                parts += chunks
        pending = self._pending
        if pending[0] is not exchange:
            exchange._ready = parts
            return
        pending.popleft()
        self._out += parts
        self._out_bytes += size
        while pending and (ready := pending[0]._ready) is not None:
            self._out += ready
            self._out_bytes += sum(map(len, ready))
            pending.popleft()
        if not self._inside:
            self._flush()

    def _is_last(self, exchange: HttpExchange) -> bool:
        return self._pending[-1] is exchange and self._mode == _HEAD and not self._buffer and not self._inside

    def _emit_continue(self, head: RequestHead) -> None:
        if not self._pending:
            self._out.append(_CONTINUE)
            return
        interim = HttpExchange(self, head)
        interim._open = False
        interim._ready = [_CONTINUE]
        self._pending.append(interim)

    def _flush(self) -> None:
        transport = self._transport
        out, self._out = self._out, []
        size, self._out_bytes = self._out_bytes, 0
        if transport is None:
            return
        if size <= _JOIN_BYTES:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        if self._closing and not self._pending:
            self._finish(transport)
        elif self._blocked and len(self._pending) <= self._depth // 2:
            self._blocked_resume()

    def _blocked_resume(self) -> None:
        asyncio.get_running_loop().call_soon(self._unblock)

    def _finish(self, transport: asyncio.Transport) -> None:
        if self._lingering and transport.can_write_eof():
            # Closing with unread input resets the connection and may destroy the answer on its way.
            self._since = self._server.tick
            transport.write_eof()
        else:
            transport.close()

    # -- the registry's side -------------------------------------------------------------------------------------------

    def sweep(self, tick: int) -> None:
        server = self._server
        if self._stalled_since is not None:
            if tick - self._stalled_since > server.body_ticks:
                self.abort()
        elif self._mode == _IGNORE:
            if not self._pending and tick - self._since > server.linger_ticks:
                self.abort()
        elif self._mode != _HEAD:
            if tick - self._since > server.body_ticks:
                self._refuse(408, "request body not received in time")
        elif self._blocked or self._pending:
            return
        elif self._fresh:
            if tick - self._since > server.header_ticks:
                if self._buffer:
                    self._refuse(408, "request head not received in time")
                else:
                    self._close()
        elif tick - self._active > server.idle_ticks:
            self._close()

    def drain(self) -> None:
        if not self._pending and self._mode == _HEAD and not self._buffer:
            self._close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
