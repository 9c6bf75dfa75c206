"""The native gRPC engine: HTTP/2 streams of our own transport to the shared handlers and back."""

from __future__ import annotations

from gateway.engine.service import PendingRequest
from gateway.errors import ErrorCode, GatewayError
from gateway.frontends.grpc_handlers import GrpcHandlers
from gateway.messages import InferResponse
from gateway.transport.http2 import ServerStream
from gateway.wire.grpc_frames import frame_prefix, parse_timeout, unframe
from gateway.wire.proto_codec import encode_response_framed
from gateway.wire.status import grpc_message, grpc_status

_OK_HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OK_TRAILERS = ((b"grpc-status", b"0"),)


class StreamReply:
    """The way back on one stream; harmless when the stream is gone."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream

    def succeed(self, response: InferResponse) -> None:
        self._stream.respond(_OK_HEADERS, (encode_response_framed(response),), _OK_TRAILERS)

    def message(self, data: bytes) -> None:
        self._stream.respond(_OK_HEADERS, (frame_prefix(len(data)) + data,), _OK_TRAILERS)

    def fail(self, error: GatewayError) -> None:
        self._stream.respond_trailers_only(failure_headers(error))


class NativeGrpc:
    """Takes complete streams from the HTTP/2 server."""

    def __init__(self, handlers: GrpcHandlers) -> None:
        self._handlers = handlers

    def __call__(self, stream: ServerStream) -> None:
        """Serves one stream; never raises GatewayError."""
        reply = StreamReply(stream)
        headers = stream.headers
        try:
            if headers.get(b":method") != b"POST" or not headers.get(b"content-type", b"").startswith(
                b"application/grpc"
            ):
                raise GatewayError(ErrorCode.UNSUPPORTED, "this port speaks gRPC (POST with application/grpc) only")
            asked = headers.get(b"grpc-timeout")
            timeout = parse_timeout(asked) if asked is not None else None
            message = unframe(stream.body, headers.get(b"grpc-encoding"))
        except GatewayError as error:
            reply.fail(error)
            return
        pending = self._handlers.handle(headers[b":path"], message, headers, timeout, reply)
        if pending is not None:
            stream.on_reset = pending.withdraw

    def too_large(self, stream: ServerStream) -> None:
        """Answers a stream whose body passed the limit."""
        error = GatewayError(ErrorCode.PAYLOAD_TOO_LARGE, "the message is larger than limits.max_body_bytes")
        StreamReply(stream).fail(error)


def failure_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """Returns the one header block of a failed call."""
    headers = [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % grpc_status(error.code)),
        (b"grpc-message", grpc_message(error.message)),
    ]
    if error.retry_after_ms is not None:
        headers.append((b"grpc-retry-pushback-ms", b"%d" % error.retry_after_ms))
    return headers


__all__ = ["NativeGrpc", "PendingRequest", "StreamReply", "failure_headers"]
