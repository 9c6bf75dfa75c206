"""The observer of the engine, with a second listener while releases are in progress.

Without one, `request_done` and `requests_done` are the inner observer's own methods, so that nothing is added to the
hot path. Copies are nobody's requests: the inner observer never hears of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.engine.tap import SHADOW
from gateway.errors import ErrorCode
from gateway.messages import Instant, Nanos, RequestContext
from gateway.ports import Observer
from gateway.versions import ModelVersion


class FailureCounter(Protocol):
    """Hears of the failed requests of one release, by arm. What went well is told with its answers (`engine.tap`)."""

    def failed(self, arm: str, context: RequestContext, code: ErrorCode, finished_at: Instant) -> None: ...


class SwitchedObserver:
    """An `Observer` in front of another one. `counters` are the releases' listeners by release id."""

    __slots__ = ("_counters", "_inner", "batch_done", "request_done", "requests_done", "version_state")

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self._counters: Mapping[str, FailureCounter] = {}
        self.request_done: Callable[..., None] = inner.request_done
        self.requests_done: Callable[..., None] = inner.requests_done
        self.batch_done = inner.batch_done
        self.version_state = inner.version_state

    def listen(self, counters: Mapping[str, FailureCounter], *, copies: bool) -> None:
        """Lets these releases hear of their requests; `copies` says that some may still be under way."""
        self._counters = counters
        listening = bool(counters) or copies
        self.request_done = self._counted if listening else self._inner.request_done
        self.requests_done = self._counted_at_once if listening else self._inner.requests_done

    def _counted(
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
        if context.protocol is SHADOW:
            return
        self._inner.request_done(context, version, code, rows, queued, finished_at, model_name, message)
        if code is None:
            return
        decision = context.decision
        # Whom a rule sent here is no fair sample of the callers.
        if decision is not None and decision.rule < 0:
            counter = self._counters.get(decision.release_id)
            if counter is not None:
                counter.failed(decision.arm, context, code, finished_at)

    def _counted_at_once(
        self,
        version: ModelVersion,
        contexts: Sequence[RequestContext],
        rows: Sequence[int],
        dispatched_at: Instant,
        finished_at: Instant,
    ) -> None:
        if any(context.protocol is SHADOW for context in contexts):
            lives = [(context, n) for context, n in zip(contexts, rows, strict=True) if context.protocol is not SHADOW]
            contexts, rows = [context for context, _ in lives], [n for _, n in lives]
        if contexts:
            self._inner.requests_done(version, contexts, rows, dispatched_at, finished_at)
