"""Shows the counters to Prometheus: names, help texts, labels, units. Runs at a scrape only."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import gateway
from gateway.telemetry.loop_lag import LoopLagProbe
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.series import VersionSeries

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NS = 1e-9
_SECOND = 1e9


class Exposition:
    """Owns the Prometheus registry of this gateway."""

    def __init__(self, metrics: Metrics, lag: LoopLagProbe) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(metrics, lag))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """Returns every metric in Prometheus' text format."""
        return generate_latest(self._registry)


class _Collector(Collector):
    def __init__(self, metrics: Metrics, lag: LoopLagProbe) -> None:
        self._metrics = metrics
        self._lag = lag

    def describe(self) -> list[Metric]:
        # Without this, registering would collect once, before the engine exists.
        return []

    def collect(self) -> Iterator[Metric]:
        self._metrics.forget_retired()
        table = list(self._metrics.table)
        yield from _requests(table)
        yield from _batches(table)
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        metrics, sources = self._metrics, self._metrics.sources
        rejected = CounterMetricFamily(
            "sluice_rejected", "Requests refused at the door, before they were queued.", labels=["code"]
        )
        for code, count in list(metrics.rejected.items()):
            rejected.add_metric([code.value], count)
        yield rejected
        yield GaugeMetricFamily(
            "sluice_requests_in_flight", "Requests accepted and not answered yet.", value=sources.in_flight()
        )
        rows = GaugeMetricFamily("sluice_queue_rows", "Rows waiting to be batched.", labels=["model", "version"])
        size = GaugeMetricFamily("sluice_queue_bytes", "Bytes waiting to be batched.", labels=["model", "version"])
        owned = metrics.table.versions()
        for version, waiting_rows, waiting_bytes in sources.queues():
            if version in owned:
                rows.add_metric(owned[version].labels, waiting_rows)
                size.add_metric(owned[version].labels, waiting_bytes)
        yield rows
        yield size
        connections = GaugeMetricFamily("sluice_connections", "Open connections.", labels=["listener"])
        for listener, count in sources.connections().items():
            connections.add_metric([listener], count)
        yield connections
        lag = HistogramMetricFamily("sluice_event_loop_lag_seconds", "How late the event loop ran a timer.")
        lag.add_metric([], self._lag.lag.cumulative(_NS), self._lag.lag.total / _SECOND)
        yield lag
        states = GaugeMetricFamily(
            "sluice_version_state", "1 for the state a version is in.", labels=["model", "version", "state"]
        )
        for version, (state, _) in list(metrics.states.items()):
            states.add_metric([version.model_name, str(version.number), state.value], 1)
        yield states
        build = GaugeMetricFamily("sluice_build_info", "The running gateway.", labels=["version", "python"])
        build.add_metric([gateway.__version__, platform.python_version()], 1)
        yield build


def _requests(table: list[VersionSeries]) -> Iterator[Metric]:
    labels = ["model", "version", "protocol"]
    total = CounterMetricFamily("sluice_requests", "Requests by outcome.", labels=[*labels, "outcome"])
    duration = HistogramMetricFamily(
        "sluice_request_duration_seconds", "From a request's last byte to its answer; successful ones.", labels=labels
    )
    rows = CounterMetricFamily("sluice_request_rows", "Rows of the requests that were queued.", labels=labels[:2])
    queued = HistogramMetricFamily(
        "sluice_queue_duration_seconds", "From a request's arrival to its batch leaving.", labels=labels[:2]
    )
    for series in table:
        for protocol, counts in list(series.items()):
            names = [*series.labels, protocol]
            if counts.ok or not counts.failures:
                total.add_metric([*names, "ok"], counts.ok)
            for code, count in list(counts.failures.items()):
                total.add_metric([*names, code.value], count)
            duration.add_metric(names, counts.duration.cumulative(_NS), counts.duration.total / _SECOND)
        rows.add_metric(series.labels, series.rows)
        queued.add_metric(series.labels, series.queued.cumulative(_NS), series.queued.total / _SECOND)
    yield from (total, duration, rows, queued)


def _batches(table: list[VersionSeries]) -> Iterator[Metric]:
    labels = ["model", "version"]
    total = CounterMetricFamily("sluice_batches", "Batches sent, by why they left.", labels=[*labels, "reason"])
    failed = CounterMetricFamily("sluice_batch_failures", "Batches that the backend did not execute.", labels=labels)
    rows = HistogramMetricFamily("sluice_batch_rows", "Rows of a batch.", labels=labels)
    requests = HistogramMetricFamily("sluice_batch_requests", "Requests in a batch.", labels=labels)
    backend = HistogramMetricFamily(
        "sluice_backend_duration_seconds", "From sending a batch to its answer.", labels=labels
    )
    for series in table:
        if not series.reasons:
            continue
        for reason, count in list(series.reasons.items()):
            total.add_metric([*series.labels, reason], count)
        failed.add_metric(series.labels, series.failed_batches)
        rows.add_metric(series.labels, series.batch_rows.cumulative(1), series.batch_rows.total)
        requests.add_metric(series.labels, series.batch_requests.cumulative(1), series.batch_requests.total)
        backend.add_metric(series.labels, series.backend.cumulative(_NS), series.backend.total / _SECOND)
    yield from (total, failed, rows, requests, backend)
