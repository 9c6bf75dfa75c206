"""The native gRPC engine: HTTP/2 streams of our own transport to the shared handlers and back."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import ErrorCode, GatewayError
from gateway.frontends.grpc_handlers import INFER, GrpcHandlers
from gateway.messages import InferResponse
from gateway.transport.http2 import ServerStream
from gateway.wire.grpc_frames import OK_TRAILERS, RESPONSE_HEADERS, error_headers, frame, parse_timeout, unframe
from gateway.wire.proto_responses import encode_response_framed

_GRPC = b"application/grpc"


class StreamReply:
    """The way back on one stream; harmless when the stream is gone."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream

    def succeed(self, response: InferResponse) -> None:
        self._stream.respond(RESPONSE_HEADERS, (encode_response_framed(response),), OK_TRAILERS)

    def message(self, data: bytes) -> None:
        self._stream.respond(RESPONSE_HEADERS, (frame(data),), OK_TRAILERS)

    def fail(self, error: GatewayError) -> None:
        self._stream.respond_trailers_only(failure_headers(error))


class NativeGrpc:
    """Takes complete streams from the HTTP/2 server."""

    def __init__(self, handlers: GrpcHandlers, max_message_bytes: int) -> None:
        self._handlers = handlers
        self._decode = handlers.decoder.decode_framed
        self._max_bytes = max_message_bytes
        self.known_paths = handlers.paths

    def __call__(self, stream: ServerStream) -> None:
        """Serves one stream; never raises GatewayError."""
        reply = StreamReply(stream)
        headers = stream.headers
        try:
            if headers.get(b":method") != b"POST" or (
                headers.get(b"content-type") != _GRPC and not speaks_grpc(headers.get(b"content-type", b""))
            ):
                stream.respond_trailers_only(not_grpc(headers))
                return
            asked = headers.get(b"grpc-timeout")
            timeout = parse_timeout(asked) if asked is not None else None
            encoding = headers.get(b"grpc-encoding", b"")
            if headers[b":path"] == INFER:
                try:
                    request = self._decode(stream.body, encoding, self._max_bytes)
                except GatewayError as error:
                    self._handlers.refused(error)
                    raise
                stream.on_reset = self._handlers.infer(request, headers, timeout, reply).withdraw
            else:
                path = headers[b":path"]
                # An unknown method comes without its body: what it streams is not waited for.
                message = unframe(stream.body, encoding, self._max_bytes) if path in self.known_paths else b""
                self._handlers.handle(path, message, headers, timeout, reply)
        except GatewayError as error:
            reply.fail(error)

    def too_large(self, stream: ServerStream) -> None:
        """Answers a stream whose body passed the limit."""
        error = GatewayError(ErrorCode.PAYLOAD_TOO_LARGE, "the message is larger than limits.max_body_bytes")
        StreamReply(stream).fail(error)


def speaks_grpc(content_type: bytes) -> bool:
    """Whether a request of this type is gRPC with protobuf messages (and not, say, gRPC-Web)."""
    kind = content_type.partition(b";")[0].strip().lower()
    return kind in (_GRPC, b"application/grpc+proto")


def not_grpc(headers: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Returns the answer to what is no gRPC request: an HTTP status as the specification wants it, and the reason."""
    error = GatewayError(ErrorCode.UNSUPPORTED, "this port speaks gRPC (POST with application/grpc) only")
    status = b"415" if headers.get(b":method") == b"POST" else b"405"
    return [(b":status", status), *error_headers(error)[1:]]


def failure_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """Returns the one header block of a failed call."""
    headers = error_headers(error)
    if error.retry_after_ms is not None:
        headers.append((b"grpc-retry-pushback-ms", b"%d" % error.retry_after_ms))
    return headers
