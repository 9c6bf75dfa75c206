"""Decides what one HTTP/1.1 request head means, strictly, and remembers the answer.

A head is the bytes from a clean message boundary up to and including the empty line. The parse is a pure function of
those bytes, so that a memo keyed by them can only ever repeat what httptools and the checks here said. Clients repeat
themselves: with the memo a request costs one dictionary look-up. Whatever two implementations might read differently
(bare CR or LF, folded lines, both framings, a repeated length) is refused.
"""

from __future__ import annotations

from typing import TypeAlias

import httptools

_MEMO_MAX_HEAD_BYTES = 4096
_MEMO_MAX_TOTAL_BYTES = 2 * 1024 * 1024

CHUNKED = -1
"""`RequestHead.content_length` of a chunked body."""


class HeadError(Exception):
    """A head that is refused: the HTTP `status` to answer with before closing, and a sentence for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestHead:
    """One parsed head. Shared between requests with the same bytes: nobody may change it or its headers."""

    __slots__ = ("content_length", "expects", "headers", "is_head", "keep_alive", "method", "old", "path", "query")

    def __init__(self, method: bytes, path: bytes, query: bytes, headers: dict[bytes, bytes], *, old: bool) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.old = old
        self.content_length = 0
        self.keep_alive = not old
        self.expects = False
        self.is_head = method == b"HEAD"


Memo: TypeAlias = dict[bytes, RequestHead]


class HeadParser:
    """Parses heads and owns the bounded memo of them. One per listener."""

    def __init__(self, *, max_header_count: int, memo_entries: int, max_body_bytes: int) -> None:
        self.memo: Memo = {}
        self._max_count = max_header_count
        self._memo_entries = memo_entries
        self._max_body = max_body_bytes
        self._memo_bytes = 0

    def parse(self, raw: bytes) -> RequestHead:
        """Returns what `raw`, a complete head, means. Raises HeadError."""
        head = parse_head(raw, self._max_count)
        if head.content_length > self._max_body:
            raise HeadError(413, f"request body larger than {self._max_body} bytes")
        size = len(raw)
        if size <= _MEMO_MAX_HEAD_BYTES and self._memo_entries and head.content_length != CHUNKED and not head.expects:
            if len(self.memo) >= self._memo_entries or self._memo_bytes + size > _MEMO_MAX_TOTAL_BYTES:
                # Starting afresh is cheaper than any order of use: what is hot is back after one parse.
                self.memo.clear()
                self._memo_bytes = 0
            self.memo[raw] = head
            self._memo_bytes += size
        return head


class _Fields:
    """What httptools found."""

    __slots__ = ("complete", "fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(raw: bytes, max_header_count: int) -> RequestHead:
    """Returns what `raw` means, without the memo. Raises HeadError with 400, 417, 431, 501 or 505."""
    _check_bytes(raw)
    old = _check_version(raw)
    found = _Fields()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an upgrade is an offer: answered in HTTP/1.1 it is declined
    except httptools.HttpParserError as error:
        raise HeadError(400, "malformed HTTP request") from error
    method = parser.get_method()
    if not found.complete or method == b"CONNECT":
        raise HeadError(400, "malformed HTTP request")
    if len(found.fields) > max_header_count:
        raise HeadError(431, f"more than {max_header_count} header fields")
    path, query = _split_target(found.target)
    headers = _join_fields(found.fields)
    if not old and b"host" not in headers:
        raise HeadError(400, "Host header missing")
    head = RequestHead(method, path, query, headers, old=old)
    _set_framing(head)
    return head


def check_partial(data: bytes) -> None:
    """Raises HeadError for the beginning of a head that no continuation can make right."""
    if data.count(b"\n") != data.count(b"\r\n") or b"\0" in data:
        raise HeadError(400, "malformed HTTP request")


def _check_bytes(raw: bytes) -> None:
    lines = raw.count(b"\r\n")
    if raw.count(b"\n") != lines or raw.count(b"\r") != lines or b"\0" in raw:
        raise HeadError(400, "malformed HTTP request")
    if b"\r\n " in raw or b"\r\n\t" in raw:
        raise HeadError(400, "folded header lines are not accepted")


def _check_version(raw: bytes) -> bool:
    """Returns whether the request is HTTP/1.0."""
    version = raw[: raw.index(b"\r\n")].rpartition(b" ")[2]
    if version == b"HTTP/1.1":
        return False
    if version == b"HTTP/1.0":
        return True
    if len(version) == 8 and version.startswith(b"HTTP/") and version[5:6].isdigit() and version[7:].isdigit():
        raise HeadError(505, "HTTP version not supported")
    raise HeadError(400, "malformed HTTP request")


def _split_target(target: bytes) -> tuple[bytes, bytes]:
    target = target.partition(b"#")[0]
    if not target.startswith((b"/", b"*")):
        # absolute form, as to a proxy: scheme://authority/path
        scheme, mark, rest = target.partition(b"://")
        if not mark or scheme.lower() not in (b"http", b"https"):
            raise HeadError(400, "malformed request target")
        slash = rest.find(b"/")
        target = rest[slash:] if slash >= 0 else b"/"
    path, _, query = target.partition(b"?")
    return path, query


def _join_fields(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        text = value.strip(b" \t")
        if key in headers:
            if key in (b"host", b"content-length", b"transfer-encoding"):
                raise HeadError(400, f"repeated {key.decode('latin-1')} header")
            text = headers[key] + b", " + text
        headers[key] = text
    return headers


def _set_framing(head: RequestHead) -> None:
    headers = head.headers
    length = headers.get(b"content-length")
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or head.old:
            raise HeadError(400, "ambiguous body length")
        if coding.lower() != b"chunked":
            raise HeadError(501, "transfer coding not supported")
        head.content_length = CHUNKED
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise HeadError(400, "malformed Content-Length")
        head.content_length = int(length)
    expect = headers.get(b"expect")
    if expect is not None and not head.old:
        if expect.lower() != b"100-continue":
            raise HeadError(417, "expectation not supported")
        head.expects = True
    connection = headers.get(b"connection")
    if connection is not None:
        options = [option.strip() for option in connection.lower().split(b",")]
        if b"close" in options:
            head.keep_alive = False
        elif head.old:
            head.keep_alive = b"keep-alive" in options
