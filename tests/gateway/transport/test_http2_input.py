"""Bodies on their way in: bounded for the whole listener, and not waited for where the path is unknown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import grpc
import ngh2
import pytest

from gateway.transport.http2 import Http2Limits, Http2Server, ServerStream
from tests.gateway.transport.peers import listening, run, until

OK = [(b":status", b"200"), (b"content-type", b"application/grpc")]
UNIMPLEMENTED = [*OK, (b"grpc-status", b"12"), (b"grpc-message", b"no")]
TRAILERS = [(b"grpc-status", b"0")]
REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/s/Known"),
    (b":authority", b"x"),
    (b"content-type", b"application/grpc"),
]


def answer(stream: ServerStream) -> None:
    if stream.headers[b":path"] == b"/s/Known":
        stream.respond(OK, (stream.body,) if stream.body else (), TRAILERS)
    else:
        assert stream.body == b""
        stream.respond_trailers_only(UNIMPLEMENTED)


class Peer:
    """One client connection driven by hand."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.session = ngh2.Connection(ngh2.Role.CLIENT)
        self.session.initiate_connection({})
        self.resets: list[int] = []
        self.ended: list[int] = []

    async def open(self) -> Peer:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def begin(self, size: int, *, path: bytes = b"/s/Known") -> int:
        """Sends a head and `size` bytes of a body that does not end."""
        stream = self.session.send_request([(n, path if n == b":path" else v) for n, v in REQUEST])
        self.more(stream, bytes(size))
        return stream

    def more(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.session.send_data(stream, data, end_stream=end)
        self.writer.write(self.session.data_to_send())

    async def read(self) -> None:
        data = await self.reader.read(65536)
        assert data, "the connection was closed"
        self.session.receive_data(data)
        for event in self.session.events():
            if isinstance(event, ngh2.StreamClosed):
                (self.resets if event.error_code else self.ended).append(event.stream_id)
        self.writer.write(self.session.data_to_send())


def test_incomplete_bodies_are_bounded_for_all_connections_together() -> None:
    async def test() -> None:
        limits = Http2Limits(max_buffered_bytes=1 << 20, max_total_buffered_bytes=100_000)
        server = Http2Server(answer, limits=limits)
        async with listening(server) as port:
            first, second = await Peer(port).open(), await Peer(port).open()
            kept = first.begin(60_000)
            await until(lambda: server.buffered_bytes == 60_000)
            refused = second.begin(60_000)
            while refused not in second.resets:
                await second.read()
            assert server.buffered_bytes == 60_000
            first.more(kept, b"end", end=True)
            while kept not in first.ended:
                await first.read()
            assert server.buffered_bytes == 0
            again = second.begin(60_000)
            await until(lambda: server.buffered_bytes == 60_000)
            assert again not in second.resets
            first.begin(100)
            await until(lambda: server.buffered_bytes == 60_100)
            second.writer.close()
            await until(lambda: server.buffered_bytes == 100)
            first.writer.close()
            await until(lambda: server.buffered_bytes == 0)

    run(test)


@pytest.mark.parametrize("how", ["reset", "too large", "late"])
def test_what_was_charged_is_given_back(how: str) -> None:
    async def test() -> None:
        limits = Http2Limits(max_body_bytes=50_000, body_timeout_ms=60 if how == "late" else 30_000)
        server = Http2Server(answer, limits=limits)
        async with listening(server) as port:
            peer = await Peer(port).open()
            stream = peer.begin(40_000)
            if how != "late":
                await until(lambda: server.buffered_bytes == 40_000)
            if how == "reset":
                peer.session.reset_stream(stream, 8)
                peer.writer.write(peer.session.data_to_send())
            elif how == "too large":
                peer.more(stream, bytes(20_000))
            while how != "reset" and stream not in peer.resets:
                await peer.read()
            await until(lambda: server.buffered_bytes == 0)
            peer.writer.close()

    run(test)


def test_a_streaming_call_is_answered_while_its_client_waits() -> None:
    async def test() -> None:
        server = Http2Server(answer, known_paths=frozenset({b"/s/Known"}))
        done = threading.Event()

        def wait() -> Iterator[bytes]:
            yield b"first"
            done.wait(20)

        def talk(port: int) -> None:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                try:
                    call = channel.stream_stream("/s/Streaming")(wait(), timeout=10)
                    with pytest.raises(grpc.RpcError) as caught:
                        next(call)
                    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
                    assert channel.unary_unary("/s/Known")(b"hello", timeout=10) == b"hello"
                    with pytest.raises(grpc.RpcError) as caught:
                        channel.unary_unary("/s/Unknown")(bytes(1_000_000), timeout=10)
                    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
                finally:
                    done.set()

        async with listening(server) as port:
            await asyncio.to_thread(talk, port)
            assert server.buffered_bytes == 0

    run(test)
