"""Counts what happens on the data plane. Decides what is counted where, and nothing about how it is shown.

Invariants: counting a request takes well under a microsecond and never fails; memory is bounded by `SeriesTable`;
counters only grow, until their version is retired. What batches say is noted, and counted for many batches in one go:
one by one it takes half as long again or twice as long, because between two of them the processor's caches forget the
code. Whoever reads finds everything counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import ErrorCode
from gateway.judgements import EvidenceBundle
from gateway.messages import Instant, Nanos, RequestContext
from gateway.telemetry.series import SeriesTable, VersionSeries
from gateway.versions import InputDrift, ModelVersion, VersionState

RETIRED_KEPT: Nanos = 300 * 1_000_000_000
"""How long the series of an unloaded version stay, so that its last counts are scraped."""
RETIRED_MOST = 5
"""How many unloaded versions have series at a time: frequent swaps must not fill Prometheus."""
_NOTES = 16
"""So many notes are counted in one go, some 5 us each for batches of two dozen: a short pause of the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeSources:
    """Where the values come from that are looked up when asked for and not counted.

    `in_flight` is requests accepted and not answered; `queues` gives (version, rows waiting, bytes waiting);
    `connections` open connections by listener; `drift` how far inputs are from the calibration's; `releases` what was
    seen of each; `registry` the seconds since it was last read and the number of alarms, None where none is followed.
    """

    in_flight: Callable[[], int] = lambda: 0
    queues: Callable[[], Iterable[tuple[ModelVersion, int, int]]] = tuple
    connections: Callable[[], Mapping[str, int]] = dict
    drift: Callable[[], Iterable[tuple[ModelVersion, InputDrift]]] = tuple
    releases: Callable[[], Iterable[EvidenceBundle]] = tuple
    registry: Callable[[], tuple[float, int] | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters of one version since it appeared."""

    requests: int
    failures: int
    rows: int
    batches: int


class Metrics:
    """Owns the counters; an `Observer`. `sources` may be replaced once the engine exists."""

    def __init__(
        self, now: Callable[[], Instant], latency_buckets_us: Sequence[int], max_version_series: int = 200
    ) -> None:
        self._now = now
        self._bounds = [bound * 1000 for bound in latency_buckets_us]
        self._table = SeriesTable(self._bounds, max_version_series)
        self._by_id = self._table.by_id
        # (version, protocol, when each was received, rows, when they left the queue, when they were answered)
        self._answers: list[tuple[ModelVersion, str, list[Instant], int, Instant, Instant]] = []
        # (version, requests, rows, reason, time in the backend, whether it went well)
        self._batches: list[tuple[ModelVersion, int, int, str, Nanos, bool]] = []
        self.rejected: dict[ErrorCode, int] = {}
        self.states: dict[ModelVersion, tuple[VersionState, str]] = {}
        self.sources = GaugeSources()

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
        """Counts one request; see `ports.Observer`. A failure without rows was refused at the door."""
        found = self._by_id.get(id(version))
        if found is None:
            found = self._table.find(version, model_name)
        series = found[context.protocol]
        if code is not None:
            series.failures[code] = series.failures.get(code, 0) + 1
            if rows == 0:
                self.rejected[code] = self.rejected.get(code, 0) + 1
                return
        else:
            series.ok += 1
            elapsed = finished_at - context.received_at
            duration = series.duration
            duration.counts[bisect_left(duration.bounds, elapsed)] += 1
            duration.total += elapsed
            found.answered_rows += rows
            found.answered_at = finished_at
        found.rows += rows
        waited = found.queued
        waited.counts[bisect_left(waited.bounds, queued)] += 1
        waited.total += queued

    def requests_done(
        self,
        version: ModelVersion,
        contexts: Sequence[RequestContext],
        rows: Sequence[int],
        dispatched_at: Instant,
        finished_at: Instant,
    ) -> None:
        """Notes answered requests of one batch; see `ports.Observer`."""
        first = contexts[0].protocol
        received = [context.received_at for context in contexts if context.protocol == first]
        self._answers.append((version, first, received, sum(rows), dispatched_at, finished_at))
        if len(received) < len(contexts):
            for protocol in {context.protocol for context in contexts if context.protocol != first}:
                others = [context.received_at for context in contexts if context.protocol == protocol]
                self._answers.append((version, protocol, others, 0, dispatched_at, finished_at))
        if len(self._answers) >= _NOTES:
            self._settle()

    def batch_done(
        self, version: ModelVersion, requests: int, rows: int, reason: str, backend: Nanos, ok: bool
    ) -> None:
        """Notes one execution; see `ports.Observer`."""
        self._batches.append((version, requests, rows, reason, backend, ok))
        if len(self._batches) >= _NOTES:
            self._settle()

    def _settle(self) -> None:
        """Counts what was noted. Taken first: a note that cannot be counted must not come again and again."""
        answers, self._answers = self._answers, []
        batches, self._batches = self._batches, []
        for version, protocol, received, rows, dispatched_at, finished_at in answers:
            found = self._series(version)
            received.sort()
            series = found[protocol]
            series.ok += len(received)
            series.duration.observe_since(received, finished_at)
            found.queued.observe_since(received, dispatched_at)
            found.rows += rows
            found.answered_rows += rows
            found.answered_at = max(found.answered_at, finished_at)
        for version, requests, rows, reason, backend, ok in batches:
            found = self._series(version)
            found.reasons[reason] = found.reasons.get(reason, 0) + 1
            found.batch_rows.observe(rows)
            found.batch_requests.observe(requests)
            found.backend.observe(backend)
            found.failed_batches += not ok

    def _series(self, version: ModelVersion) -> VersionSeries:
        found = self._by_id.get(id(version))
        return self._table.find(version, version.model_name) if found is None else found

    # ------------------------------------------------------------------ the rest

    @property
    def table(self) -> SeriesTable:
        """The counters, up to date."""
        self._settle()
        return self._table

    def version_state(self, version: ModelVersion, state: VersionState, detail: str) -> None:
        """Notes the state; an unloaded version's series are dropped a while later."""
        series = self.table.find(version, version.model_name)
        own = series.labels == (version.model_name, str(version.number))
        if own:
            series.retired_at = self._now() if state is VersionState.UNLOADED else None
            self.states[version] = (state, detail)
        self.forget_retired()

    def refuse(self, code: ErrorCode) -> None:
        """Counts what was refused before it was a request (malformed bytes, a limit of the transport)."""
        self.rejected[code] = self.rejected.get(code, 0) + 1

    def forget(self, version: ModelVersion) -> None:
        """Drops everything about a version that is gone for good."""
        self.table.forget(version)
        self.states.pop(version, None)

    def forget_retired(self) -> None:
        """Drops the versions that were unloaded more than `RETIRED_KEPT` ago, and all but the `RETIRED_MOST` latest."""
        for version in self.table.forget_retired(self._now() - RETIRED_KEPT, RETIRED_MOST):
            self.states.pop(version, None)

    def totals(self) -> dict[ModelVersion, Totals]:
        """Returns the counters by version, for rates."""
        found = {}
        for version, series in self.table.versions().items():
            ok = sum(protocol.ok for protocol in series.values())
            failures = sum(sum(protocol.failures.values()) for protocol in series.values())
            found[version] = Totals(ok + failures, failures, series.rows, sum(series.reasons.values()))
        return found
