"""One JSON line a request, written off the hot path.

Decides which requests get a line. On the hot path a request costs one append, or one addition once the budget of the
moment is spent. Invariants: never more than the configured lines a second, nor more than the configured repeats a
second of one model failing in one way; a fifth of the budget is kept for failures, so that a flood of successes cannot
hide them; what was left out is counted, and one line a second says how many.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence

import orjson

from gateway.errors import ErrorCode
from gateway.messages import Instant, Nanos, RequestContext
from gateway.ports import Cancellable, Clock
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.series import UNKNOWN
from gateway.versions import ModelVersion, VersionState

_SECOND: Nanos = 1_000_000_000
_FLUSHES_PER_SECOND = 5
_MOST_TEXT = 256

_Entry = tuple[RequestContext, ModelVersion | None, ErrorCode | None, int, Nanos, Instant, str, str]


class AccessLog:
    """An `Observer` that writes lines. `wall` returns nanoseconds since the epoch."""

    def __init__(
        self,
        writer: LogWriter,
        clock: Clock,
        wall: Callable[[], int],
        *,
        lines_per_second: int = 1000,
        repeats_per_second: int = 10,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._wall = wall
        self._lines = lines_per_second
        self._repeats = repeats_per_second
        self._entries: list[_Entry] = []
        self._append = self._entries.append
        self._successes = self._failures = 0
        self._suppressed = 0
        # This second's failures by model and code, and those of them without a line: models times codes at most.
        self._seen: dict[tuple[str, ErrorCode], int] = {}
        self._hidden: dict[tuple[str, ErrorCode], int] = {}
        self._timer: Cancellable | None = None
        self._flushes = 0
        self._refill()

    # ------------------------------------------------------------------ the hot path

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
        """Notes one request; see `ports.Observer`. `message` is what a failed caller was told, where it is known."""
        if code is None:
            if self._successes > 0:
                self._successes -= 1
                self._append((context, version, code, rows, queued, finished_at, model_name, message))
            else:
                self._suppressed += 1
        else:
            key = (UNKNOWN if version is None else version.model_name, code)
            seen = self._seen[key] = self._seen.get(key, 0) + 1
            if seen <= self._repeats and self._take_for_failure():
                self._append((context, version, code, rows, queued, finished_at, model_name, message))
            else:
                self._hidden[key] = self._hidden.get(key, 0) + 1

    def requests_done(
        self,
        version: ModelVersion,
        contexts: Sequence[RequestContext],
        rows: Sequence[int],
        dispatched_at: Instant,
        finished_at: Instant,
    ) -> None:
        """Notes answered requests of one batch, the first of them where the budget does not reach."""
        taken = self._successes
        if taken < len(contexts):
            self._suppressed += len(contexts) - taken
        else:
            taken = len(contexts)
        self._successes -= taken
        for index in range(taken):
            context = contexts[index]
            queued = dispatched_at - context.received_at
            self._append((context, version, None, rows[index], queued, finished_at, version.model_name, ""))

    def _take_for_failure(self) -> bool:
        if self._failures > 0:
            self._failures -= 1
        elif self._successes > 0:
            self._successes -= 1
        else:
            return False
        return True

    def batch_done(
        self, version: ModelVersion, requests: int, rows: int, reason: str, backend: Nanos, ok: bool
    ) -> None:
        """Batches have no lines; the metrics count them."""

    def version_state(self, version: ModelVersion, state: VersionState, detail: str) -> None:
        """Versions have no lines here; the process log has them."""

    # ------------------------------------------------------------------ off the hot path

    def start(self) -> None:
        """Begins to write, several times a second."""
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        """Hands over what is left; the writer is its owner's to close."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushes = _FLUSHES_PER_SECOND
        self.flush()

    def flush(self) -> None:
        """Hands the noted lines to the writer; once a second also what was left out."""
        entries, self._entries = self._entries, []
        self._append = self._entries.append
        offset = self._wall() - self._clock.now()
        lines = [orjson.dumps(_fields(entry, offset), option=orjson.OPT_APPEND_NEWLINE) for entry in entries]
        self._flushes += 1
        if self._flushes >= _FLUSHES_PER_SECOND:
            self._flushes = 0
            lines += self._summary(offset)
            self._seen.clear()
        if lines:
            self._writer.write(b"".join(lines))
        self._refill()

    def _arm(self) -> None:
        self._timer = self._clock.call_at(self._clock.now() + _SECOND // _FLUSHES_PER_SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._arm()
        self.flush()

    def _refill(self) -> None:
        """Grants the lines of the time to the next flush; nothing is carried over, which keeps the bound simple."""
        done, lines = self._flushes, self._lines
        share = lines * (done + 1) // _FLUSHES_PER_SECOND - lines * done // _FLUSHES_PER_SECOND
        self._failures = share // 5
        self._successes = share - self._failures

    def _summary(self, offset: Nanos) -> list[bytes]:
        if not self._suppressed and not self._hidden:
            return []
        fields = {
            "time": _timestamp(self._clock.now() + offset),
            "event": "suppressed",
            "successes": self._suppressed,
            "failures": {f"{model}: {code.value}": count for (model, code), count in self._hidden.items()},
        }
        self._suppressed = 0
        self._hidden.clear()
        return [orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)]


def _fields(entry: _Entry, offset: Nanos) -> dict[str, object]:
    context, version, code, rows, queued, finished_at, model_name, message = entry
    fields: dict[str, object] = {
        "time": _timestamp(finished_at + offset),
        "id": _text(context.request_id),
        "protocol": context.protocol,
        "model": version.model_name if version is not None else _text(model_name),
        "version": version.number if version is not None else None,
        "rows": rows,
        "outcome": "ok" if code is None else code.value,
        "latency_us": (finished_at - context.received_at) // 1000,
        "queue_us": queued // 1000,
    }
    decision = context.decision
    if decision is not None:
        # Where nothing was decided (the caller named the version, or there is one only) there is nothing to say.
        fields["release"] = decision.release_id
        fields["arm"] = decision.arm
        fields["rule"] = decision.rule if decision.rule >= 0 else None
        fields["bucket"] = decision.bucket if decision.bucket >= 0 else None
    if context.principal is not None:
        fields["principal"] = _text(context.principal)
    if context.trace is not None:
        fields["trace"] = _text(context.trace)
    if message:
        fields["message"] = _text(message)
    return fields


def _text(given: str) -> str:
    """Returns a client's text, cut, and without the lone surrogates that JSON cannot carry."""
    if given.isascii():
        return given[:_MOST_TEXT]
    return given[:_MOST_TEXT].encode("utf-8", "replace").decode("utf-8")


def _timestamp(wall: int) -> str:
    """Returns nanoseconds since the epoch as UTC text with microseconds."""
    second, rest = divmod(wall, _SECOND)
    return f"{_second(second)}.{rest // 1000:06d}Z"


@functools.lru_cache(maxsize=4)
def _second(second: int) -> str:
    """Returns a whole second since the epoch as UTC text; the lines of one flush share few of them."""
    return datetime.datetime.fromtimestamp(second, datetime.UTC).isoformat()[:19]
