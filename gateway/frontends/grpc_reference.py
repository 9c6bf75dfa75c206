"""The second gRPC engine: grpcio's asyncio server behind the same handlers, for comparison and as a fallback.

grpcio is imported here only; it is the extra `grpcio`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from typing import Any

import grpc

from gateway.errors import ErrorCode, GatewayError
from gateway.frontends.grpc_handlers import GrpcHandlers
from gateway.messages import InferResponse
from gateway.wire.proto_responses import encode_response
from gateway.wire.status import grpc_status

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class FutureReply:
    """The way back into the coroutine that grpcio started for one call."""

    __slots__ = ("_answered",)

    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        self._answered = answered

    def succeed(self, response: InferResponse) -> None:
        self.message(encode_response(response))

    def message(self, data: bytes) -> None:
        if not self._answered.done():
            self._answered.set_result(data)

    def fail(self, error: GatewayError) -> None:
        if not self._answered.done():
            self._answered.set_exception(error)


class ReferenceGrpcServer:
    """A grpc.aio server that serves every unary method through the handlers.

    grpcio has no bound on connections or on the time that a head or body may take: those limits hold for the native
    engine only (docs/adr/0003).
    """

    def __init__(
        self, handlers: GrpcHandlers, max_message_bytes: int, max_streams: int, max_header_bytes: int, idle_ms: int
    ) -> None:
        self._handlers = handlers
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", max_streams),
                ("grpc.so_reuseport", 0),
                ("grpc.max_metadata_size", max_header_bytes),
                ("grpc.absolute_max_metadata_size", max_header_bytes),
                ("grpc.max_connection_idle_ms", idle_ms),
            ]
        )
        self._server.add_generic_rpc_handlers((_AnyUnary(self._serve, handlers.paths),))

    async def start(self, host: str, port: int) -> int:
        """Binds and starts; returns the port. Raises OSError when the port is taken."""
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        await self._server.start()
        return int(bound)

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new calls, lets those under way finish within the grace."""
        await self._server.stop(grace_seconds)

    async def _serve(self, path: bytes, message: bytes, context: Any) -> bytes:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        headers = {
            key.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            for key, value in context.invocation_metadata() or ()
        }
        remaining = context.time_remaining()
        timeout = None if remaining is None else max(1, int(remaining * 1e9))
        pending = self._handlers.handle(path, message, headers, timeout, FutureReply(answered))
        try:
            return await answered
        except GatewayError as error:
            code, text = grpc_status(error.code), error.message
            if error.retry_after_ms is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(error.retry_after_ms)),))
        except asyncio.CancelledError:
            if pending is not None:
                pending.withdraw()
            raise
        await context.abort(_CODES[code], text)
        raise GatewayError(ErrorCode.INTERNAL, "unreachable: abort raises")


class _AnyUnary(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Routes every method name to one coroutine with bytes in and out; what there is not is refused unread."""

    def __init__(self, serve: Callable[[bytes, bytes, Any], Awaitable[bytes]], paths: Container[bytes]) -> None:
        self._serve = serve
        self._paths = paths

    def service(self, details: Any) -> Any:
        path = details.method.encode()

        async def call(message: bytes, context: Any) -> bytes:
            return await self._serve(path, message, context)

        async def refuse(messages: object, context: Any) -> bytes:
            return await self._serve(path, b"", context)

        if path not in self._paths:
            # Its client may keep the stream open until it has an answer.
            return grpc.stream_unary_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(call)
