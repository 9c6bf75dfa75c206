"""Shows the counters to Prometheus: names, help texts, labels, units. Runs at a scrape only."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest

import gateway
from gateway.telemetry.loop_lag import LoopLagProbe
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.prometheus_text import MetricsText, label_text
from gateway.telemetry.release_text import release_metrics
from gateway.telemetry.series import NONE, VersionSeries
from gateway.versions import InputDrift

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECOND = 1_000_000_000

_Labelled = list[tuple[str, VersionSeries]]


class Exposition:
    """Renders the metrics of this gateway and its process."""

    def __init__(self, metrics: Metrics, lag: LoopLagProbe) -> None:
        self._metrics = metrics
        self._lag = lag
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    def render(self) -> bytes:
        """Returns every metric in Prometheus' text format."""
        metrics, text = self._metrics, MetricsText()
        metrics.forget_retired()
        table = [(label_text(model=one.labels[0], version=one.labels[1]), one) for one in metrics.table]
        _requests(text, table)
        # What was refused before a version was found has neither rows nor batches, nor anything that took time.
        resolved = [(labels, one) for labels, one in table if one.labels[1] != NONE]
        _durations(text, resolved)
        _batches(text, [(labels, one) for labels, one in resolved if one.reasons])
        self._gauges(text)
        self._registry(text)
        owned = metrics.table.versions()
        _drift(text, [(label_text(model=version.model_name, version=str(version.number), input=drift.name), drift)
                      for version, drift in metrics.sources.drift() if version in owned])  # fmt: skip
        release_metrics(text, metrics.sources.releases())
        self._state(text)
        return text.render() + generate_latest(self._process)

    def _gauges(self, text: MetricsText) -> None:
        metrics, sources = self._metrics, self._metrics.sources
        text.family("sluice_rejected_total", "counter", "Requests refused at the door, before they were queued.")
        for code, count in metrics.rejected.items():
            text.value(label_text(code=code.value), count)
        text.family("sluice_requests_in_flight", "gauge", "Requests accepted and not answered yet.")
        text.value("", sources.in_flight())
        owned = metrics.table.versions()
        queues = [
            (label_text(model=owned[version].labels[0], version=owned[version].labels[1]), rows, size)
            for version, rows, size in sources.queues()
            if version in owned
        ]
        text.family("sluice_queue_rows", "gauge", "Rows waiting to be batched.")
        for labels, rows, _ in queues:
            text.value(labels, rows)
        text.family("sluice_queue_bytes", "gauge", "Bytes waiting to be batched.")
        for labels, _, size in queues:
            text.value(labels, size)
        text.family("sluice_connections", "gauge", "Open connections.")
        for listener, count in sources.connections().items():
            text.value(label_text(listener=listener), count)

    def _registry(self, text: MetricsText) -> None:
        found = self._metrics.sources.registry()
        if found is not None:
            text.family("sluice_registry_age_seconds", "gauge", "Time since the registry was last read.")
            text.value("", found[0])
            text.family("sluice_registry_alarms", "gauge", "What is wrong in the registry and was left out of account.")
            text.value("", found[1])

    def _state(self, text: MetricsText) -> None:
        text.family("sluice_event_loop_lag_seconds", "histogram", "How late the event loop ran a timer.")
        text.histogram("", self._lag.lag, _SECOND)
        text.family("sluice_version_state", "gauge", "1 for the state a version is in.")
        for version, (state, _) in self._metrics.states.items():
            text.value(label_text(model=version.model_name, version=str(version.number), state=state.value), 1)
        text.family("sluice_build_info", "gauge", "The running gateway.")
        text.value(label_text(version=gateway.__version__, python=platform.python_version()), 1)


def _requests(text: MetricsText, table: _Labelled) -> None:
    text.family("sluice_requests_total", "counter", "Requests by outcome.")
    for labels, series in table:
        for protocol, counts in series.protocols.items():
            names = f"{labels},{label_text(protocol=protocol)}"
            if counts.ok or not counts.failures:
                text.value(f'{names},outcome="ok"', counts.ok)
            for code, count in counts.failures.items():
                text.value(f"{names},{label_text(outcome=code.value)}", count)


def _durations(text: MetricsText, table: _Labelled) -> None:
    text.family(
        "sluice_request_duration_seconds",
        "histogram",
        "From a request's last byte to its answer; successful ones.",
    )
    for labels, series in table:
        for protocol, counts in series.protocols.items():
            text.histogram(f"{labels},{label_text(protocol=protocol)}", counts.duration, _SECOND)
    text.family("sluice_request_rows_total", "counter", "Rows of the requests that were queued.")
    for labels, series in table:
        text.value(labels, series.rows)
    text.family("sluice_queue_duration_seconds", "histogram", "From a request's arrival to its batch leaving.")
    for labels, series in table:
        text.histogram(labels, series.queued, _SECOND)


def _batches(text: MetricsText, table: _Labelled) -> None:
    text.family("sluice_batches_total", "counter", "Batches sent, by why they left.")
    for labels, series in table:
        for reason, count in series.reasons.items():
            text.value(f"{labels},{label_text(reason=reason)}", count)
    text.family("sluice_batch_failures_total", "counter", "Batches that the backend did not execute.")
    for labels, series in table:
        text.value(labels, series.failed_batches)
    text.family("sluice_batch_rows", "histogram", "Rows of a batch.")
    for labels, series in table:
        text.histogram(labels, series.batch_rows)
    text.family("sluice_batch_requests", "histogram", "Requests in a batch.")
    for labels, series in table:
        text.histogram(labels, series.batch_requests)
    text.family("sluice_backend_duration_seconds", "histogram", "From sending a batch to its answer.")
    for labels, series in table:
        text.histogram(labels, series.backend, _SECOND)


def _drift(text: MetricsText, table: list[tuple[str, InputDrift]]) -> None:
    text.family("sluice_input_drift_psi", "gauge", "Population stability index of sampled inputs against calibration.")
    for labels, drift in table:
        if drift.psi is not None:
            text.value(labels, round(drift.psi, 6))
    text.family("sluice_input_drift_psi_by_chance", "gauge", "What the index would be on average without any drift.")
    for labels, drift in table:
        if drift.psi is not None:
            text.value(labels, round(drift.by_chance, 6))
    for name, help_text, values in (
        ("sampled_rows", "Rows that were compared with the calibration.", [drift.rows for _, drift in table]),
        ("sampled_elements", "Elements that were compared with the calibration.", [d.elements for _, d in table]),
        ("not_finite", "Sampled elements that were NaN or infinite.", [drift.not_finite for _, drift in table]),
        ("out_of_range", "Sampled elements outside the calibrated range or the vocabulary.",
         [drift.out_of_range for _, drift in table]),
    ):  # fmt: skip
        text.family(f"sluice_input_{name}_total", "counter", help_text)
        for (labels, _), value in zip(table, values, strict=True):
            text.value(labels, value)
