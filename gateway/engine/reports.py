"""Tells an observer how requests ended. An observer that fails is reported itself, and hurts nobody."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway.engine.batch import PendingRequest
from gateway.errors import ErrorCode
from gateway.messages import Instant, RequestContext
from gateway.ports import Observer
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.scheduler")


def report(
    observer: Observer, version: ModelVersion, pending: PendingRequest, code: ErrorCode, message: str, now: Instant
) -> None:
    """One request ended badly."""
    context = pending.context
    queued = (pending.dispatched_at if pending.batch is not None else now) - context.received_at
    name = version.model_name
    try:
        observer.request_done(context, version, code, pending.checked.rows, queued, now, name, message)
    except Exception:
        _log.exception("observing a request of %s", version)


def report_answered(
    observer: Observer,
    version: ModelVersion,
    contexts: Sequence[RequestContext],
    rows: Sequence[int],
    dispatched_at: Instant,
    now: Instant,
) -> None:
    """Members of one batch were answered well, perhaps none; all left the queue at `dispatched_at`."""
    if not contexts:
        return
    try:
        observer.requests_done(version, contexts, rows, dispatched_at, now)
    except Exception:
        _log.exception("observing a batch of %s", version)
