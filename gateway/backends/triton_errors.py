"""What Triton's gRPC statuses mean to a caller of the gateway.

Messages are passed on without stacks, paths, addresses or Triton's internal model names, because callers must not learn
them and cannot use them.
"""

from __future__ import annotations

import re

from gateway.errors import ErrorCode, GatewayError

_CODES = {
    1: ErrorCode.BACKEND_FAILED,  # CANCELLED although we did not cancel
    3: ErrorCode.INVALID_REQUEST,
    5: ErrorCode.MODEL_NOT_READY,  # we only send to versions that were ready: it went away underneath us
    8: ErrorCode.OVERLOADED,
    12: ErrorCode.UNSUPPORTED,
    14: ErrorCode.MODEL_NOT_READY,
}
_STACK = re.compile(r"\n\s*\n?At:\n.*", re.DOTALL)
_PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+[\w.+-]*")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b")
_VERSIONED = re.compile(r"\b([A-Za-z0-9_.-]+?)\.v(\d+)(?:_\d+_\d+)?\b")
_DEAD = re.compile(r"[Ss]tub process .*is not healthy")
_LONGEST = 400


class BackendUnreachable(GatewayError):
    """The call got no answer; `unprocessed` says that the backend surely did not execute it: it may be retried."""

    def __init__(self, message: str, *, unprocessed: bool) -> None:
        super().__init__(ErrorCode.BACKEND_UNREACHABLE, message)
        self.unprocessed = unprocessed


class ModelDied(GatewayError):
    """The process that executes the version is gone; Triton does not start it again by itself, a load does."""

    needs_reload = True

    def __init__(self) -> None:
        super().__init__(ErrorCode.BACKEND_FAILED, "the model's process died while it had this request")


def from_grpc_status(status: int, message: str) -> GatewayError:
    """Returns the error for a non-zero gRPC `status` that Triton itself answered."""
    if _DEAD.search(message):
        return ModelDied()
    if status == 4:
        # Triton was given the rest of the request's own time, so this is the caller's deadline and not the backend's.
        return GatewayError(ErrorCode.DEADLINE_EXCEEDED, "the request's deadline passed while running")
    code = _CODES.get(status, ErrorCode.BACKEND_FAILED)
    return GatewayError(code, f"backend: {clean(message) or f'status {status} without a message'}")


def clean(message: str) -> str:
    """Returns `message` without what must not leave the gateway, cut to a length that fits a header."""
    text = _STACK.sub("", message)
    text = _PATH.sub("…", text)
    text = _ADDRESS.sub("…", text)
    text = _VERSIONED.sub(r"\1 version \2", text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
