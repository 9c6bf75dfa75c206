"""What a gateway says of itself, put together: counters, their exposition, rates, loop lag, access log."""

from __future__ import annotations

import asyncio
import time

from gateway.config import TelemetryConfig
from gateway.ports import Clock
from gateway.statistics import VersionStatistics
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.loop_lag import LoopLagProbe
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import combined
from gateway.telemetry.rates import RateMeter
from gateway.telemetry.version_statistics import statistics_of
from gateway.versions import ModelVersion


class Telemetry:
    """Owns the observers of one gateway; `observer` is the one the engine talks to."""

    def __init__(self, config: TelemetryConfig, clock: Clock) -> None:
        self._clock = clock
        self.metrics = Metrics(clock.now, config.latency_buckets_us, config.max_version_series)
        self.lag = LoopLagProbe(clock, config.loop_probe_ms * 1_000_000)
        self.rates = RateMeter(clock, self.metrics)
        self.exposition = Exposition(self.metrics, self.lag)
        self._writer: LogWriter | None = None
        self._access_log: AccessLog | None = None
        if config.access_log:
            self._writer = LogWriter(config.access_log, config.access_log_bytes, config.access_log_files)
            self._access_log = AccessLog(
                self._writer,
                clock,
                time.time_ns,
                lines_per_second=config.access_log_lines_per_second,
                repeats_per_second=config.access_log_repeats_per_second,
            )
        self.observer = combined(self.metrics, self._access_log)

    def statistics_of(self, version: ModelVersion) -> VersionStatistics:
        """Returns what was counted of a version."""
        return statistics_of(self.metrics, version, self._clock.now(), time.time_ns())

    def start(self) -> None:
        self.lag.start()
        self.rates.start()
        if self._access_log is not None:
            self._access_log.start()

    async def stop(self) -> None:
        """Writes what is left of the access log."""
        self.lag.stop()
        self.rates.stop()
        if self._access_log is not None:
            self._access_log.stop()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
