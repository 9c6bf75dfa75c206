from __future__ import annotations

import asyncio
import random

import grpc
import ngh2
import pytest

from gateway.transport.http2 import ClientResult, Http2Client, Http2Limits, Http2Server, ServerStream
from tests.gateway.transport.peers import listening, run, until

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/service/Method"),
    (b":authority", b"x"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
OK = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS = [(b"grpc-status", b"0")]


def echo(stream: ServerStream) -> None:
    stream.respond(OK, (stream.body,) if stream.body else (), TRAILERS)


class Held:
    """A handler that leaves the answers to the test."""

    def __init__(self) -> None:
        self.streams: list[ServerStream] = []
        self.gone: list[int] = []

    def __call__(self, stream: ServerStream) -> None:
        self.streams.append(stream)
        stream.on_reset = lambda: self.gone.append(stream.stream_id)


async def connected(port: int) -> Http2Client:
    client = Http2Client()
    await client.connect("127.0.0.1", port)
    return client


async def ask(client: Http2Client, body: bytes = b"", headers: list[tuple[bytes, bytes]] = REQUEST) -> ClientResult:
    result: asyncio.Future[ClientResult] = asyncio.get_running_loop().create_future()
    client.request(headers, body, result.set_result)
    return await result


def test_stock_grpc_client() -> None:
    async def test() -> None:
        async with listening(Http2Server(echo)) as port:

            def talk() -> None:
                options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
                with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                    call = channel.unary_unary("/service/Method")
                    for size in (0, 1, 1000, 70_000, 5_000_000):
                        body = random.Random(size).randbytes(size)
                        assert call(body, timeout=10) == body
                    waiting = [call.future(b"%d" % i, timeout=10) for i in range(300)]
                    assert [answer.result() for answer in waiting] == [b"%d" % i for i in range(300)]

            await asyncio.to_thread(talk)

    run(test)


def test_trailers_only_and_metadata_reach_a_stock_client() -> None:
    async def test() -> None:
        seen: list[ServerStream] = []

        def refuse(stream: ServerStream) -> None:
            seen.append(stream)
            stream.respond_trailers_only([*OK, (b"grpc-status", b"5"), (b"grpc-message", b"no such model")])

        async with listening(Http2Server(refuse)) as port:

            def talk() -> None:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    with pytest.raises(grpc.RpcError) as failure:
                        channel.unary_unary("/s/M")(b"x", timeout=10, metadata=[("a", "1"), ("a", "2")])
                    assert failure.value.code() == grpc.StatusCode.NOT_FOUND
                    assert failure.value.details() == "no such model"

            await asyncio.to_thread(talk)
        assert seen[0].headers[b":path"] == b"/s/M"
        assert b"grpc-timeout" in seen[0].headers
        assert [value for name, value in seen[0].raw_headers if name == b"a"] == [b"1", b"2"]

    run(test)


def test_bodies_of_many_sizes_at_once_on_one_connection() -> None:
    async def test() -> None:
        async with listening(Http2Server(echo)) as port:
            client = await connected(port)
            rng = random.Random(3)
            bodies = [rng.randbytes(rng.choice((0, 1, 5, 16_384, 16_385, 200_000, 3_000_000))) for _ in range(40)]
            for body, result in zip(bodies, await asyncio.gather(*(ask(client, body) for body in bodies)), strict=True):
                assert (result.error, bytes(result.body), result.trailers) == (None, body, {b"grpc-status": b"0"})
            client.close()

    run(test)


def test_answers_made_later_and_pieces_of_bodies() -> None:
    async def test() -> None:
        held = Held()
        async with listening(Http2Server(held)) as port:
            client = await connected(port)
            answers = [asyncio.ensure_future(ask(client, b"%d" % i)) for i in range(10)]  # noqa: TID251
            await until(lambda: len(held.streams) == 10)
            for stream in reversed(held.streams):
                stream.respond(OK, (b"\0", memoryview(b"-" + stream.body), b"", bytes(100_000)), TRAILERS)
            for index, answer in enumerate(answers):
                assert (await answer).body == b"\0-%d" % index + bytes(100_000)
            client.close()
            await until(lambda: not client.available)
            assert held.gone == []

    run(test)


def test_a_body_too_large_is_rejected_by_an_answer_and_the_rest_ignored() -> None:
    async def test() -> None:
        def reject(stream: ServerStream) -> None:
            stream.respond_trailers_only([*OK, (b"grpc-status", b"8")])

        server = Http2Server(echo, limits=Http2Limits(max_body_bytes=100_000), on_body_too_large=reject)
        async with listening(server) as port:
            client = await connected(port)
            results = await asyncio.gather(ask(client, bytes(3_000_000)), ask(client, bytes(100_000)), ask(client))
            assert results[0].headers[b"grpc-status"] == b"8"
            assert [len(result.body) for result in results[1:]] == [100_000, 0]
            assert (await ask(client, b"next")).body == b"next"
            client.close()

    run(test)


def test_incomplete_bodies_are_bounded_in_bytes_and_time() -> None:
    async def test() -> None:
        held = Held()
        limits = Http2Limits(max_buffered_bytes=200_000, body_timeout_ms=60)
        async with listening(Http2Server(held, limits=limits)) as port:
            session = ngh2.Connection(ngh2.Role.CLIENT)
            session.initiate_connection({})
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            codes: dict[int, int] = {}

            async def exchange() -> None:
                writer.write(session.data_to_send())
                session.receive_data(await reader.read(65536))
                for event in session.events():
                    if type(event) is ngh2.StreamReset:
                        codes[event.stream_id] = event.error_code

            await exchange()
            slow = session.send_request(REQUEST)
            session.send_data(slow, b"abc")
            large = [session.send_request(REQUEST) for _ in range(5)]
            for stream_id in large:
                session.send_data(stream_id, bytes(60_000))
            while set(codes) != {slow, *large}:
                await exchange()
            refused = [stream_id for stream_id in large if codes[stream_id] == 7]
            assert len(refused) == 2
            assert codes[slow] == 8
            assert held.streams == []
            writer.close()

    run(test)


def test_who_gives_up_is_withdrawn_and_answering_him_is_harmless() -> None:
    async def test() -> None:
        held = Held()
        bugs: list[BaseException] = []
        async with listening(Http2Server(held, on_bug=bugs.append)) as port:
            client = await connected(port)
            given_up = client.request(REQUEST, b"1", lambda result: None)
            client.request(REQUEST, b"2", lambda result: None)
            await until(lambda: len(held.streams) == 2)
            given_up.cancel()
            await until(lambda: held.gone == [held.streams[0].stream_id])
            client.close()
            await until(lambda: len(held.gone) == 2)
            for stream in held.streams:
                stream.respond(OK, (b"late",), TRAILERS)
                stream.respond_trailers_only(OK)
                stream.reset(8)
            assert len(held.gone) == 2
            assert bugs == []

    run(test)


def test_answering_one_stream_while_another_is_withdrawn() -> None:
    async def test() -> None:
        streams: list[ServerStream] = []

        def handle(stream: ServerStream) -> None:
            streams.append(stream)
            stream.on_reset = lambda: [other.respond(OK, (), TRAILERS) for other in streams] and None

        bugs: list[BaseException] = []
        server = Http2Server(handle, on_bug=bugs.append)
        async with listening(server) as port:
            client = await connected(port)
            for _ in range(3):
                client.request(REQUEST, b"", lambda result: None)
            await until(lambda: len(streams) == 3)
            client.close()
            await until(lambda: len(server.registry) == 0)
            assert bugs == []

    run(test)


def test_bugs_of_the_handler_cost_one_stream() -> None:
    async def test() -> None:
        def handle(stream: ServerStream) -> None:
            if stream.body == b"raise":
                raise RuntimeError("bug")
            if stream.body == b"nonsense":
                stream.respond([(b":status", 200)], (), TRAILERS)  # type: ignore[list-item]
            else:
                echo(stream)

        bugs: list[BaseException] = []
        async with listening(Http2Server(handle, on_bug=bugs.append)) as port:
            client = await connected(port)
            bodies = (b"a", b"raise", b"b", b"nonsense", b"c")
            results = await asyncio.gather(*(ask(client, body) for body in bodies))
            assert [result.error is None for result in results] == [True, False, True, False, True]
            assert len(bugs) == 2
            client.close()

    run(test)


def test_drain_finishes_what_is_open_and_refuses_what_is_new() -> None:
    async def test() -> None:
        held = Held()
        server = Http2Server(held, limits=Http2Limits(header_timeout_ms=40))
        async with listening(server) as port:
            busy, idle = await connected(port), await connected(port)
            answer = asyncio.ensure_future(ask(busy, b"x"))  # noqa: TID251
            await until(lambda: len(held.streams) == 1 and len(server.registry) == 2)
            server.drain()
            await until(lambda: not busy.available and not idle.available and len(server.registry) == 1)
            tick = server.tick
            await until(lambda: server.tick > tick + 3)
            held.streams[0].respond(OK, (b"done",), TRAILERS)
            assert (await answer).body == b"done"
            await server.wait_drained()

    run(test)
