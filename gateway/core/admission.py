"""How much may be in the gateway at once: requests and their bytes, before any queue is looked at.

Two ways to the same bounds: `check` judges numbers that the caller derives from what is really in flight (it cannot
drift), `enter` and `leave` count here where deriving would cost too much; the count must return to zero after load.
"""

from __future__ import annotations

from gateway.core.plans import Rejection, RejectionKind
from gateway.errors import ErrorCode, GatewayError

_RETRY_AFTER_MS = 1000
"""A hint without evidence: what is in flight belongs to many models."""


class Admission:
    """The process-wide bounds on accepted and unanswered requests."""

    __slots__ = ("_bytes", "_max_bytes", "_max_requests", "_requests")

    def __init__(self, max_in_flight_requests: int, max_in_flight_bytes: int) -> None:
        if max_in_flight_requests < 1 or max_in_flight_bytes < 1:
            raise ValueError("the bounds on requests and bytes in flight must be at least 1")
        self._max_requests = max_in_flight_requests
        self._max_bytes = max_in_flight_bytes
        self._requests = 0
        self._bytes = 0

    @property
    def requests(self) -> int:
        """Requests that entered and have not left."""
        return self._requests

    @property
    def nbytes(self) -> int:
        """Bytes that entered and have not left."""
        return self._bytes

    def enter(self, nbytes: int) -> Rejection | None:
        """Counts one request of `nbytes` in, or says which bound it would break."""
        if self._requests >= self._max_requests:
            return Rejection(RejectionKind.IN_FLIGHT_REQUESTS, self._max_requests)
        if self._bytes + nbytes > self._max_bytes:
            return Rejection(RejectionKind.IN_FLIGHT_BYTES, self._max_bytes)
        self._requests += 1
        self._bytes += nbytes
        return None

    def leave(self, nbytes: int) -> None:
        """Counts one request of `nbytes` out.

        Raises:
            ValueError: more leaves than entered.
        """
        if self._requests < 1 or self._bytes < nbytes:
            raise ValueError("a request left that never entered")
        self._requests -= 1
        self._bytes -= nbytes

    def check(self, in_flight: int, nbytes: int, bytes_in_flight: int = 0) -> GatewayError | None:
        """Returns the error for one more request of `nbytes` beside `in_flight` others, or None if it may enter."""
        if in_flight >= self._max_requests:
            return GatewayError(
                ErrorCode.OVERLOADED,
                f"too many requests in flight (limits.max_requests_in_flight = {self._max_requests})",
                retry_after_ms=_RETRY_AFTER_MS,
            )
        if bytes_in_flight + nbytes > self._max_bytes:
            return GatewayError(
                ErrorCode.OVERLOADED,
                f"too many bytes in flight (limits.max_bytes_in_flight = {self._max_bytes})",
                retry_after_ms=_RETRY_AFTER_MS if nbytes <= self._max_bytes else None,
            )
        return None
