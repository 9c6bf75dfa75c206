from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import grpc
import ngh2
import pytest

from gateway.transport.http2 import ClientResult, Http2Client, Http2Limits, Http2Server, ServerStream
from tests.gateway.transport.peers import converse, listening, run, until

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
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


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


def test_who_opens_no_window_is_cut_off() -> None:
    async def test() -> None:
        def handle(stream: ServerStream) -> None:
            stream.respond(OK, (bytes(200_000),), TRAILERS)

        server = Http2Server(handle, limits=Http2Limits(body_timeout_ms=60))
        async with listening(server) as port:
            session = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=False))
            session.initiate_connection({})
            session.send_request(REQUEST, end_stream=True)
            received = await converse(port, session.data_to_send())
            assert 60_000 < len(received) < 70_000

    run(test)


@pytest.mark.parametrize(
    "sent",
    [b"", PREFACE[:10], PREFACE, PREFACE + SETTINGS[:5], PREFACE + SETTINGS + frame(1, 0, 1, b"\x82")],
    ids=["nothing", "half a preface", "no settings", "half a frame", "half a header block"],
)
def test_who_does_not_go_on_is_sent_away(sent: bytes) -> None:
    async def test() -> None:
        server = Http2Server(echo, limits=Http2Limits(header_timeout_ms=40, idle_timeout_ms=80))
        async with listening(server) as port:
            await converse(port, sent)
            await until(lambda: len(server.registry) == 0)

    run(test)


def rapid_reset() -> bytes:
    session = ngh2.Connection(ngh2.Role.CLIENT)
    session.initiate_connection({})
    flood = bytearray(session.data_to_send())
    for number in range(20_000):
        block = b"\x83\x86\x84\x41\x01x" if not number else b"\x83\x86\x84\xbe"
        flood += frame(1, 5, 2 * number + 1, block) + frame(3, 0, 2 * number + 1, b"\0\0\0\x08")
    return bytes(flood)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "HTTP/1": lambda: b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "rapid reset": rapid_reset,
    "ping flood": lambda: PREFACE + SETTINGS + frame(6, 0, 0, bytes(8)) * 200_000,
    "settings flood": lambda: PREFACE + SETTINGS * 200_000,
    "continuation flood": lambda: PREFACE + SETTINGS + frame(1, 0, 1, b"\x82") + frame(9, 0, 1, b"\x82") * 50_000,
    "header bomb": lambda: (
        PREFACE + SETTINGS + frame(1, 5, 1, b"\x83\x86\x84\x40\x01a\x7f\x81\x1e" + b"b" * 4000 + b"\xbe" * 12_000)
    ),
    "empty data flood": lambda: PREFACE + SETTINGS + frame(1, 4, 1, b"\x83\x86\x84") + frame(0, 0, 1, b"") * 100_000,
    "data on stream 0": lambda: PREFACE + SETTINGS + frame(0, 1, 0, b"abc"),
    "huge frame": lambda: PREFACE + SETTINGS + b"\xff\xff\xff\0\0\0\0\0\1",
    "window overflow": lambda: PREFACE + SETTINGS + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "even stream": lambda: PREFACE + SETTINGS + frame(1, 5, 2, b"\x83\x86\x84"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_ends_its_own_connection(name: str) -> None:
    async def test() -> None:
        bugs: list[BaseException] = []
        limits = Http2Limits(header_timeout_ms=200, body_timeout_ms=200, idle_timeout_ms=400)
        server = Http2Server(echo, on_bug=bugs.append, limits=limits)
        async with listening(server) as port:
            neighbour = await connected(port)
            before = await ask(neighbour, b"before")
            await converse(port, HOSTILE[name]())
            await until(lambda: len(server.registry) <= 1)
            if not neighbour.available:
                neighbour = await connected(port)
            assert (await ask(neighbour, b"after")).body == b"after"
            assert before.body == b"before"
            assert bugs == []
            neighbour.close()

    run(test)


def test_random_bytes_do_not_harm_the_neighbour() -> None:
    async def test() -> None:
        rng = random.Random(11)
        bugs: list[BaseException] = []
        limits = Http2Limits(header_timeout_ms=20, body_timeout_ms=20, idle_timeout_ms=10_000)
        server = Http2Server(echo, on_bug=bugs.append, limits=limits)
        async with listening(server) as port:
            neighbour = await connected(port)
            valid = ngh2.Connection(ngh2.Role.CLIENT)
            valid.initiate_connection({})
            stream_id = valid.send_request(REQUEST)
            valid.send_data(stream_id, b"x" * 50, end_stream=True)
            good = valid.data_to_send()
            for _ in range(60):
                sent = bytearray(good)
                for _ in range(rng.randrange(1, 5)):
                    sent[rng.randrange(len(PREFACE), len(sent))] = rng.randrange(256)
                talk = asyncio.ensure_future(converse(port, bytes(sent) + rng.randbytes(40)))  # noqa: TID251
                assert (await ask(neighbour, b"n")).body == b"n"
                talk.cancel()
            assert bugs == []
            neighbour.close()

    run(test)
