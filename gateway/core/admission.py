"""How much may be in the gateway at once: requests and their bytes, before any queue is looked at.

Judges numbers that the caller keeps with the tables of what is really in flight (`engine/outstanding`).
"""

from __future__ import annotations

from gateway.core.plans import Rejection, RejectionKind


class Admission:
    """The process-wide bounds on accepted and unanswered requests."""

    __slots__ = ("_max_bytes", "_max_requests")

    def __init__(self, max_in_flight_requests: int, max_in_flight_bytes: int) -> None:
        if max_in_flight_requests < 1 or max_in_flight_bytes < 1:
            raise ValueError("the bounds on requests and bytes in flight must be at least 1")
        self._max_requests = max_in_flight_requests
        self._max_bytes = max_in_flight_bytes

    def check(self, in_flight: int, nbytes: int, bytes_in_flight: int) -> Rejection | None:
        """Returns which bound one more request of `nbytes` would break beside those in flight, or None."""
        if in_flight >= self._max_requests:
            return Rejection(RejectionKind.IN_FLIGHT_REQUESTS, self._max_requests)
        if bytes_in_flight + nbytes > self._max_bytes:
            return Rejection(RejectionKind.IN_FLIGHT_BYTES, self._max_bytes)
        return None
