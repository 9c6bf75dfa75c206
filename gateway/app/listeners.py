"""The REST and gRPC listeners of a gateway, opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.config import Config, LimitsConfig
from gateway.engine.service import InferService
from gateway.errors import ErrorCode
from gateway.frontends.context import ContextFactory
from gateway.frontends.grpc import NativeGrpc
from gateway.frontends.grpc_handlers import GrpcHandlers
from gateway.frontends.rest import RestFrontend
from gateway.frontends.server_info import ServerInfo
from gateway.transport.http1 import Http1Limits, Http1Server
from gateway.transport.http2 import Http2Limits, Http2Server
from gateway.transport.listener import BugReport
from gateway.transport.tls import server_context
from gateway.wire.status import error_json

if TYPE_CHECKING:
    from gateway.frontends.grpc_reference import ReferenceGrpcServer


_REFUSALS = {
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    431: ErrorCode.PAYLOAD_TOO_LARGE,
    408: ErrorCode.DEADLINE_EXCEEDED,
    500: ErrorCode.INTERNAL,
    503: ErrorCode.OVERLOADED,
}


class CannotListen(Exception):
    """A port cannot be had; the message names it and the setting that changes it."""


class Listeners:
    """Owns the data-plane listeners. Ports are known after `start`."""

    def __init__(
        self,
        config: Config,
        service: InferService,
        contexts: ContextFactory,
        info: ServerInfo,
        on_bug: BugReport,
        on_refusal: Callable[[ErrorCode], None],
    ) -> None:
        """`on_refusal` hears of what the HTTP/1.1 transport itself refused."""
        self._config = config

        def refusal(status: int, message: str) -> bytes:
            on_refusal(_REFUSALS.get(status, ErrorCode.INVALID_REQUEST))
            return error_json(message)

        limits = config.limits
        self._rest = Http1Server(
            RestFrontend(service, contexts, info, limits.max_body_bytes, limits.max_json_bytes),
            limits=_http1(limits),
            error_body=refusal,
            on_bug=on_bug,
        )
        handlers = GrpcHandlers(service, contexts, info)
        self._native: Http2Server | None = None
        self._reference: ReferenceGrpcServer | None = None
        if config.server.grpc_engine == "native":
            frontend = NativeGrpc(handlers, limits.max_body_bytes)
            self._native = Http2Server(
                frontend,
                limits=_http2(limits),
                on_body_too_large=frontend.too_large,
                known_paths=frontend.known_paths,
                on_bug=on_bug,
            )
        else:
            # Imported on demand: grpcio is an extra, and costs memory that the native engine does not need.
            try:
                from gateway.frontends.grpc_reference import ReferenceGrpcServer
            except ImportError:
                raise CannotListen("server.grpc_engine = \"grpcio\" needs: pip install 'sluice[grpcio]'") from None
            self._reference = ReferenceGrpcServer(
                handlers,
                limits.max_body_bytes,
                limits.max_streams_per_connection,
                limits.max_header_bytes,
                limits.grpc_idle_timeout_ms,
            )
        self.rest_port = 0
        self.grpc_port = 0

    async def start(self) -> None:
        """Opens both listeners. Raises CannotListen."""
        server = self._config.server
        rest_tls = grpc_tls = None
        if server.tls_cert:
            # A context each: a client that offers h2 and http/1.1 must be given what the port speaks.
            rest_tls = server_context(server.tls_cert, server.tls_key, protocols=("http/1.1",))
            grpc_tls = server_context(server.tls_cert, server.tls_key, protocols=("h2",))
        try:
            self.rest_port = await self._rest.start(server.host, server.rest_port, tls=rest_tls)
        except OSError as error:
            raise CannotListen(busy("REST", server.host, server.rest_port, "server.rest_port", error)) from None
        try:
            if self._native is not None:
                self.grpc_port = await self._native.start(server.host, server.grpc_port, tls=grpc_tls)
            elif self._reference is not None:
                self.grpc_port = await self._reference.start(server.host, server.grpc_port)
        except OSError as error:
            raise CannotListen(busy("gRPC", server.host, server.grpc_port, "server.grpc_port", error)) from None

    def connections(self) -> dict[str, int]:
        """Returns the open connections by listener."""
        return {"rest": len(self._rest.registry), "grpc": len(self._native.registry) if self._native else 0}

    def drain(self) -> None:
        """Takes no new connections and lets open ones finish what they began."""
        self._rest.drain()
        if self._native is not None:
            self._native.drain()

    async def wait_drained(self, seconds: float) -> None:
        """Waits until the last connection is gone, at most `seconds`."""
        waits = [self._rest.wait_drained()]
        if self._native is not None:
            waits.append(self._native.wait_drained())
        if self._reference is not None:
            waits.append(self._reference.stop(seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*waits)

    async def close(self) -> None:
        """Closes everything at once. May be called again."""
        await self._rest.close()
        if self._native is not None:
            await self._native.close()
        if self._reference is not None:
            await self._reference.stop(0)


def busy(what: str, host: str, port: int, setting: str, error: OSError) -> str:
    """Returns the sentence for a port that cannot be had."""
    reason = error.strerror or str(error)
    where = f"{host}:{port} ({reason})"
    return f"cannot listen for {what} on {where}: free that port or set {setting} (0 takes any free one)"


def _http1(limits: LimitsConfig) -> Http1Limits:
    return Http1Limits(
        max_header_bytes=limits.max_header_bytes,
        max_header_count=limits.max_header_count,
        max_body_bytes=limits.max_body_bytes,
        header_timeout_ms=limits.header_timeout_ms,
        body_timeout_ms=limits.body_timeout_ms,
        idle_timeout_ms=limits.rest_idle_timeout_ms,
        max_connections=limits.max_connections,
        max_pipelined_requests=limits.max_pipelined_requests,
        max_buffered_bytes=limits.rest_buffered_bytes,
    )


def _http2(limits: LimitsConfig) -> Http2Limits:
    return Http2Limits(
        max_header_bytes=limits.max_header_bytes,
        max_header_count=limits.max_header_count,
        max_body_bytes=limits.max_body_bytes,
        header_timeout_ms=limits.header_timeout_ms,
        body_timeout_ms=limits.body_timeout_ms,
        idle_timeout_ms=limits.grpc_idle_timeout_ms,
        max_connections=limits.max_connections,
        max_concurrent_streams=limits.max_streams_per_connection,
        max_buffered_bytes=limits.grpc_buffered_bytes,
        max_total_buffered_bytes=limits.grpc_total_buffered_bytes,
        stream_window_bytes=limits.grpc_stream_window_bytes,
        connection_window_bytes=limits.grpc_connection_window_bytes,
        max_frame_bytes=limits.grpc_max_frame_bytes,
    )
