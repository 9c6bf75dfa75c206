"""Status lines and content-length lines, formatted once."""

from __future__ import annotations

from http import HTTPStatus

_STATUS = {
    **{code: b"HTTP/1.1 %d \r\n" % code for code in range(200, 600)},
    **{status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus},
}
_LENGTHS = tuple(b"content-length: %d\r\n\r\n" % size for size in range(2048))


def status_line(status: int) -> bytes:
    """Returns the status line for `status`, 200 to 599; anything else is an internal error, 500."""
    return _STATUS.get(status) or _STATUS[500]


def content_length_line(size: int) -> bytes:
    """Returns the content-length line and the empty line that ends the head."""
    return _LENGTHS[size] if size < 2048 else b"content-length: %d\r\n\r\n" % size
