"""The answering half of an HTTP/1.1 connection: answers leave in the order of the requests, joined per read.

Decides when the connection closes: after an answer that says so, and once nothing is due any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gateway.transport.http1_exchange import HttpExchange
from gateway.transport.http1_head import RequestHead
from gateway.transport.http1_status import content_length_line, status_line
from gateway.transport.limits import ConnectionRegistry
from gateway.transport.listener import Buffer

WRITE_BYTES = 1024 * 1024
"""What may wait in the transport before a peer that does not read is no longer read."""
_JOIN_BYTES = 64 * 1024
"""Up to this many bytes one joined write is cheaper than many."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_KEEP = b"connection: keep-alive\r\n"


class Http1Output(asyncio.Protocol):
    """Owns the requests not yet answered, in order, and the bytes due at the end of this read.

    `_ready_bytes` are in answers that wait for one before them.
    """

    def __init__(self, registry: ConnectionRegistry, depth: int) -> None:
        self._registry = registry
        self._depth = depth
        self._transport: asyncio.Transport | None = None
        self._pending: deque[HttpExchange] = deque()
        self._out: list[Buffer] = []
        self._out_bytes = 0
        self._ready_bytes = 0
        self._inside = False
        self._behind = 0
        self._ending = False
        self._closing = False
        self._lingering = False
        self._blocked = False
        self._buffer = b""
        self._stalled_since: int | None = None

    @property
    def peer(self) -> object:
        return self._transport.get_extra_info("peername") if self._transport is not None else None

    def answer(self, exchange: HttpExchange, status: int, headers: bytes, chunks: Sequence[Buffer]) -> None:
        """Puts the answer of `exchange` in its place; sends it if nothing is due before it."""
        if self._transport is None:
            return
        head = exchange.head
        size = 0
        for chunk in chunks:
            size += len(chunk)
        parts: list[Buffer] = [status_line(status), headers]
        if not head.keep_alive or (self._registry.draining and self._is_last(exchange)):
            parts.append(_CLOSE)
            self._ending = True
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
            exchange.ready = parts
            self._ready_bytes += sum(map(len, parts))
            return
        pending.popleft()
        self._out += parts
        self._out_bytes += size
        while pending and (ready := pending[0].ready) is not None:
            self._out += ready
            moved = sum(map(len, ready))
            self._ready_bytes -= moved
            self._out_bytes += moved
            pending.popleft()
        if not self._inside:
            self._flush()

    def _is_last(self, exchange: HttpExchange) -> bool:
        """Whether nothing was begun after `exchange`, so that its answer may be the last."""
        more = self._buffer or (self._inside and self._behind)
        return self._pending[-1] is exchange and not more and not self._receiving()

    def _receiving(self) -> bool:
        """Whether a body is being collected."""
        raise NotImplementedError

    def _unblock(self) -> None:
        """Goes on with input that was held back."""
        raise NotImplementedError

    def _start_closing(self) -> None:
        """Starts the time the peer has to take the last answer and leave."""
        raise NotImplementedError

    def _emit_continue(self, head: RequestHead) -> None:
        """Asks for the body, in turn."""
        if not self._pending:
            self._out.append(_CONTINUE)
            return
        interim = HttpExchange(self, head)
        interim.open = False
        interim.ready = [_CONTINUE]
        self._ready_bytes += len(_CONTINUE)
        self._pending.append(interim)

    def _flush(self) -> None:
        transport = self._transport
        out, self._out = self._out, []
        size, self._out_bytes = self._out_bytes, 0
        if transport is None or transport.is_closing():
            return
        if size <= _JOIN_BYTES:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        if self._closing and not self._pending:
            self._start_closing()
            if self._lingering and transport.can_write_eof():
                # Closing with unread input resets the connection and may destroy the answer on its way.
                transport.write_eof()
            else:
                transport.close()
        elif self._blocked and self._has_room():
            self._unblock_soon()

    def _has_room(self) -> bool:
        """Whether a connection whose input was held back may go on: enough of what it asked for has been sent."""
        return len(self._pending) <= self._depth // 2 and self._ready_bytes <= WRITE_BYTES

    def _unblock_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._unblock)
