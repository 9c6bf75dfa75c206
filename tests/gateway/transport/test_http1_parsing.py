from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.http1 import Http1Limits, Http1Server, HttpExchange, HttpRequest
from gateway.transport.http1_head import HeadError, HeadParser, RequestHead, parse_head
from tests.gateway.transport.peers import MemoryTransport

HOST = b"host: x\r\n"
GOOD = {
    "get": b"GET /v2/health/live?a=b%20c HTTP/1.1\r\n" + HOST + b"\r\n",
    "head": b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n",
    "post": b"POST /i HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    "empty body": b"POST /i HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
    "chunked": b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nt: 1\r\n\r\n",
    "repeated field": b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\nx-a:2 \r\n\r\n",
    "absolute form": b"GET http://h/x?y HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty lines first": b"\r\n\r\nGET /e HTTP/1.1\r\n" + HOST + b"\r\n",
    "old, kept": b"GET /o HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    "upgrade offered": b"GET /u HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "crlf in the body": b"POST /b HTTP/1.1\r\n" + HOST + b"content-length: 8\r\n\r\n\r\n\r\n\r\n\r\n",
    "large": b"POST /l HTTP/1.1\r\n" + HOST + b"content-length: 40000\r\n\r\n" + b"z" * 40000,
}
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKS = POST + b"transfer-encoding: chunked\r\n\r\n"
BAD = {
    "length and coding": (400, POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding and length": (400, POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
    "two equal lengths": (400, POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc"),
    "list of lengths": (400, POST + b"content-length: 3, 3\r\n\r\nabc"),
    "negative length": (400, POST + b"content-length: -3\r\n\r\nabc"),
    "signed length": (400, POST + b"content-length: +3\r\n\r\nabc"),
    "hex length": (400, POST + b"content-length: 0x3\r\n\r\nabc"),
    "empty length": (400, POST + b"content-length:\r\n\r\nabc"),
    "overflowing length": (400, POST + b"content-length: 18446744073709551617\r\n\r\na"),
    "too large": (413, POST + b"content-length: 999999999\r\n\r\nabc"),
    "unknown coding": (501, POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "almost chunked": (400, POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "two codings": (400, POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "folded": (400, b"GET / HTTP/1.1\r\n" + HOST + b"a: 1\r\n 2\r\n\r\n"),
    "bare LF": (400, b"GET / HTTP/1.1\nhost: x\n\n"),
    "bare LF inside": (400, b"GET / HTTP/1.1\r\nhost: x\na: b\r\n\r\n"),
    "bare CR inside": (400, b"GET / HTTP/1.1\r\nhost: x\ra: b\r\n\r\n"),
    "NUL": (400, b"GET / HTTP/1.1\r\nhost: x\0y\r\n\r\n"),
    "space before colon": (400, b"GET / HTTP/1.1\r\nhost : x\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"),
    "unknown method": (400, b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "connect": (400, b"CONNECT h:1 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "version 0.9": (400, b"GET /\r\n\r\n"),
    "version 1.2": (505, b"GET / HTTP/1.2\r\n" + HOST + b"\r\n"),
    "version 2.0": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "long head": (431, b"GET / HTTP/1.1\r\n" + HOST + b"a: " + b"y" * 20_000 + b"\r\n\r\n"),
    "long head unfinished": (431, b"GET / HTTP/1.1\r\n" + HOST + b"a: " + b"y" * 20_000),
    "many fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"a%d: 1\r\n" % i for i in range(101)) + b"\r\n"),
    "expectation": (417, POST + b"expect: miracle\r\ncontent-length: 1\r\n\r\na"),
    "negative chunk": (400, CHUNKS + b"-1\r\nabc\r\n0\r\n\r\n"),
    "signed chunk": (400, CHUNKS + b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk with prefix": (400, CHUNKS + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk with LF": (400, CHUNKS + b"3\nabc\r\n0\r\n\r\n"),
    "chunk too long": (400, CHUNKS + b"3\r\nabcd\r\n0\r\n\r\n"),
    "chunk huge": (413, CHUNKS + b"fffffff\r\nabc"),
    "chunk overflowing": (400, CHUNKS + b"fffffffff\r\nabc"),
    "chunk extension endless": (400, CHUNKS + b"3;" + b"x" * 300),
    "chunk trailers endless": (400, CHUNKS + b"0\r\n" + b"a: b\r\n" * 1000),
}
Seen = tuple[bytes, bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]


class Served:
    """An in-memory connection whose handler notes each request and answers with its number."""

    def __init__(self, limits: Http1Limits | None = None, server: Http1Server | None = None) -> None:
        self.seen: list[Seen] = []
        self.bugs: list[BaseException] = []
        self.server = server or Http1Server(self.handle, limits=limits, on_bug=self.bugs.append)
        self.server.handler = self.handle
        self.connection = self.server.connection()
        self.transport = MemoryTransport()
        self.connection.connection_made(self.transport)

    def handle(self, request: HttpRequest, exchange: HttpExchange) -> None:
        headers = tuple(sorted(request.headers.items()))
        self.seen.append((request.method, request.path, request.query, headers, bytes(request.body)))
        exchange.respond(200, b"", (b"%d" % len(self.seen),))

    def feed(self, *pieces: bytes) -> Served:
        for piece in pieces:
            self.connection.data_received(piece)
        return self


@pytest.mark.parametrize("name", GOOD)
def test_each_good_request_is_one_request_however_it_is_cut(name: str) -> None:
    data = GOOD[name]
    whole = Served().feed(data)
    assert len(whole.seen) == 1
    positions = range(1, len(data)) if len(data) < 1000 else range(1, len(data), 997)
    for position in positions:
        cut = Served().feed(data[:position], data[position:])
        assert cut.seen == whole.seen, position
        assert cut.transport.written == whole.transport.written
    if len(data) < 1000:
        assert Served().feed(*(data[i : i + 1] for i in range(len(data)))).seen == whole.seen


def test_what_is_seen_is_what_was_sent() -> None:
    assert Served().feed(GOOD["get"]).seen == [(b"GET", b"/v2/health/live", b"a=b%20c", ((b"host", b"x"),), b"")]
    assert Served().feed(GOOD["chunked"]).seen[0][4] == b"abcde"
    assert Served().feed(GOOD["repeated field"]).seen[0][3] == ((b"host", b"x"), (b"x-a", b"1, 2"))
    assert Served().feed(GOOD["absolute form"]).seen[0][1:3] == (b"/x", b"y")
    assert Served().feed(GOOD["head"]).transport.written.endswith(b"content-length: 1\r\n\r\n")
    assert b"connection: keep-alive\r\n" in Served().feed(GOOD["old, kept"]).transport.written


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=6), data=st.data())
def test_pipelined_requests_do_not_depend_on_the_cuts(order: list[str], data: st.DataObject) -> None:
    stream = b"".join(GOOD[name] for name in order)
    whole = Served().feed(stream)
    assert len(whole.seen) == len(order)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)]) if a < b]
    assert Served().feed(*pieces).seen == whole.seen


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_ends_the_connection(name: str) -> None:
    status, data = BAD[name]
    for pieces in ((data,), (data[:30], data[30:]), tuple(data[i : i + 7] for i in range(0, len(data), 7))):
        served = Served().feed(*pieces, GOOD["get"])
        assert served.seen == []
        assert served.transport.written.startswith(b"HTTP/1.1 %d " % status), served.transport.written
        assert served.transport.written.count(b"HTTP/1.1") == 1
        assert b"connection: close\r\n" in served.transport.written
        assert served.transport.ended or served.transport.closed
        assert served.server.buffered_bytes == 0


def test_bad_input_after_good_answers_the_good() -> None:
    served = Served().feed(GOOD["get"] + GOOD["post"] + BAD["two lengths"][1])
    assert len(served.seen) == 2
    assert served.transport.written.count(b"HTTP/1.1 200") == 2
    assert served.transport.written.count(b"HTTP/1.1 400") == 1


def same(left: RequestHead, right: RequestHead) -> bool:
    names = [name for name in dir(RequestHead) if not name.startswith("_")]
    assert {"content_length", "headers", "keep_alive", "method", "path"} <= {*names}
    return all(getattr(left, name) == getattr(right, name) for name in names)


@pytest.mark.parametrize("name", GOOD)
def test_the_memo_repeats_what_the_parser_said(name: str) -> None:
    data = GOOD[name].lstrip(b"\r\n")
    raw = data[: data.index(b"\r\n\r\n") + 4]
    heads = HeadParser(max_header_count=100, memo_entries=16, max_body_bytes=50_000)
    first = heads.parse(raw)
    assert same(first, parse_head(raw, 100))
    assert heads.memo == ({} if name == "chunked" else {raw: first})
    served = Served().feed(GOOD[name], GOOD[name], GOOD[name])
    assert len(served.seen) == 3
    assert len(set(served.seen)) == 1
    assert Served(Http1Limits(memo_entries=0)).feed(GOOD[name], GOOD[name]).seen == served.seen[:2]


def test_refused_heads_are_never_remembered() -> None:
    served = Served()
    for _, data in BAD.values():
        Served(server=served.server).feed(data)
    assert served.server.heads.memo == {}


def test_the_memo_is_bounded() -> None:
    heads = HeadParser(max_header_count=100, memo_entries=10, max_body_bytes=1000)
    for number in range(1000):
        heads.parse(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number)
        assert len(heads.memo) <= 10
    heads.parse(b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 5000 + b"\r\n\r\n")
    assert max(map(len, heads.memo)) < 4096


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([*GOOD.values(), *(bad for _, bad in BAD.values())])))
)
def test_no_bytes_break_the_connection(pieces: list[bytes]) -> None:
    served = Served().feed(*pieces)
    served.connection.connection_lost(None)
    assert served.bugs == []
    assert served.server.buffered_bytes == 0
    assert len(served.server.registry) == 0


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_gives_the_same_with_and_without_memo(name: str, position: int, value: int) -> None:
    data = bytearray(GOOD[name])
    data[position % len(data)] = value
    remembering, forgetting = Served(), Served(Http1Limits(memo_entries=0))
    for served in (remembering, forgetting):
        served.feed(GOOD[name], GOOD[name], bytes(data))
    assert remembering.seen == forgetting.seen
    assert remembering.transport.written == forgetting.transport.written


def test_an_oversized_request_leaves_nothing_counted() -> None:
    heads = HeadParser(max_header_count=100, memo_entries=16, max_body_bytes=1000)
    kept = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    heads.parse(kept)
    for number in range(2000):
        with pytest.raises(HeadError, match="larger than 1000"):
            heads.parse(
                b"POST /%d HTTP/1.1\r\nhost: x\r\npad: %s\r\ncontent-length: 1001\r\n\r\n" % (number, b"x" * 4000)
            )
    assert kept in heads.memo, "what was refused took the place of what is used"
