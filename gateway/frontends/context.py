"""Makes the RequestContext of a request from what both protocols offer: parameters, headers, a gRPC deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.errors import invalid
from gateway.messages import Instant, Nanos, Parameters, RequestContext

_MILLISECOND = 1_000_000


class ContextFactory:
    """Issues request ids and turns a caller's wishes about time and urgency into bounded values."""

    __slots__ = ("_default", "_issued", "_most", "_per_model", "_prefix", "now")

    def __init__(
        self,
        now: Callable[[], Instant],
        prefix: str,
        default_timeout_ms: int,
        max_timeout_ms: int,
        per_model_ms: Mapping[str, int] | None = None,
    ) -> None:
        """`prefix` makes ids of this process unlike those of others; `per_model_ms` are models' own defaults."""
        self.now = now
        self._prefix = prefix
        self._default = default_timeout_ms * _MILLISECOND
        self._most = max_timeout_ms * _MILLISECOND
        self._per_model = {name: span * _MILLISECOND for name, span in (per_model_ms or {}).items()}
        self._issued = 0

    def make(
        self,
        parameters: Parameters,
        headers: Mapping[bytes, bytes],
        protocol: str,
        timeout: Nanos | None,
        model_name: str,
    ) -> RequestContext:
        """Returns the context of a request that has just arrived.

        The deadline is the earliest of the gRPC deadline (`timeout`, a span in ns) and the OIP parameter `timeout`
        (microseconds); without either it is the default, and it is never later than the configured maximum.

        Raises:
            GatewayError: INVALID_REQUEST for a `timeout` or `priority` that is no non-negative integer.
        """
        now = self.now()
        span = timeout
        priority = 0
        if parameters:
            asked = parameters.get("timeout")
            if asked is not None:
                asked_span = _count("timeout", asked) * 1000
                if asked_span and (span is None or asked_span < span):
                    span = asked_span
            urgency = parameters.get("priority")
            if urgency is not None:
                priority = _count("priority", urgency)
        if span is None:
            span = self._per_model.get(model_name, self._default) if self._per_model else self._default
        if span > self._most:
            span = self._most
        given = headers.get(b"x-request-id")
        if given is not None and len(given) <= 128:
            request_id = given.decode("latin-1")
        else:
            self._issued = number = self._issued + 1
            request_id = f"{self._prefix}{number:x}"
        sticky = headers.get(b"x-sluice-sticky-key")
        trace = headers.get(b"traceparent")
        return RequestContext(
            request_id,
            now,
            now + span,
            protocol,
            priority,
            None if sticky is None else sticky.decode("latin-1"),
            None,
            None if trace is None else trace.decode("latin-1"),
            headers,
        )


def _count(name: str, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise invalid(f"parameter '{name}' must be a non-negative integer")
    return value
