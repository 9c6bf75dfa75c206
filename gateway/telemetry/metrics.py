"""Counts what happens on the data plane. Decides what is counted where, and nothing about how it is shown.

Invariants: counting a request takes well under a microsecond and never fails; memory is bounded by `SeriesTable`;
counters only grow, until their version is retired.
"""

from __future__ import annotations

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
        self.table = SeriesTable(self._bounds, max_version_series)
        self._by_id = self.table.by_id
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
            found = self.table.find(version, model_name)
        series = found.of(context.protocol)
        if code is not None:
            series.failures[code] = series.failures.get(code, 0) + 1
            if rows == 0:
                self.rejected[code] = self.rejected.get(code, 0) + 1
                return
        else:
            series.ok += 1
            series.duration.observe(finished_at - context.received_at)
            found.answered_rows += rows
            found.answered_at = finished_at
        found.rows += rows
        found.queued.observe(queued)

    def requests_done(
        self,
        version: ModelVersion,
        contexts: Sequence[RequestContext],
        rows: Sequence[int],
        dispatched_at: Instant,
        finished_at: Instant,
    ) -> None:
        """Counts answered requests of one batch; see `ports.Observer`."""
        found = self._series(version)
        queued = found.queued
        protocol = contexts[0].protocol
        series = found.of(protocol)
        for context in contexts:
            if context.protocol is not protocol:
                protocol = context.protocol
                series = found.of(protocol)
            received = context.received_at
            series.ok += 1
            series.duration.observe(finished_at - received)
            queued.observe(dispatched_at - received)
        many = sum(rows)
        found.rows += many
        found.answered_rows += many
        found.answered_at = finished_at

    def batch_done(
        self, version: ModelVersion, requests: int, rows: int, reason: str, backend: Nanos, ok: bool
    ) -> None:
        """Counts one execution; see `ports.Observer`."""
        found = self._series(version)
        found.reasons[reason] = found.reasons.get(reason, 0) + 1
        found.batch_rows.observe(rows)
        found.batch_requests.observe(requests)
        found.backend.observe(backend)
        found.failed_batches += not ok

    def _series(self, version: ModelVersion) -> VersionSeries:
        found = self._by_id.get(id(version))
        return self.table.find(version, version.model_name) if found is None else found

    # ------------------------------------------------------------------ the rest

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
            ok = sum(protocol.ok for protocol in series.protocols.values())
            failures = sum(sum(protocol.failures.values()) for protocol in series.protocols.values())
            found[version] = Totals(ok + failures, failures, series.rows, sum(series.reasons.values()))
        return found
