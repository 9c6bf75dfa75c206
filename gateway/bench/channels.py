"""Connections of the generator to the server under test: one class for gRPC, one for REST with either body.

A channel asks the server for a model's metadata, turns payloads into ready-made requests, sends them, and says of each
answer what it is. It holds no opinion on time.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote

import orjson

from gateway._generated import open_inference_pb2 as pb
from gateway.bench import encoding
from gateway.bench.answers import Decode, decode_rest
from gateway.bench.grpc_codec import decode_grpc, grpc_infer
from gateway.bench.payload import Tensor, spec_of
from gateway.engine.tasks import TaskGroup
from gateway.tensors import Buffer, TensorSpec
from gateway.transport.http1_client import Http1Pool
from gateway.transport.http2 import ClientResult, Http2ClientConfig, Http2Pool, Http2Unavailable

ASK_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_GRPC_EXPIRED, _GRPC_REFUSED = b"4", (b"8", b"14")
_HTTP_EXPIRED, _HTTP_REFUSED = 504, (429, 503)
_LENGTH = encoding.HEADER_LENGTH.lower().encode()
_MESSAGE_BYTES = 300


class Outcome(enum.IntEnum):
    """What became of one request. REFUSED: the server had too much to do; EXPIRED: it gave up at the deadline."""

    NONE = 0
    OK = 1
    REFUSED = 2
    EXPIRED = 3
    FAILED = 4
    WRONG = 5


class TargetError(Exception):
    """The server cannot be reached, or does not know the model; the message is for the user."""


OnAnswer: TypeAlias = Callable[[int, Outcome, Buffer, int | None, str], None]
"""Gets the token of the request, OK, REFUSED, EXPIRED or FAILED, body, JSON header length, and the error's text."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the server says about the model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]


class Channel(Protocol):
    """What the generator needs of a protocol. `on_answer` is set before the first `send`."""

    on_answer: OnAnswer
    decode: Decode

    async def open(self) -> None: ...
    async def model(self, name: str, version: str) -> Model: ...
    def prepare(self, name: str, version: str, tensors: Sequence[Tensor], outputs: Sequence[str]) -> Any: ...
    def send(self, request: Any, token: int) -> None: ...
    async def close(self) -> None: ...


def channel_for(protocol: str, address: str, connections: int, deadline_ms: int | None) -> Channel:
    """Returns an unopened channel to `address` (host:port). Raises TargetError for a malformed one."""
    host, colon, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon or not host or not port.isdigit():
        raise TargetError(f"{address!r} is not HOST:PORT")
    if protocol == "grpc":
        return GrpcChannel(host.strip("[]"), int(port), connections, deadline_ms)
    return RestChannel(host.strip("[]"), int(port), connections, deadline_ms, binary=protocol == "rest_binary")


def _unset(token: int, outcome: Outcome, body: Buffer, length: int | None, message: str) -> None:
    raise AssertionError("on_answer was not set")


class GrpcChannel:
    """gRPC over the project's HTTP/2 client."""

    def __init__(self, host: str, port: int, connections: int, deadline_ms: int | None) -> None:
        self.on_answer: OnAnswer = _unset
        self.decode: Decode = decode_grpc
        self._tasks = TaskGroup()
        self._address = f"{host}:{port}"
        self._headers = encoding.grpc_headers(self._address, "ModelInfer", deadline_ms)
        self._connections = connections
        self._opened: asyncio.Event = asyncio.Event()
        self._pool = Http2Pool(
            host, port, connections, spawn=self._tasks.spawn, rng=random.Random(1),
            config=Http2ClientConfig(max_queued_requests=1 << 20), on_change=self._changed,
        )  # fmt: skip

    async def open(self) -> None:
        self._pool.start()
        try:
            await asyncio.wait_for(self._opened.wait(), _CONNECT_SECONDS)
        except TimeoutError:
            raise TargetError(f"nothing answers gRPC at {self._address}") from None

    async def model(self, name: str, version: str) -> Model:
        request = pb.ModelMetadataRequest(name=name, version=version).SerializeToString()
        headers = encoding.grpc_headers(self._address, "ModelMetadata")
        answered: asyncio.Future[ClientResult] = asyncio.get_running_loop().create_future()
        self._pool.request(headers, encoding.grpc_frame(request), answered.set_result)
        try:
            result = await asyncio.wait_for(answered, ASK_SECONDS)
        except TimeoutError:
            raise TargetError(f"{self._address} does not answer a question for metadata") from None
        outcome, message = _grpc_outcome(result)
        if outcome is not Outcome.OK:
            raise TargetError(f"{self._address} does not describe {name!r}: {message}")
        metadata = pb.ModelMetadataResponse.FromString(bytes(result.body[5:]))
        return Model(
            tuple(spec_of(entry.name, entry.datatype, list(entry.shape)) for entry in metadata.inputs),
            tuple(entry.name for entry in metadata.outputs),
        )

    def prepare(self, name: str, version: str, tensors: Sequence[Tensor], outputs: Sequence[str]) -> bytes:
        return grpc_infer(name, version, tensors)

    def send(self, request: bytes, token: int) -> None:
        try:
            self._pool.request(self._headers, request, partial(self._answered, token))
        except Http2Unavailable as error:
            self.on_answer(token, Outcome.FAILED, b"", None, str(error))

    async def close(self) -> None:
        self._pool.close()
        await self._tasks.close()

    def _answered(self, token: int, result: ClientResult) -> None:
        if result.error is None and result.trailers.get(b"grpc-status") == b"0":
            self.on_answer(token, Outcome.OK, result.body, None, "")
            return
        outcome, message = _grpc_outcome(result)
        self.on_answer(token, outcome, b"", None, message)

    def _changed(self) -> None:
        if self._pool.connections >= self._connections:
            self._opened.set()


class RestChannel:
    """REST over the lean HTTP/1.1 client, with JSON or with binary tensors."""

    def __init__(self, host: str, port: int, connections: int, deadline_ms: int | None, *, binary: bool) -> None:
        self.on_answer: OnAnswer = _unset
        self.decode: Decode = decode_rest
        self._tasks = TaskGroup()
        self._address = f"{host}:{port}"
        self._deadline_ms = deadline_ms
        self._binary = binary
        self._pool = Http1Pool(host, port, connections, self._tasks.spawn)

    async def open(self) -> None:
        try:
            await asyncio.wait_for(self._pool.open(), _CONNECT_SECONDS)
        except OSError as error:  # TimeoutError is one
            raise TargetError(f"{self._address} cannot be reached: {error or 'timed out'}") from error

    async def model(self, name: str, version: str) -> Model:
        path = encoding.infer_path(name, version).removesuffix("/infer")
        head = f"GET {path} HTTP/1.1\r\nHost: {self._address}\r\n\r\n".encode()
        answered: asyncio.Future[tuple[int, bytes, str | None]] = asyncio.get_running_loop().create_future()
        self._pool.request((head,), lambda status, _, body, error: answered.set_result((status, body, error)))
        try:
            status, body, error = await asyncio.wait_for(answered, ASK_SECONDS)
        except TimeoutError:
            raise TargetError(f"{self._address} does not answer a question for metadata") from None
        if status != 200:
            raise TargetError(f"{self._address} does not describe {name!r}: {error or _rest_message(status, body)}")
        try:
            found = orjson.loads(body)
            inputs = tuple(spec_of(entry["name"], entry["datatype"], entry["shape"]) for entry in found["inputs"])
            return Model(inputs, tuple(entry["name"] for entry in found["outputs"]))
        except (ValueError, KeyError, TypeError) as problem:
            raise TargetError(f"the metadata of {name!r} is not understood: {problem!r}") from problem

    def prepare(self, name: str, version: str, tensors: Sequence[Tensor], outputs: Sequence[str]) -> tuple[bytes, ...]:
        path = encoding.infer_path(name, version)
        if not self._binary:
            return encoding.http_request(self._address, path, encoding.rest_json_body(tensors, self._deadline_ms))
        body, length = encoding.rest_binary_body(tensors, outputs, self._deadline_ms)
        return encoding.http_request(self._address, path, body, length)

    def send(self, request: tuple[bytes, ...], token: int) -> None:
        self._pool.request(request, partial(self._answered, token))

    async def close(self) -> None:
        self._pool.close()
        await self._tasks.close()

    def _answered(self, token: int, status: int, headers: dict[bytes, bytes], body: bytes, error: str | None) -> None:
        if status == 200:
            length = headers.get(_LENGTH)
            self.on_answer(token, Outcome.OK, body, None if length is None else int(length), "")
            return
        outcome = Outcome.FAILED
        if status in _HTTP_REFUSED:
            outcome = Outcome.REFUSED
        elif status == _HTTP_EXPIRED:
            outcome = Outcome.EXPIRED
        self.on_answer(token, outcome, b"", None, error or _rest_message(status, body))


def _grpc_outcome(result: ClientResult) -> tuple[Outcome, str]:
    if result.error is not None:
        return Outcome.FAILED, result.error
    # An answer without a message may carry its status in the headers ("trailers only").
    said = result.trailers if b"grpc-status" in result.trailers else result.headers
    status = said.get(b"grpc-status", b"?")
    if status == b"0":
        return Outcome.OK, ""
    text = unquote(said.get(b"grpc-message", b"").decode(errors="replace"))[:_MESSAGE_BYTES]
    message = f"gRPC status {status.decode(errors='replace')}: {text}"
    if status in _GRPC_REFUSED:
        return Outcome.REFUSED, message
    return (Outcome.EXPIRED if status == _GRPC_EXPIRED else Outcome.FAILED), message


def _rest_message(status: int, body: bytes) -> str:
    return f"HTTP status {status}: {body[:_MESSAGE_BYTES].decode(errors='replace')}"
