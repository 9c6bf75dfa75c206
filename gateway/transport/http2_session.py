"""What both ends of an HTTP/2 connection share: an ngh2 session, and getting its bytes out.

Bytes leave once per read and, for what was submitted outside a read, once per loop turn. They are taken from the
session in pieces and only while the transport takes them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeAlias, cast

from ngh2 import Connection, NGH2Error, Setting

Header: TypeAlias = tuple[bytes, bytes]

CANCEL = 8
INTERNAL_ERROR = 2
NO_ERROR = 0
REFUSED_STREAM = 7

_WRITE_BYTES = 1024 * 1024
_WRITES_PER_TURN = 4


class Http2Session(asyncio.Protocol):
    """Owns the session and the transport of one connection."""

    def __init__(self, session: Connection) -> None:
        self._session = session
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._writes = 0
        self._inside = False
        self._flush_due = False
        self._paused = False
        self._closing = False

    @property
    def peer(self) -> object:
        """The peer's address as the socket names it; None once it has left."""
        return self._transport.get_extra_info("peername") if self._transport is not None else None

    def _attach(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        attached = self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        attached.set_write_buffer_limits(high=_WRITE_BYTES)
        return attached

    def _initiate(
        self, *, stream_window_bytes: int, connection_window_bytes: int, max_frame_bytes: int, more: dict[int, int]
    ) -> None:
        """Sends the preface and the settings: windows and frames large enough for tensors, and `more`."""
        self._session.initiate_connection(
            {
                int(Setting.INITIAL_WINDOW_SIZE): stream_window_bytes,
                int(Setting.MAX_FRAME_SIZE): max_frame_bytes,
                **more,
            }
        )
        self._session.set_local_window_size(connection_window_bytes)
        self._flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def _schedule(self) -> None:
        """Sees to it that what was submitted leaves: at the end of this read, else in the next turn of the loop."""
        if not self._inside and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hands what is due to the transport, in pieces, as long as it takes them."""
        self._flush_due = False
        transport = self._transport
        if self._paused or transport is None or transport.is_closing():
            return
        try:
            data = self._session.data_to_send(_WRITE_BYTES)
            if data:
                self._writes += 1
                transport.write(data)
                if len(data) == _WRITE_BYTES and not self._flush_more(transport):
                    return
            self._flushed(transport)
        except NGH2Error:
            self._fail()

    def _flush_more(self, transport: asyncio.Transport) -> bool:
        """Goes on writing; returns whether the session has nothing more to send now."""
        for _ in range(_WRITES_PER_TURN):
            if self._paused:
                return False
            data = self._session.data_to_send(_WRITE_BYTES)
            if data:
                transport.write(data)
            if len(data) < _WRITE_BYTES:
                return True
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        return False

    def _flushed(self, transport: asyncio.Transport) -> None:
        """Called when the session has nothing more to send now."""
        raise NotImplementedError

    def _fail(self) -> None:
        """Ends a connection whose peer does not speak HTTP/2, saying so where the session still can."""
        self._closing = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        with contextlib.suppress(NGH2Error):
            transport.write(self._session.data_to_send())
        transport.close()

    def abort(self) -> None:
        """Closes now, losing what was not sent."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
