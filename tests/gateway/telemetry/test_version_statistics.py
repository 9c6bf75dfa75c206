"""The counters as Triton's statistics extension has them."""

from __future__ import annotations

from gateway.errors import ErrorCode
from gateway.statistics import Spent, VersionStatistics
from gateway.telemetry.version_statistics import statistics_of
from tests.gateway.telemetry.test_metrics import MILLISECOND, V1, V2, Told

WALL = 1_800_000_000_000 * MILLISECOND


def test_what_was_counted() -> None:
    told = Told()
    told.request(rows=3)
    told.request(rows=2, took_ms=10, protocol="rest_json")
    answered = told.clock.now()
    told.clock.advance(7 * MILLISECOND)
    told.request(code=ErrorCode.DEADLINE_EXCEEDED, rows=4)
    told.request(code=ErrorCode.OVERLOADED, rows=0)
    told.metrics.batch_done(V1, 2, 5, "idle", 2 * MILLISECOND, True)
    told.metrics.batch_done(V1, 1, 4, "idle", 1 * MILLISECOND, False)
    assert told.clock.now() - answered == 7 * MILLISECOND
    assert statistics_of(told.metrics, V1, told.clock.now(), WALL) == VersionStatistics(
        model_name="m",
        version="1",
        last_inference_ms=1_800_000_000_000 - 7,
        inference_count=5,
        execution_count=1,
        success=Spent(2, 15 * MILLISECOND),
        fail=Spent(2),
        queue=Spent(3, 3 * MILLISECOND),
        compute=Spent(2, 3 * MILLISECOND),
    )
    assert statistics_of(told.metrics, V2, told.clock.now(), WALL) == VersionStatistics(model_name="m", version="2")
