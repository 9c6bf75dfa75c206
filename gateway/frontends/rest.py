"""The REST frontend: OIP over HTTP/1.1, JSON and the binary tensor extension, errors as OIP error objects."""

from __future__ import annotations

from collections.abc import Callable

from gateway._generated.model_config_pb2 import ModelConfig
from gateway.engine.service import InferService
from gateway.errors import ErrorCode, GatewayError, invalid
from gateway.frontends.content_coding import choose_encoding, compress, inflate
from gateway.frontends.context import ContextFactory
from gateway.frontends.rest_paths import Endpoint, PathTable, Target
from gateway.frontends.server_info import ServerInfo
from gateway.messages import InferResponse, RequestHead
from gateway.tensors import Buffer, DataType
from gateway.transport.http1 import HttpExchange, HttpRequest
from gateway.wire.json_control import (
    decode_repository_index_json,
    metadata_json,
    repository_index_json,
    server_metadata_json,
)
from gateway.wire.json_requests import RestDecoder, json_too_large
from gateway.wire.json_responses import encode_json
from gateway.wire.json_tensors import no_json_form
from gateway.wire.model_config import config_json
from gateway.wire.proto_control import ModelIndex
from gateway.wire.reply_format import BINARY_REPLY, ReplyFormat
from gateway.wire.statistics import statistics_json
from gateway.wire.status import http_error_body, http_status, retry_after_seconds

_JSON = b"content-type: application/json\r\n"
_WITHOUT_JSON = (DataType.FP16, DataType.BF16)
_MOST_KNOWN = 1024


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

    def __init__(
        self,
        service: InferService,
        contexts: ContextFactory,
        info: ServerInfo,
        max_body_bytes: int,
        max_json_bytes: int,
    ) -> None:
        self._service = service
        self._contexts = contexts
        self._info = info
        self._max_body = max_body_bytes
        self._max_json = max_json_bytes
        self._paths = PathTable()
        self._decoder = RestDecoder(max_json_bytes=max_json_bytes)
        self._without_json: dict[tuple[str, str | None], tuple[int, frozenset[str]]] = {}
        self._queries: dict[Endpoint, Callable[[Target, HttpExchange], None]] = {
            Endpoint.SERVER_LIVE: lambda target, exchange: exchange.respond(200, b"", ()),
            Endpoint.SERVER_READY: self._server_ready,
            Endpoint.SERVER_METADATA: self._server_metadata,
            Endpoint.MODEL_READY: self._model_ready,
            Endpoint.MODEL_METADATA: self._model_metadata,
            Endpoint.MODEL_CONFIG: self._model_config,
            Endpoint.STATISTICS: self._statistics,
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
            if coding is not None:
                body = self._inflate(body, coding, only_json=announced is None)
            decoded, form = self._decoder.decode(body, target.model, target.version, _length(announced))
            if form is not BINARY_REPLY:
                self._check_form(decoded.head, form)
            context = self._contexts.make(decoded.head.parameters, headers, protocol, None, target.model)
        except GatewayError as error:
            self._service.refused(error, protocol, target.model)
            raise
        accepted = headers.get(b"accept-encoding")
        encoding = None if accepted is None else choose_encoding(accepted)
        reply = RestReply(exchange, form, encoding)
        pending = self._service.submit(decoded, context, reply)
        exchange.on_disconnect = pending.withdraw

    def _inflate(self, body: Buffer, coding: bytes, *, only_json: bool) -> Buffer:
        if only_json and self._max_json < self._max_body:
            return inflate(body, coding, self._max_json, "limits.max_json_bytes")
        return inflate(body, coding, self._max_body, "limits.max_body_bytes")

    def _check_form(self, head: RequestHead, form: ReplyFormat) -> None:
        """Refuses, before anything is executed, outputs in a form that their data type does not have.

        What only the data show (BYTES that are not UTF-8 text) is refused when the answer is written.
        """
        key = (head.model_name, head.model_version)
        generation = self._service.table.generation
        known = self._without_json.get(key)
        if known is None or known[0] != generation:
            try:
                metadata = self._service.metadata(*key)
            except GatewayError:
                return  # submitting it says why
            names = frozenset(spec.name for spec in metadata.outputs if spec.datatype in _WITHOUT_JSON)
            if len(self._without_json) >= _MOST_KNOWN:
                self._without_json.clear()
            known = self._without_json[key] = (generation, names)
        if known[1]:
            asked = {output.name for output in head.outputs if not output.class_count} if head.outputs else known[1]
            for name in sorted(asked & known[1]):
                if not form.is_binary(name):
                    raise no_json_form(name)

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

    def _statistics(self, target: Target, exchange: HttpExchange) -> None:
        found = self._service.statistics(target.model, target.version)
        exchange.respond(200, _JSON, (statistics_json(found),))

    def _repository_index(self, body: Buffer, exchange: HttpExchange) -> None:
        if len(body) > self._max_json:
            raise json_too_large(len(body), self._max_json)
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
