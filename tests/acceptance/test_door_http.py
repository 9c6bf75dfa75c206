"""HTTP itself: wrong paths, methods, codings, and bytes that are no HTTP/1.1; neighbours notice nothing."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.acceptance.clients import bare, refused, rest
from tests.support.processes import Gateway

pytestmark = pytest.mark.usefixtures("neighbour")
RIGHT = json.dumps(
    {"inputs": [{"name": name, "datatype": "INT32", "shape": [1, 16], "data": [1] * 16} for name in "AB"]}
).encode()


@pytest.mark.parametrize(
    ("method", "path", "status", "named"),
    [
        ("GET", "/", 404, "/"),
        ("GET", "/v1/models/add_sub", 404, "/v1/models/add_sub"),
        ("POST", "/v2/models/add_sub/inferx", 404, "inferx"),
        ("POST", "/v2/models//infer", 404, ""),
        ("POST", "/v2/models/%ff/infer", 404, ""),
        ("POST", "/v2/models/../../etc/passwd", 404, ""),
        ("GET", "/v2/models/add_sub/infer", 405, "POST"),
        ("DELETE", "/v2/models/add_sub", 405, "GET"),
        ("PUT", "/v2/health/live", 405, "GET"),
        ("OPTIONS", "/v2", 405, "GET"),
        ("POST", "/v2/models/nobody/infer", 404, "nobody"),
        ("GET", "/v2/models/nobody", 404, "nobody"),
        ("GET", "/v2/models/nobody/ready", 404, "nobody"),
        ("POST", "/v2/models/add_sub/versions/9/infer", 404, "9"),
        ("POST", "/v2/models/add_sub/versions/01/infer", 404, "01"),
        ("POST", "/v2/models/add_sub/versions/one/infer", 404, "one"),
        ("POST", "/v2/models/add_sub.v1/infer", 404, "add_sub.v1"),
        ("POST", "/v2/repository/models/add_sub/unload", 501, "unload"),
        ("GET", "/v2/systemsharedmemory/status", 501, "systemsharedmemory"),
    ],
)
def test_paths_and_methods(gateway: Gateway, method: str, path: str, status: int, named: str) -> None:
    body = RIGHT if method == "POST" else None
    refused(rest(gateway.rest, path, body, method=method), named, status)


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", RIGHT, 501),
        ("gzip", RIGHT, 400),
        ("gzip", gzip.compress(RIGHT)[:-9], 400),
        ("gzip", gzip.compress(bytes((64 << 20) + 1)), 413),
    ],
    ids=["unknown", "not gzip", "cut short", "a bomb"],
)
def test_content_codings(gateway: Gateway, coding: str, body: bytes, status: int) -> None:
    answer = rest(gateway.rest, "/v2/models/add_sub/infer", body, headers={"Content-Encoding": coding})
    refused(answer, "", status)


HEAD = b"POST /v2/models/add_sub/infer HTTP/1.1\r\nHost: t\r\n"
SECOND = b"POST /v2/models/add_sub/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, (400,)),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND, (400,)),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + SECOND, (400,)),
        (HEAD + b"Content-Length: 5, 6\r\n\r\nhello", (400,)),
        (HEAD + b"Content-Length: +5\r\n\r\nhello", (400,)),
        (HEAD + b"Content-Length: -5\r\n\r\nhello", (400,)),
        (HEAD + b"Content-Length: 0x5\r\n\r\nhello", (400,)),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\nhello", (400, 413)),
        (HEAD + b"Content-Length : 5\r\n\r\nhello", (400,)),
        (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400, 501)),
        (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", (400, 501)),
        (HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", (400, 501)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", (400,)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx\r\n0\r\n\r\n", (400, 413)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", (400,)),
        (HEAD + b" folded: yes\r\n\r\n", (400,)),
        (HEAD + b"no colon\r\n\r\n", (400,)),
        (HEAD + b"nul: a\0b\r\n\r\n", (400,)),
        (HEAD + b"bare: a\rb\r\n\r\n", (400,)),
        (b"POST /v2/models/add_sub/infer HTTP/1.1\nHost: t\nContent-Length: 0\n\n\r\n\r\n", (400,)),
        (b"POST /v2/models/add_sub/infer HTTP/1.1\r\nContent-Length: 0\r\n\r\n", (400,)),
        (b"GET /v2 HTTP/9.9\r\nHost: t\r\n\r\n", (400, 505)),
        (b"GET\r\n\r\n", (400,)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (400,)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", (400, 505)),
        (b"GET /v2 HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", (431,)),
        (b"GET /v2 HTTP/1.1\r\nHost: t\r\n" + b"X: a\r\n" * 200 + b"\r\n", (431,)),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", (414, 431)),
        (HEAD + b"Content-Length: 67108865\r\n\r\n", (413,)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4000001\r\n", (413,)),
    ],
    ids=lambda value: repr(value[-60:])[2:50] if isinstance(value, bytes) else "",
)  # fmt: skip
def test_http_itself(gateway: Gateway, data: bytes, statuses: tuple[int, ...]) -> None:
    """One answer, then the connection ends: nothing behind the broken request is read as another one."""
    answer = bare(gateway.rest, data)
    refused(answer, "", *statuses)
    assert answer.headers["connection"] == "close"
    assert b"HTTP/1.1" not in answer.body
