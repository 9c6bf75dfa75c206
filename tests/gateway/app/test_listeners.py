"""The listeners as the configuration wants them: over TLS each port speaks its own protocol and offers no other."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest

from gateway.app.listeners import Listeners
from gateway.config_loading import load
from gateway.errors import ErrorCode
from gateway.frontends.context import ContextFactory
from gateway.frontends.server_info import ServerInfo
from tests.gateway.transport.peers import run
from tests.support.engine import SECOND, World

PEM = str(Path(__file__).parents[1] / "transport" / "localhost.pem")


def listeners(*overrides: str) -> Listeners:
    world = World()
    refusals: list[ErrorCode] = []
    return Listeners(
        load(None, None, ("server.rest_port=0", "server.grpc_port=0", *overrides)),
        world.service,
        ContextFactory(world.clock.now, "t", SECOND, SECOND),
        ServerInfo("sluice", "0"),
        lambda bug: pytest.fail(str(bug)),
        refusals.append,
    )


def test_a_client_that_offers_both_protocols_is_given_what_the_port_speaks() -> None:
    async def chosen(port: int, offered: list[str]) -> tuple[str | None, bytes]:
        context = ssl.create_default_context(cafile=PEM)
        context.set_alpn_protocols(offered)
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        protocol = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if protocol != "h2":
            writer.write(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read(12)
        writer.close()
        return protocol, answer

    def call(port: int) -> bytes:
        credentials = grpc.ssl_channel_credentials(Path(PEM).read_bytes())
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            answer: bytes = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)
            return answer

    async def test() -> None:
        both = listeners(f"server.tls_cert={PEM}", f"server.tls_key={PEM}")
        await both.start()
        try:
            for offered in (["h2", "http/1.1"], ["http/1.1"]):
                assert await chosen(both.rest_port, offered) == ("http/1.1", b"HTTP/1.1 200")
            protocol, answer = await chosen(both.grpc_port, ["http/1.1", "h2"])
            assert protocol == "h2"
            assert answer[3:4] == b"\4", "HTTP/2 begins with a SETTINGS frame"
            assert await asyncio.to_thread(call, both.grpc_port) == b"\x08\x01"
        finally:
            await both.close()

    run(test)
