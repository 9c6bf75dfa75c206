"""The grpcio engine: a streaming call is refused while its client waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest

from gateway.frontends.context import ContextFactory
from gateway.frontends.grpc_handlers import GrpcHandlers
from gateway.frontends.grpc_reference import ReferenceGrpcServer
from gateway.frontends.server_info import ServerInfo
from tests.gateway.transport.peers import run
from tests.support.engine import SECOND, World

SERVICE = "/inference.GRPCInferenceService/"


def test_a_streaming_call_is_answered_while_its_client_waits() -> None:
    done = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b""
        done.wait(20)

    def talk(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                with pytest.raises(grpc.RpcError) as caught:
                    next(channel.stream_stream(SERVICE + "ModelStreamInfer")(requests(), timeout=10))
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
                assert "ModelStreamInfer" in caught.value.details()
                assert channel.unary_unary(SERVICE + "ServerLive")(b"", timeout=10) == b"\x08\x01"
            finally:
                done.set()

    async def test() -> None:
        world = World()
        contexts = ContextFactory(world.clock.now, "t", SECOND, SECOND)
        handlers = GrpcHandlers(world.service, contexts, ServerInfo("sluice", "0"))
        server = ReferenceGrpcServer(handlers, 1 << 20, 10, 16_384, 60_000)
        port = await server.start("127.0.0.1", 0)
        try:
            await asyncio.to_thread(talk, port)
        finally:
            await server.stop(0)

    run(test)
