"""The one error type of the gateway and its kinds.

Domain code raises a kind (`ErrorCode`), never an HTTP or gRPC number; `gateway.wire.status` alone translates. A message
names the tensor, limit or model concerned and never a host, a path or a stack.
"""

from __future__ import annotations

import enum


class ErrorCode(enum.Enum):
    """Whose fault a failure is and what the caller may do about it (table in ARCHITECTURE.md)."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    MODEL_NOT_READY = "model_not_ready"
    SHUTTING_DOWN = "shutting_down"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    BACKEND_UNREACHABLE = "backend_unreachable"
    BACKEND_FAILED = "backend_failed"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class GatewayError(Exception):
    """A failure that a caller may see.

    `code` is the kind, `message` the sentence shown to the caller, `retry_after_ms` a hint for OVERLOADED and
    RATE_LIMITED (None where no estimate exists). Two facts for the engine, set by backends: `unprocessed` says that
    the backend surely did not execute the request, so that it may be sent again; `needs_reload` that its copy of the
    version will not answer before it is loaded again.
    """

    unprocessed = False
    needs_reload = False

    def __init__(self, code: ErrorCode, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms

    def __repr__(self) -> str:
        return f"GatewayError({self.code.name}, {self.message!r})"


def invalid(message: str) -> GatewayError:
    """Returns the error for input that is the caller's mistake."""
    return GatewayError(ErrorCode.INVALID_REQUEST, message)


class SourceUnreadable(ValueError):
    """A registry cannot be read at the moment, which says nothing about the versions in it."""
