"""Requests a second by version over the last moments, for the status page and `sluice models list`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.messages import Instant, Nanos
from gateway.ports import Cancellable, Clock
from gateway.telemetry.metrics import Metrics, Totals
from gateway.versions import ModelVersion

_SECOND: Nanos = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one version did a second, on average; `rows_per_batch` is 0 where no batch was sent."""

    requests: float
    failures: float
    rows: float
    rows_per_batch: float


NO_RATE = Rate(requests=0.0, failures=0.0, rows=0.0, rows_per_batch=0.0)


class RateMeter:
    """Remembers the totals of every second of the last `window` seconds."""

    def __init__(self, clock: Clock, metrics: Metrics, window: int = 10) -> None:
        self._clock = clock
        self._metrics = metrics
        self._seen: deque[tuple[Instant, dict[ModelVersion, Totals]]] = deque(maxlen=window + 1)
        self._timer: Cancellable | None = None

    def start(self) -> None:
        """Begins to sample; again is harmless."""
        if self._timer is None:
            self._sample()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sample(self) -> None:
        now = self._clock.now()
        self._seen.append((now, self._metrics.totals()))
        self._timer = self._clock.call_at(now + _SECOND, self._sample)

    def requests(self) -> int:
        """Returns the requests of all versions since the start."""
        return sum(total.requests for total in self._metrics.totals().values())

    def rates(self) -> dict[ModelVersion, Rate]:
        """Returns the rates of the versions that have counters, over the window or since the start if that is later."""
        now, latest = self._clock.now(), self._metrics.totals()
        if not self._seen or now <= self._seen[0][0]:
            return dict.fromkeys(latest, NO_RATE)
        since, before = self._seen[0]
        seconds = (now - since) / _SECOND
        found = {}
        for version, after in latest.items():
            start = before.get(version, Totals(0, 0, 0, 0))
            batches, rows = after.batches - start.batches, after.rows - start.rows
            found[version] = Rate(
                requests=max(0, after.requests - start.requests) / seconds,
                failures=max(0, after.failures - start.failures) / seconds,
                rows=max(0, rows) / seconds,
                rows_per_batch=rows / batches if batches > 0 else 0.0,
            )
        return found
