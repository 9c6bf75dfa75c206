"""The counters: what is counted where, how many series there can be, and what Prometheus reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import ErrorCode
from gateway.messages import RequestContext
from gateway.ports import Observer
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.loop_lag import LoopLagProbe
from gateway.telemetry.metrics import RETIRED_KEPT, GaugeSources, Metrics, Totals
from gateway.telemetry.rates import RateMeter
from gateway.versions import InputDrift, ModelVersion, VersionState
from tests.support.clock import ManualClock

MILLISECOND = 1_000_000
V1, V2 = ModelVersion("m", 1), ModelVersion("m", 2)


class Told:
    """Metrics on a manual clock, with one-line ways to tell them something and to read what they expose."""

    def __init__(self, most: int = 200) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics(self.clock.now, (1_000, 10_000), most)
        self.lag = LoopLagProbe(self.clock, 100 * MILLISECOND)
        self.exposition = Exposition(self.metrics, self.lag)

    def request(
        self,
        version: ModelVersion | None = V1,
        code: ErrorCode | None = None,
        rows: int = 1,
        took_ms: int = 5,
        name: str = "m",
        protocol: str = "grpc",
    ) -> None:
        observer: Observer = self.metrics
        now = self.clock.now()
        context = RequestContext("id", now - took_ms * MILLISECOND, now, protocol)
        observer.request_done(context, version, code, rows, MILLISECOND, now, name)

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        families = text_string_to_metric_families(self.exposition.render().decode())
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, tuple(sorted(labels.items()))))


def test_requests_are_counted_by_version_protocol_and_outcome() -> None:
    told = Told()
    told.request(rows=3)
    told.request(rows=2, took_ms=10)
    told.request(code=ErrorCode.DEADLINE_EXCEEDED)
    told.request(protocol="rest_json", took_ms=11)
    told.request(V2)
    value = told.value
    assert value("sluice_requests_total", model="m", version="1", protocol="grpc", outcome="ok") == 2
    assert value("sluice_requests_total", model="m", version="1", protocol="grpc", outcome="deadline_exceeded") == 1
    assert value("sluice_requests_total", model="m", version="1", protocol="rest_json", outcome="ok") == 1
    assert value("sluice_requests_total", model="m", version="2", protocol="grpc", outcome="ok") == 1
    assert value("sluice_request_rows_total", model="m", version="1") == 3 + 2 + 1 + 1
    # A bound includes its own value; failures have no duration.
    bucket = {"model": "m", "version": "1", "protocol": "grpc"}
    assert value("sluice_request_duration_seconds_bucket", le="0.001", **bucket) == 0
    assert value("sluice_request_duration_seconds_bucket", le="0.01", **bucket) == 2
    assert value("sluice_request_duration_seconds_bucket", le="+Inf", **bucket) == 2
    assert value("sluice_request_duration_seconds_sum", **bucket) == 0.015
    rest = {"model": "m", "version": "1", "protocol": "rest_json"}
    assert value("sluice_request_duration_seconds_bucket", le="0.01", **rest) == 0
    assert value("sluice_request_duration_seconds_bucket", le="+Inf", **rest) == 1
    assert value("sluice_queue_duration_seconds_count", model="m", version="1") == 4


@given(
    st.lists(
        st.tuples(st.integers(0, 12_000_000), st.sampled_from(["grpc", "rest_json", "rest_binary"]), st.integers(1, 9)),
        min_size=1, max_size=40,
    ),
    st.sampled_from([(1_000, 10_000), (1,), (500, 1_000, 2_000, 5_000, 10_000, 12_000)]),
)  # fmt: skip
def test_a_batch_counts_as_its_requests_one_by_one(
    members: list[tuple[int, str, int]], bounds: tuple[int, ...]
) -> None:
    now, dispatched = 100 * MILLISECOND, 99 * MILLISECOND
    contexts = [RequestContext("id", dispatched - ago, now, protocol) for ago, protocol, _ in members]
    rows = [own for *_, own in members]
    at_once, singly = Metrics(lambda: now, bounds), Metrics(lambda: now, bounds)
    observer: Observer = at_once
    observer.requests_done(V1, contexts, rows, dispatched, now)
    for context, own in zip(contexts, rows, strict=True):
        singly.request_done(context, V1, None, own, dispatched - context.received_at, now, "m")
    assert at_once.totals() == singly.totals()
    assert _everything(at_once) == _everything(singly)


def _everything(metrics: Metrics) -> object:
    series = metrics.table.find(V1, "m")
    histograms = {"queued": series.queued} | {protocol: own.duration for protocol, own in series.protocols.items()}
    counted = {name: (found.counts, found.total) for name, found in histograms.items()}
    return counted, series.rows, series.answered_rows, series.answered_at, metrics.rejected


def test_a_failure_without_rows_was_refused_at_the_door() -> None:
    told = Told()
    told.request(code=ErrorCode.OVERLOADED, rows=0)
    told.request(code=ErrorCode.DEADLINE_EXCEEDED, rows=1)
    told.metrics.refuse(ErrorCode.PAYLOAD_TOO_LARGE)
    assert told.value("sluice_rejected_total", code="overloaded") == 1
    assert told.value("sluice_rejected_total", code="payload_too_large") == 1
    assert told.value("sluice_rejected_total", code="deadline_exceeded") is None
    assert told.value("sluice_queue_duration_seconds_count", model="m", version="1") == 1


def test_a_clients_text_is_never_a_label() -> None:
    told = Told()
    for number in range(50):
        told.request(None, ErrorCode.MODEL_NOT_FOUND, 0, name=f"secret{number}")
    told.request(V1)
    told.request(None, ErrorCode.MODEL_NOT_READY, 0, name="m")
    assert b"secret" not in told.exposition.render()
    labels = {"protocol": "grpc", "version": "_none"}
    assert told.value("sluice_requests_total", model="_unknown", outcome="model_not_found", **labels) == 50
    assert told.value("sluice_requests_total", model="m", outcome="model_not_ready", **labels) == 1
    timed = {name for name, labels_ in told.samples() if ("version", "_none") in labels_}
    assert timed == {"sluice_requests_total"}


def test_equal_versions_are_one_series_and_series_are_bounded() -> None:
    told = Told(most=3)
    for _ in range(40):
        told.request(ModelVersion("m", int("1")))
    for number in range(2, 30):
        told.request(ModelVersion("m", number))
    for number in range(30):
        told.request(V1, protocol=f"p{number}")
    assert len(told.metrics.table) == 4
    assert len(told.metrics.table.by_id) <= 12
    assert told.value("sluice_requests_total", model="m", version="1", protocol="grpc", outcome="ok") == 40
    assert told.value("sluice_requests_total", model="_other", version="_other", protocol="grpc", outcome="ok") == 26
    assert len({dict(labels).get("protocol") for name, labels in told.samples()}) <= 18
    # Room that becomes free is used again.
    told.metrics.forget(V1)
    fresh = ModelVersion("fresh", 1)
    told.request(fresh)
    assert told.value("sluice_requests_total", model="fresh", version="1", protocol="grpc", outcome="ok") == 1


def test_batches() -> None:
    told = Told()
    told.metrics.batch_done(V1, 2, 5, "idle", 3 * MILLISECOND, True)
    told.metrics.batch_done(V1, 1, 2000, "full", 30 * MILLISECOND, False)
    value = told.value
    labels = {"model": "m", "version": "1"}
    assert value("sluice_batches_total", reason="idle", **labels) == 1
    assert value("sluice_batches_total", reason="full", **labels) == 1
    assert value("sluice_batch_failures_total", **labels) == 1
    assert value("sluice_batch_rows_bucket", le="4", **labels) == 0
    assert value("sluice_batch_rows_bucket", le="8", **labels) == 1
    assert value("sluice_batch_rows_sum", **labels) == 2005
    assert value("sluice_batch_requests_bucket", le="2", **labels) == 2
    assert value("sluice_backend_duration_seconds_bucket", le="0.01", **labels) == 1


def test_batches_and_their_requests_are_counted_at_once() -> None:
    told = Told()
    context = RequestContext("id", 0, MILLISECOND, "grpc")
    for index in range(1000):
        told.metrics.batch_done(V1, 1, 2, "full", MILLISECOND, index % 10 != 0)
        told.metrics.requests_done(V1, [context], [2], 500_000, MILLISECOND)
    assert told.metrics.totals()[V1] == Totals(1000, 0, 2000, 1000)
    assert told.value("sluice_batch_failures_total", model="m", version="1") == 100


def test_a_forgotten_version_stays_forgotten() -> None:
    told = Told()
    told.metrics.batch_done(V1, 1, 2, "full", MILLISECOND, True)
    told.metrics.forget(V1)
    assert told.metrics.totals() == {}


def test_protocols_beyond_the_first_sixteen_share_a_series() -> None:
    told = Told()
    for number in range(40):
        told.request(protocol=f"p{number}")
    told.metrics.requests_done(V1, [RequestContext("id", 0, 1, f"p{n}") for n in (39, 3)], [1, 1], 0, MILLISECOND)
    found = {protocol: series.ok for protocol, series in told.metrics.table.find(V1, "m").protocols.items()}
    assert (len(found), found["p3"], found["p15"], found["_other"]) == (17, 2, 1, 25)


def test_states_show_once_and_retired_versions_go_away() -> None:
    told = Told()
    told.metrics.version_state(V1, VersionState.LOADING, "")
    told.metrics.version_state(V1, VersionState.READY, "")
    told.metrics.version_state(V2, VersionState.READY, "")
    told.request(None, ErrorCode.MODEL_NOT_READY, 0)
    assert told.value("sluice_version_state", model="m", version="1", state="ready") == 1
    assert told.value("sluice_version_state", model="m", version="1", state="loading") is None
    told.request(V1)
    told.metrics.version_state(V1, VersionState.UNLOADED, "")
    told.clock.advance(RETIRED_KEPT)
    assert told.value("sluice_version_state", model="m", version="1", state="unloaded") == 1
    told.clock.advance(1)
    text = told.exposition.render().decode()
    assert 'version="1"' not in text
    assert 'version="2"' in text
    assert 'version="_none"' in text
    told.metrics.forget(V2)
    told.metrics.forget(V2)
    assert 'model="m"' not in told.exposition.render().decode()


def test_a_version_that_comes_back_keeps_its_counts() -> None:
    told = Told()
    told.request(V1)
    told.metrics.version_state(V1, VersionState.UNLOADED, "")
    told.metrics.version_state(V1, VersionState.LOADING, "")
    told.clock.advance(2 * RETIRED_KEPT)
    assert told.value("sluice_requests_total", model="m", version="1", protocol="grpc", outcome="ok") == 1


def test_gauges_are_looked_up_at_the_scrape() -> None:
    told = Told()
    told.request(V1)
    told.metrics.sources = GaugeSources(
        in_flight=lambda: 7, queues=lambda: [(V1, 3, 40), (V2, 1, 1)], connections=lambda: {"rest": 2, "grpc": 0}
    )
    assert told.value("sluice_requests_in_flight") == 7
    assert told.value("sluice_queue_rows", model="m", version="1") == 3
    assert told.value("sluice_queue_bytes", model="m", version="1") == 40
    assert told.value("sluice_queue_rows", model="m", version="2") is None  # it has no series of its own
    assert told.value("sluice_connections", listener="rest") == 2
    samples = told.samples()
    assert any(name == "sluice_build_info" for name, _ in samples)
    assert any(name == "process_resident_memory_bytes" for name, _ in samples)


def test_every_family_has_a_help_text() -> None:
    told = Told()
    families = list(text_string_to_metric_families(told.exposition.render().decode()))
    assert len(families) > 15
    assert all(family.documentation for family in families)


class LateClock(ManualClock):
    """Runs timers `late` ns after they were due (negative: early, as uvloop may)."""

    late = 0

    def call_at(self, when, callback):  # type: ignore[no-untyped-def]
        return super().call_at(when + self.late, callback)


def test_loop_lag() -> None:
    clock = LateClock()
    probe = LoopLagProbe(clock, 100 * MILLISECOND)
    clock.late = 3 * MILLISECOND
    probe.start()
    probe.start()
    assert clock.timers == 1
    clock.advance(103 * MILLISECOND)
    assert probe.latest == 3 * MILLISECOND
    clock.late = -MILLISECOND // 2
    clock.advance(103 * MILLISECOND)
    clock.advance(100 * MILLISECOND)
    assert probe.latest == 0
    assert probe.lag.count == 3
    assert probe.lag.total == 6 * MILLISECOND
    probe.stop()
    assert clock.timers == 0


def test_rates_are_averages_over_the_window() -> None:
    told = Told()
    meter = RateMeter(told.clock, told.metrics, window=10)
    meter.start()
    assert meter.rates() == {}
    for _ in range(20):
        for _ in range(4):
            told.request(rows=2)
        told.request(code=ErrorCode.BACKEND_FAILED, rows=2)
        told.metrics.batch_done(V1, 5, 10, "idle", MILLISECOND, True)
        told.clock.advance(1_000 * MILLISECOND)
    rate = meter.rates()[V1]
    assert (rate.requests, rate.failures, rate.rows, rate.rows_per_batch) == (5.0, 1.0, 10.0, 10.0)
    told.clock.advance(60_000 * MILLISECOND)
    idle = meter.rates()[V1]
    assert (idle.requests, idle.rows_per_batch) == (0.0, 0.0)
    assert told.metrics.totals()[V1] == Totals(100, 20, 200, 20)
    meter.stop()
    assert told.clock.timers == 0


def test_labels_are_escaped_and_names_with_any_character_come_back() -> None:
    told = Told()
    nasty = ModelVersion('a"b\\c\nd}', 1)
    told.request(nasty)
    assert told.value("sluice_requests_total", model=nasty.model_name, version="1", protocol="grpc", outcome="ok") == 1
    assert told.value("sluice_queue_duration_seconds_count", model=nasty.model_name, version="1") == 1


def test_drift_is_shown_for_versions_that_serve_and_once_there_is_something_to_say() -> None:
    told = Told()
    told.metrics.version_state(V1, VersionState.READY, "")
    said = [(V1, InputDrift("x", 0.5, 0.04, 512, 900, 5000, 3, 7)), (V1, InputDrift('"y"', None, 0.3, 9, 9, 9, 0, 0))]
    told.metrics.sources = GaugeSources(drift=lambda: [*said, (V2, said[0][1])])
    x, y = {"model": "m", "version": "1", "input": "x"}, {"model": "m", "version": "1", "input": '"y"'}
    assert told.value("sluice_input_drift_psi", **x) == 0.5
    assert told.value("sluice_input_drift_psi_by_chance", **x) == 0.04
    assert told.value("sluice_input_sampled_rows_total", **x) == 900
    assert told.value("sluice_input_sampled_elements_total", **x) == 5000
    assert told.value("sluice_input_not_finite_total", **x) == 3
    assert told.value("sluice_input_out_of_range_total", **x) == 7
    assert told.value("sluice_input_drift_psi", **y) is None
    assert told.value("sluice_input_sampled_rows_total", **y) == 9
    assert told.value("sluice_input_drift_psi", model="m", version="2", input="x") is None, "it has no series"
