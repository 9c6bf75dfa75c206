from __future__ import annotations

import random
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import ngh2
import pytest

from gateway.transport.http2 import (
    ClientResult,
    Http2Client,
    Http2ClientConfig,
    Http2Limits,
    Http2Server,
    Http2Unavailable,
    ServerStream,
)
from tests.gateway.transport.peers import RawServerProtocol, listening, run, serving, until

REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/M"), (b":authority", b"x")]
GRPC_REQUEST = [*REQUEST, (b"te", b"trailers"), (b"content-type", b"application/grpc")]
OK = [(b":status", b"200")]


def echo(stream: ServerStream) -> None:
    stream.respond(OK, (stream.body,), [(b"t", b"1")])


def never(stream: ServerStream) -> None: ...


class Results(list[ClientResult]):
    async def wait(self, count: int) -> None:
        await until(lambda: len(self) >= count)
        assert len(self) == count


async def connected(port: int, config: Http2ClientConfig | None = None, **callbacks: Any) -> Http2Client:
    client = Http2Client(config, **callbacks)
    await client.connect("127.0.0.1", port)
    return client


def test_a_stock_grpc_server() -> None:
    class Echo(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            return grpc.unary_unary_rpc_method_handler(lambda body, context: body)

    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    async def test() -> None:
        client = await connected(port)
        results = Results()
        bodies = [random.Random(size).randbytes(size) for size in (0, 1, 100_000, 5_000_000)]
        for body in bodies:
            client.request(GRPC_REQUEST, (b"\0" + len(body).to_bytes(4, "big"), body), results.append)
        await results.wait(4)
        assert sorted(bytes(result.body)[5:] for result in results) == sorted(bodies)
        assert all(result.trailers[b"grpc-status"] == b"0" for result in results)
        client.close()

    try:
        run(test)
    finally:
        server.stop(None).wait()


def test_a_sink_that_raises_harms_nobody() -> None:
    async def test() -> None:
        bugs: list[BaseException] = []
        async with listening(Http2Server(echo)) as port:
            client = await connected(port, on_bug=bugs.append)
            results = Results()

            def broken(result: ClientResult) -> None:
                raise RuntimeError("bug")

            client.request(REQUEST, b"1", results.append)
            client.request(REQUEST, b"2", broken)
            client.request(REQUEST, b"3", results.append)
            await results.wait(2)
            client.request(REQUEST, b"4", results.append)
            await results.wait(3)
            assert [result.body for result in results] == [b"1", b"3", b"4"]
            assert [str(bug) for bug in bugs] == ["bug"]
            client.close()

    run(test)


def test_a_cancelled_request_has_no_result() -> None:
    async def test() -> None:
        resets: list[int] = []

        def handle(stream: ServerStream) -> None:
            if stream.body == b"ask":
                echo(stream)
            stream.on_reset = lambda: resets.append(stream.stream_id)

        async with listening(Http2Server(handle)) as port:
            client = await connected(port)
            results = Results()
            before_sending = client.request(REQUEST, b"never seen", results.append)
            before_sending.cancel()
            late = client.request(REQUEST, b"held", results.append)
            client.request(REQUEST, b"ask", results.append)
            await results.wait(1)
            late.cancel()
            late.cancel()
            await until(lambda: resets == [late.stream_id])
            assert client.load == 0
            client.close()
            assert len(results) == 1

    run(test)


def test_the_peers_stream_limit_is_respected_and_what_waits_is_bounded() -> None:
    async def test() -> None:
        held: list[ServerStream] = []
        server = Http2Server(held.append, limits=Http2Limits(max_concurrent_streams=2))
        async with listening(server) as port:
            client = await connected(port, Http2ClientConfig(max_queued_requests=3))
            results = Results()
            client.request(REQUEST, b"first", results.append)
            await until(lambda: len(held) == 1)
            streams = [client.request(REQUEST, b"%d" % i, results.append) for i in range(4)]
            assert not client.available
            with pytest.raises(Http2Unavailable):
                client.request(REQUEST, b"", results.append)
            streams[1].cancel()
            answered = 0
            while answered < 4:
                await until(lambda wanted=answered: len(held) > wanted)
                assert len(held) <= answered + 2
                echo(held[answered])
                answered += 1
            await results.wait(4)
            assert [result.body for result in results] == [b"first", b"0", b"2", b"3"]
            client.close()

    run(test)


def test_what_a_reset_says_about_retrying() -> None:
    async def test() -> None:
        async with listening(Http2Server(lambda stream: stream.reset(stream.body[0]))) as port:
            client = await connected(port)
            for code, processed in ((7, False), (8, True), (2, True)):
                results = Results()
                client.request(REQUEST, bytes([code]), results.append)
                await results.wait(1)
                assert (results[0].error is not None, results[0].processed) == (True, processed)
            client.close()

    run(test)


def test_a_lost_connection_fails_everything_once() -> None:
    async def test() -> None:
        server = Http2Server(never)
        lost: list[Http2Client] = []
        async with listening(server) as port:
            client = await connected(port, on_lost=lost.append)
            results = Results()
            client.request(REQUEST, b"sent", results.append)
            await until(lambda: client._writes > 1)
            server.registry.abort_all()
            await results.wait(1)
            assert (results[0].error, results[0].processed) == ("connection lost", True)
            assert lost == [client]
            assert not client.available
            with pytest.raises(Http2Unavailable):
                client.request(REQUEST, b"", results.append)
            client.close()

    run(test)


def test_what_never_left_was_not_processed() -> None:
    async def test() -> None:
        async with listening(Http2Server(never)) as port:
            client = await connected(port)
            results = Results()
            client.request(REQUEST, b"unsent", results.append)
            client.close()
            await results.wait(1)
            assert not results[0].processed

    run(test)


class Scripted(RawServerProtocol):
    """An HTTP/2 server of ngh2 alone: `script(session, events)` is called after each read."""

    def __init__(self, script: Callable[[ngh2.Connection, list[ngh2.Event]], None]) -> None:
        self.session = ngh2.Connection(ngh2.Role.SERVER)
        self.script = script

    def begin(self) -> None:
        self.session.initiate_connection({})
        self.transport.write(self.session.data_to_send())

    def data_received(self, data: bytes) -> None:
        self.session.receive_data(data)
        self.script(self.session, self.session.events())
        self.transport.write(self.session.data_to_send())


def test_goaway_separates_what_may_be_retried() -> None:
    async def test() -> None:
        seen: list[int] = []

        def script(session: ngh2.Connection, events: list[ngh2.Event]) -> None:
            seen.extend(event.stream_id for event in events if type(event) is ngh2.RequestReceived)
            if len(seen) == 3:
                session.send_goaway(0, last_stream_id=seen[0])
                session.send_response(seen[0], OK, end_stream=True)

        lost: list[Http2Client] = []
        results = Results()
        async with serving(lambda: Scripted(script)) as port:
            client = await connected(port, on_lost=lost.append)
            for number in range(3):
                client.request(REQUEST, b"%d" % number, results.append)
            await results.wait(3)
            client.close()
        assert sorted((result.error is None, result.processed) for result in results) == [
            (False, False),
            (False, False),
            (True, True),
        ]
        assert lost == [client]

    run(test)


def test_an_answer_too_large_and_a_peer_that_speaks_no_http2() -> None:
    async def test() -> None:
        async with listening(Http2Server(echo)) as port:
            client = await connected(port, Http2ClientConfig(max_response_bytes=1000))
            results = Results()
            client.request(REQUEST, bytes(1001), results.append)
            await results.wait(1)
            assert results[0].error == "response too large"
            client.request(REQUEST, bytes(1000), results.append)
            await results.wait(2)
            assert results[1].error is None
            client.close()

        class Garbage(RawServerProtocol):
            def begin(self) -> None:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with serving(Garbage) as port:
            client = await connected(port)
            await until(lambda: not client.available)
            with pytest.raises(Http2Unavailable):
                client.request(REQUEST, b"", results.append)

    run(test)


def test_a_silent_peer_is_pinged_and_given_up() -> None:
    async def test() -> None:
        config = Http2ClientConfig(ping_interval_ms=20, ping_timeout_ms=20)
        results = Results()
        async with serving(RawServerProtocol) as port:
            client = await connected(port, config)
            client.request(REQUEST, b"", results.append)
            await results.wait(1)
            assert results[0].error == "connection lost"
        async with listening(Http2Server(never)) as port:
            client = await connected(port, config)
            client.request(REQUEST, b"", results.append)
            sent = client._writes
            await until(lambda: client._writes > sent + 4)
            assert client.available
            client.close()

    run(test)
