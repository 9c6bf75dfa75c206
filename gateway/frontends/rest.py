"""The REST frontend: OIP over HTTP/1.1, JSON and the binary tensor extension, errors as OIP error objects."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from gateway._generated.model_config_pb2 import ModelConfig
from gateway.engine.service import InferService
from gateway.errors import ErrorCode, GatewayError, invalid
from gateway.frontends.context import ContextFactory
from gateway.frontends.rest_paths import Endpoint, PathTable, Target
from gateway.frontends.server_info import ServerInfo
from gateway.messages import InferResponse
from gateway.tensors import Buffer
from gateway.transport.http1 import HttpExchange, HttpRequest
from gateway.wire.json_control import (
    decode_repository_index_json,
    metadata_json,
    repository_index_json,
    server_metadata_json,
)
from gateway.wire.json_requests import RestDecoder
from gateway.wire.json_responses import encode_json
from gateway.wire.model_config import config_json
from gateway.wire.proto_control import ModelIndex
from gateway.wire.reply_format import ReplyFormat
from gateway.wire.status import http_error_body, http_status, retry_after_seconds

_JSON = b"content-type: application/json\r\n"
_COMPRESS_FROM = 1024


class RestReply:
    """The way back of one inference; harmless when the client is gone."""

    __slots__ = ("_encoding", "_exchange", "_format")

    def __init__(self, exchange: HttpExchange, form: ReplyFormat, encoding: str | None) -> None:
        self._exchange = exchange
        self._format = form
        self._encoding = encoding

    def succeed(self, response: InferResponse) -> None:
        try:
            headers, pieces = encode_json(response, self._format)
        except GatewayError as error:
            self.fail(error)
            return
        if self._encoding is not None:
            headers, pieces = compress(headers, pieces, self._encoding)
        self._exchange.respond(200, headers, pieces)

    def fail(self, error: GatewayError) -> None:
        respond_error(self._exchange, error)


class RestFrontend:
    """Takes complete HTTP requests from the transport. Never raises: every failure becomes an answer."""

    def __init__(self, service: InferService, contexts: ContextFactory, info: ServerInfo, max_body_bytes: int) -> None:
        self._service = service
        self._contexts = contexts
        self._info = info
        self._max_body = max_body_bytes
        self._paths = PathTable()
        self._decoder = RestDecoder()
        self._queries: dict[Endpoint, Callable[[Target, HttpExchange], None]] = {
            Endpoint.SERVER_LIVE: lambda target, exchange: exchange.respond(200, b"", ()),
            Endpoint.SERVER_READY: self._server_ready,
            Endpoint.SERVER_METADATA: self._server_metadata,
            Endpoint.MODEL_READY: self._model_ready,
            Endpoint.MODEL_METADATA: self._model_metadata,
            Endpoint.MODEL_CONFIG: self._model_config,
        }

    def __call__(self, request: HttpRequest, exchange: HttpExchange) -> None:
        """Serves one request."""
        try:
            target = self._paths.find(request.path)
            if target is None:
                _respond_text(exchange, 404, f"nothing at {_shown(request.path)}")
            elif target.endpoint is Endpoint.INFER and request.method == b"POST":
                self._infer(request, exchange, target)
            elif target.endpoint is Endpoint.UNSUPPORTED:
                raise GatewayError(ErrorCode.UNSUPPORTED, f"{_shown(request.path)} is not supported")
            elif target.endpoint is Endpoint.REPOSITORY_INDEX and request.method == b"POST":
                self._repository_index(request.body, exchange)
            elif target.endpoint in self._queries and request.method in (b"GET", b"HEAD"):
                self._queries[target.endpoint](target, exchange)
            else:
                body = http_error_body(invalid(f"use {target.endpoint.method} for {_shown(request.path)}"))
                exchange.respond(405, _JSON + b"allow: %s\r\n" % target.endpoint.method.encode(), (body,))
        except GatewayError as error:
            respond_error(exchange, error)

    def _infer(self, request: HttpRequest, exchange: HttpExchange, target: Target) -> None:
        headers = request.headers
        body = request.body
        announced = headers.get(b"inference-header-content-length")
        protocol = "rest_json" if announced is None else "rest_binary"
        try:
            coding = headers.get(b"content-encoding")
            if coding is not None and coding != b"identity":
                body = inflate(body, coding, self._max_body)
            decoded, form = self._decoder.decode(body, target.model, target.version, _length(announced))
            context = self._contexts.make(decoded.head.parameters, headers, protocol, None, target.model)
        except GatewayError as error:
            self._service.refused(error, protocol, target.model)
            raise
        accepted = headers.get(b"accept-encoding")
        encoding = None if accepted is None else _choose_encoding(accepted)
        reply = RestReply(exchange, form, encoding)
        pending = self._service.submit(decoded, context, reply)
        exchange.on_disconnect = pending.withdraw

    def _server_ready(self, target: Target, exchange: HttpExchange) -> None:
        if self._service.server_ready():
            exchange.respond(200, b"", ())
        else:
            respond_error(exchange, GatewayError(ErrorCode.MODEL_NOT_READY, "the server is not ready"))

    def _server_metadata(self, target: Target, exchange: HttpExchange) -> None:
        body = server_metadata_json(self._info.name, self._info.version, self._info.extensions)
        exchange.respond(200, _JSON, (body,))

    def _model_ready(self, target: Target, exchange: HttpExchange) -> None:
        if self._service.model_ready(target.model, target.version):
            exchange.respond(200, b"", ())
        else:
            message = f"model '{target.model}' is not ready"
            respond_error(exchange, GatewayError(ErrorCode.MODEL_NOT_READY, message))

    def _model_metadata(self, target: Target, exchange: HttpExchange) -> None:
        metadata = self._service.metadata(target.model, target.version)
        exchange.respond(200, _JSON, (metadata_json(metadata),))

    def _model_config(self, target: Target, exchange: HttpExchange) -> None:
        metadata = self._service.metadata(target.model, target.version)
        exchange.respond(200, _JSON, (config_json(ModelConfig.FromString(metadata.config)),))

    def _repository_index(self, body: Buffer, exchange: HttpExchange) -> None:
        only_ready = decode_repository_index_json(body)
        rows = [ModelIndex(*row) for row in self._service.index()]
        rows = [row for row in rows if row.state == "READY" or not only_ready]
        exchange.respond(200, _JSON, (repository_index_json(rows),))


def respond_error(exchange: HttpExchange, error: GatewayError) -> None:
    """Answers with the OIP error object."""
    headers = _JSON
    retry_after = retry_after_seconds(error)
    if retry_after is not None:
        headers += b"retry-after: %d\r\n" % retry_after
    exchange.respond(http_status(error.code), headers, (http_error_body(error),))


def inflate(body: Buffer, coding: bytes, most: int) -> bytes:
    """Returns a gzip or deflate body decompressed.

    Raises:
        GatewayError: UNSUPPORTED coding, INVALID_REQUEST for broken data, PAYLOAD_TOO_LARGE beyond `most` bytes.
    """
    if coding not in (b"gzip", b"deflate", b"x-gzip"):
        raise GatewayError(ErrorCode.UNSUPPORTED, f"content-encoding '{_shown(coding)}' is not supported")
    inflater = zlib.decompressobj(wbits=47)  # zlib or gzip, told by the header
    try:
        plain = inflater.decompress(body, most + 1)
    except zlib.error:
        raise invalid("the compressed body is broken") from None
    if len(plain) > most:
        raise GatewayError(ErrorCode.PAYLOAD_TOO_LARGE, f"the decompressed body is larger than {most} bytes")
    if not inflater.eof:
        raise invalid("the compressed body is cut short")
    return plain


def compress(headers: bytes, chunks: Sequence[Buffer], encoding: str) -> tuple[bytes, list[Buffer]]:
    """Returns the answer compressed where that pays."""
    body = b"".join(chunks)
    if len(body) < _COMPRESS_FROM:
        return headers, [body]
    deflater = zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    packed = deflater.compress(body) + deflater.flush()
    return headers + b"content-encoding: %s\r\n" % encoding.encode(), [packed]


def _choose_encoding(accepted: bytes) -> str | None:
    offered = set()
    for part in accepted.split(b","):
        name, _, quality = part.replace(b" ", b"").partition(b";q=")
        if quality.strip(b"0.") or not quality:
            offered.add(name)
    if b"gzip" in offered:
        return "gzip"
    return "deflate" if b"deflate" in offered else None


def _length(announced: bytes | None) -> int | None:
    if announced is None:
        return None
    if not announced.isdigit() or len(announced) > 18:
        raise invalid("header 'Inference-Header-Content-Length' must be a number of bytes")
    return int(announced)


def _respond_text(exchange: HttpExchange, status: int, message: str) -> None:
    exchange.respond(status, _JSON, (http_error_body(invalid(message)),))


def _shown(text: bytes) -> str:
    return text[:100].decode("latin-1")
