from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

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


async def connected(port: int) -> Http2Client:
    client = Http2Client()
    await client.connect("127.0.0.1", port)
    return client


async def ask(client: Http2Client, body: bytes = b"", headers: list[tuple[bytes, bytes]] = REQUEST) -> ClientResult:
    result: asyncio.Future[ClientResult] = asyncio.get_running_loop().create_future()
    client.request(headers, body, result.set_result)
    return await result


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
