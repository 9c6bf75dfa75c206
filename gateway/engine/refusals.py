"""The engine's own reasons to refuse or give up on a request, as errors a caller can act on."""

from __future__ import annotations

from gateway.core.plans import Rejection, RejectionKind
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Nanos

_REFUSALS: dict[RejectionKind, tuple[ErrorCode, str]] = {
    RejectionKind.QUEUE_ROWS: (ErrorCode.OVERLOADED, "its queue is full (batching.max_queue_rows = {limit})"),
    RejectionKind.QUEUE_BYTES: (ErrorCode.OVERLOADED, "its queue is full (batching.max_queue_bytes = {limit})"),
    RejectionKind.NO_ROWS: (ErrorCode.INVALID_REQUEST, "the request has no rows"),
    RejectionKind.TOO_MANY_ROWS: (ErrorCode.INVALID_REQUEST, "a request may have at most {limit} rows"),
    RejectionKind.CANNOT_FINISH: (ErrorCode.OVERLOADED, "the request cannot finish before its deadline"),
    RejectionKind.EXPIRED: (ErrorCode.DEADLINE_EXCEEDED, "the request's deadline has already passed"),
    RejectionKind.DRAINING: (ErrorCode.MODEL_NOT_READY, "this version is being drained"),
    RejectionKind.IN_FLIGHT_REQUESTS: (
        ErrorCode.OVERLOADED,
        "the gateway has too many requests in flight (limits.max_requests_in_flight = {limit})",
    ),
    RejectionKind.IN_FLIGHT_BYTES: (
        ErrorCode.OVERLOADED,
        "the gateway has too many bytes in flight (limits.max_bytes_in_flight = {limit})",
    ),
}
RETRY_AFTER_MS = 1000
"""The hint where nothing has been measured yet that would make a better one."""
_WITHOUT_EVIDENCE = frozenset({RejectionKind.QUEUE_ROWS, RejectionKind.CANNOT_FINISH, RejectionKind.IN_FLIGHT_REQUESTS})


def refusal(model_name: str, rejection: Rejection) -> GatewayError:
    """Returns what a caller hears when a request is turned away at the door."""
    code, reason = _REFUSALS[rejection.kind]
    retry = None
    if code is ErrorCode.OVERLOADED and rejection.retry_after is not None:
        retry = max(1, rejection.retry_after // 1_000_000)
    elif rejection.kind in _WITHOUT_EVIDENCE:
        retry = RETRY_AFTER_MS
    message = f"model '{model_name}': {reason.format(limit=rejection.limit)}"
    return GatewayError(code, message, retry_after_ms=retry)


def expired(where: str) -> GatewayError:
    return GatewayError(ErrorCode.DEADLINE_EXCEEDED, f"the request's deadline passed {where}")


def shed(waited: Nanos, left: Nanos) -> GatewayError:
    """Returns what one hears who was taken out of the queue because it would have been answered too late.

    Who has less time left than it waited ran out of time here; who has more came when there was too much to do.
    """
    if waited >= left:
        return GatewayError(ErrorCode.DEADLINE_EXCEEDED, "the request's deadline passed while it was queued")
    return overloaded("cannot finish before its deadline")


def overloaded(why: str) -> GatewayError:
    return GatewayError(ErrorCode.OVERLOADED, f"the request {why}")


def unreachable() -> GatewayError:
    return GatewayError(ErrorCode.BACKEND_UNREACHABLE, "no backend that has this model can be reached")


def not_rerun(error: GatewayError) -> GatewayError:
    """Returns what a failed batch's members hear when they cannot be run alone: nobody knows whose fault it was."""
    why = f"the batch that the request shared failed, and too many were run again already: {error.message}"
    return GatewayError(ErrorCode.OVERLOADED, why, retry_after_ms=RETRY_AFTER_MS)


def internal(request_id: str = "") -> GatewayError:
    """Returns the error for a bug of ours: what happened is in the log, under the request's id."""
    return GatewayError(
        ErrorCode.INTERNAL, f"internal error (request {request_id})" if request_id else "internal error"
    )
