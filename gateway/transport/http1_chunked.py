"""Decodes a chunked request body and finds exactly where it ends.

Stricter than the RFC allows: sizes of at most eight hexadecimal digits, no bare CR or LF, bounded extensions and
trailers (both are read and dropped). The same bytes give the same body however they are cut.
"""

from __future__ import annotations

from gateway.transport.http1_head import HeadError

_MAX_LINE_BYTES = 256
_MAX_TRAILER_BYTES = 4096
_HEX = frozenset(b"0123456789abcdefABCDEF")
_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


class ChunkedBody:
    """One body in progress. `body` is whole once `feed` has returned the bytes that follow it."""

    __slots__ = ("_buffer", "_max_bytes", "_need", "_state", "_trailer_bytes", "body")

    def __init__(self, max_bytes: int) -> None:
        self.body = bytearray()
        self._max_bytes = max_bytes
        self._buffer = b""
        self._need = 0
        self._state = _SIZE
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes | None:
        """Takes what arrived. Returns None while the body goes on, else the bytes after its end.

        Raises HeadError with 400 (malformed) or 413 (more than `max_bytes`).
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        position = 0
        while True:
            if self._state == _DATA:
                taken = data[position : position + self._need]
                self.body += taken
                position += len(taken)
                self._need -= len(taken)
                if self._need:
                    return None
                self._state = _DATA_END
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                self._keep(data[position:])
                return None
            line = data[position:line_end]
            position = line_end + 2
            if self._line(line):
                return data[position:]

    def _keep(self, rest: bytes) -> None:
        limit = 1 if self._state == _DATA_END else _MAX_LINE_BYTES if self._state == _SIZE else _MAX_TRAILER_BYTES
        if len(rest) > limit or b"\n" in rest or b"\r" in rest[:-1]:
            raise HeadError(400, "malformed chunked body")
        self._buffer = rest

    def _line(self, line: bytes) -> bool:
        """Takes one line; returns whether it was the body's last."""
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise HeadError(400, "malformed chunked body")
        if self._state == _DATA_END:
            if line:
                raise HeadError(400, "malformed chunked body")
            self._state = _SIZE
            return False
        if self._state == _TRAILERS:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _MAX_TRAILER_BYTES or (line and line.find(b":") < 1):
                raise HeadError(400, "malformed trailers")
            return not line
        digits = line.partition(b";")[0]
        if len(line) > _MAX_LINE_BYTES or not 1 <= len(digits) <= 8 or not _HEX.issuperset(digits):
            raise HeadError(400, "malformed chunk size")
        size = int(digits, 16)
        if len(self.body) + size > self._max_bytes:
            raise HeadError(413, f"request body larger than {self._max_bytes} bytes")
        self._need = size
        self._state = _DATA if size else _TRAILERS
        return False
