"""gRPC calls to one Triton over the project's HTTP/2 client: framed bytes out, framed bytes in, typed errors.

Both the data plane (`triton`) and the control plane (`triton_control`) speak through a channel. Nothing above it sees
an HTTP/2 header or a gRPC status.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from gateway.backends.triton_errors import BackendUnreachable, from_grpc_status
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Nanos
from gateway.ports import Cancellable
from gateway.tensors import Buffer
from gateway.transport.http2 import ClientResult, Http2ClientConfig, Http2Pool, Http2Unavailable
from gateway.transport.http2_pool import Spawn
from gateway.transport.listener import BugReport
from gateway.wire.grpc_frames import PREFIX_BYTES, prefix, unframe
from gateway.wire.status import parse_grpc_message

SERVICE = b"/inference.GRPCInferenceService/"
_MILLISECOND = 1_000_000
_MOST_BYTES = (1 << 31) - 1
"""What Triton takes in one message."""
_MOST_UNHEARD = 64

Outcome = Buffer | GatewayError
Done = Callable[[Outcome], None]


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536 or not host:
        raise ValueError(f"'{address}' is not host:port")
    return host.strip("[]"), int(port)


class TritonChannel:
    """The connections to one Triton; `on_change` is called after one came or went."""

    def __init__(
        self,
        address: str,
        connections: int,
        *,
        spawn: Spawn,
        rng: random.Random,
        on_bug: BugReport,
        on_change: Callable[[], None],
        max_response_bytes: int = 1 << 30,
    ) -> None:
        host, port = split_address(address)
        self._authority = address.encode()
        self._pool = Http2Pool(
            host,
            port,
            connections,
            spawn=spawn,
            rng=rng,
            config=Http2ClientConfig(max_response_bytes=max_response_bytes),
            on_bug=on_bug,
            on_change=on_change,
        )
        self._heads: dict[tuple[bytes, bytes | None], tuple[tuple[bytes, bytes], ...]] = {}
        self._unheard: dict[_Execution, None] = {}

    def start(self) -> None:
        self._pool.start()

    def close(self) -> None:
        self._pool.close()

    @property
    def available(self) -> bool:
        """Whether a call made now has a connection to go out on."""
        return self._pool.available

    def call(self, method: bytes, framed: Buffer | Sequence[Buffer], timeout: Nanos, done: Done) -> Cancellable:
        """Starts one unary call with an already framed message, whole or in pieces; `done` hears what came of it.

        Raises:
            BackendUnreachable: nothing was sent and `done` will not be called.
        """
        try:
            return self._pool.request(
                self._head(method, timeout_value(timeout)), framed, lambda result: done(_outcome(result))
            )
        except Http2Unavailable:
            raise BackendUnreachable("the backend cannot be reached", unprocessed=True) from None

    def execute(
        self, framed: Buffer | Sequence[Buffer], done: Done, answered: Callable[[], None] | None = None
    ) -> Cancellable:
        """Starts one ModelInfer with an already framed message, whole or in pieces; see `call`.

        It has no deadline of its own, and giving it up only means that nobody listens any more: see `_Execution`.
        `answered` is called when Triton has answered, before `done` and also when nobody listens; never where its
        answer was lost, and it may still be at it.
        """
        execution = _Execution(self._unheard, done, answered)
        try:
            execution.stream = self._pool.request(self._head(b"ModelInfer", None), framed, execution.answered)
        except Http2Unavailable:
            raise BackendUnreachable("the backend cannot be reached", unprocessed=True) from None
        return execution

    async def unary(self, method: bytes, message: bytes | Sequence[Buffer], within: Nanos) -> Buffer:
        """Makes one call, given `within` nanoseconds, and returns the answer's message. For the control plane.

        The message may come in pieces, which are sent as they are: large ones are never copied.

        Raises:
            GatewayError: what Triton answered, or that it did not answer in time.
        """
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not answered.done():
                answered.set_result(outcome)

        pieces = [message] if isinstance(message, bytes) else message
        size = sum(map(len, pieces))
        if size > _MOST_BYTES:
            raise GatewayError(ErrorCode.BACKEND_FAILED, f"{size} bytes are more than Triton takes ({_MOST_BYTES})")
        call = self.call(method, [prefix(size), *pieces], within, done)
        try:
            async with asyncio.timeout(within / 1e9):
                outcome = await answered
        except TimeoutError:
            raise GatewayError(ErrorCode.DEADLINE_EXCEEDED, "the backend did not answer in time") from None
        finally:
            call.cancel()
        if isinstance(outcome, GatewayError):
            raise outcome
        return outcome

    def _head(self, method: bytes, timeout: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
        """Returns the request headers, remembered: there are few methods and few distinct time-outs."""
        key = (method, timeout)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= 256:
                self._heads.clear()
            head = self._heads[key] = (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", SERVICE + method),
                (b":authority", self._authority),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                *(((b"grpc-timeout", timeout),) if timeout is not None else ()),
            )
        return head


class _Execution:
    """One ModelInfer under way.

    Tritons before 25.04 have a race between the end of an execution and its cancellation (server issues 7368 and 8034):
    a call that is reset, or whose deadline passes, while its answer is being written can end the whole server with
    SIGSEGV, which it reports as status 134. One caller who leaves must not do that to everybody, and a batch that runs
    could not be stopped anyway. So a call that was given up stays open and its answer is thrown away. Only the oldest
    of more than 64 such calls is really reset: a server that answers none of them has nothing left to lose.
    """

    __slots__ = ("_answered", "_done", "_unheard", "stream")

    def __init__(self, unheard: dict[_Execution, None], done: Done, answered: Callable[[], None] | None) -> None:
        self._unheard = unheard
        self._done: Done | None = done
        self._answered = answered
        self.stream: Cancellable | None = None

    def answered(self, result: ClientResult) -> None:
        if self._answered is not None and (result.error is None or not result.processed):
            self._answered()
        done, self._done, self.stream = self._done, None, None
        if done is None:
            self._unheard.pop(self, None)
        else:
            done(_outcome(result))

    def cancel(self) -> None:
        """Nobody waits for the answer any more. Harmless when it is over."""
        if self._done is None:
            return
        self._done = None
        unheard = self._unheard
        unheard[self] = None
        if len(unheard) > _MOST_UNHEARD:
            oldest = next(iter(unheard))
            del unheard[oldest]
            if oldest.stream is not None:
                oldest.stream.cancel()


def timeout_value(timeout: Nanos) -> bytes:
    """Returns a `grpc-timeout` of at least `timeout`, rounded up by at most a tenth so that few distinct ones occur."""
    milliseconds = max(1, -(-timeout // _MILLISECOND))
    step = 1
    while milliseconds >= step * 100:
        step *= 10
    return b"%dm" % (-(-milliseconds // step) * step)


def _outcome(result: ClientResult) -> Outcome:
    if result.error is not None:
        return BackendUnreachable("the connection to the backend was lost", unprocessed=not result.processed)
    trailers = result.trailers
    status = trailers.get(b"grpc-status")
    if status is None:
        # Trailers-only answers carry the status in the one header block.
        trailers = result.headers
        status = trailers.get(b"grpc-status")
        if status is None:
            http = result.headers.get(b":status", b"?").decode("latin-1")
            return GatewayError(ErrorCode.BACKEND_FAILED, f"the backend answered HTTP {http} without a gRPC status")
    if status != b"0":
        message = parse_grpc_message(trailers.get(b"grpc-message", b""))
        return from_grpc_status(int(status) if status.isdigit() else 2, message)
    body = result.body
    # The common case by hand: one uncompressed message that fills the body.
    if len(body) >= PREFIX_BYTES and body[0] == 0 and int.from_bytes(body[1:5], "big") == len(body) - PREFIX_BYTES:
        return memoryview(body)[PREFIX_BYTES:]
    try:
        return unframe(body)
    except GatewayError:
        return GatewayError(ErrorCode.BACKEND_FAILED, "the backend's answer is not a gRPC message")
