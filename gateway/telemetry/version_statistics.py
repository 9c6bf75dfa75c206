"""Reads the counters of a version as Triton's statistics extension wants them."""

from __future__ import annotations

from gateway.messages import Instant
from gateway.statistics import Spent, VersionStatistics
from gateway.telemetry.metrics import Metrics
from gateway.versions import ModelVersion


def statistics_of(metrics: Metrics, version: ModelVersion, now: Instant, wall_ns: int) -> VersionStatistics:
    """Returns what was counted for `version`; zeros where nothing was, or where it shares its series with others.

    `now` and `wall_ns` are the same instant on the monotonic clock and since the epoch.
    """
    name, number = version.model_name, str(version.number)
    series = metrics.table.versions().get(version)
    if series is None:
        return VersionStatistics(model_name=name, version=number)
    protocols = series.protocols.values()
    executions = series.backend
    return VersionStatistics(
        model_name=name,
        version=number,
        last_inference_ms=(wall_ns - (now - series.answered_at)) // 1_000_000 if series.answered_at else 0,
        inference_count=series.answered_rows,
        execution_count=executions.count - series.failed_batches,
        success=Spent(sum(one.ok for one in protocols), sum(one.duration.total for one in protocols)),
        fail=Spent(sum(sum(one.failures.values()) for one in protocols)),
        queue=Spent(series.queued.count, series.queued.total),
        compute=Spent(executions.count, executions.total),
    )
