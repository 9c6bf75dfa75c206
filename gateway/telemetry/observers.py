"""Puts the observers of one gateway together: metrics always, the access log where it is on.

Two known observers called one after the other: a general list of them would cost the hot path a loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.errors import ErrorCode
from gateway.messages import Instant, Nanos, RequestContext
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.versions import ModelVersion


class Observers:
    """An `Observer` that passes everything to the metrics and requests also to the access log."""

    __slots__ = ("_count", "_count_at_once", "_note", "_note_at_once", "batch_done", "version_state")

    def __init__(self, metrics: Metrics, access_log: AccessLog) -> None:
        self._count = metrics.request_done
        self._note = access_log.request_done
        self._count_at_once = metrics.requests_done
        self._note_at_once = access_log.requests_done
        # Bound directly: the access log has no interest in these.
        self.batch_done = metrics.batch_done
        self.version_state = metrics.version_state

    def request_done(
        self,
        context: RequestContext,
        version: ModelVersion | None,
        code: ErrorCode | None,
        rows: int,
        queued: Nanos,
        finished_at: Instant,
        model_name: str,
        message: str = "",
    ) -> None:
        """See `ports.Observer`."""
        self._count(context, version, code, rows, queued, finished_at, model_name)
        self._note(context, version, code, rows, queued, finished_at, model_name, message)

    def requests_done(
        self,
        version: ModelVersion,
        contexts: Sequence[RequestContext],
        rows: Sequence[int],
        dispatched_at: Instant,
        finished_at: Instant,
    ) -> None:
        """See `ports.Observer`."""
        self._count_at_once(version, contexts, rows, dispatched_at, finished_at)
        self._note_at_once(version, contexts, rows, dispatched_at, finished_at)


def combined(metrics: Metrics, access_log: AccessLog | None) -> Metrics | Observers:
    """Returns the one observer to give to the engine."""
    return metrics if access_log is None else Observers(metrics, access_log)
