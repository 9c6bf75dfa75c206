"""What happened, second by second: every request of every user, kept small enough for hours. Pure.

Latencies go into histograms with three significant digits (`gateway.bench.histogram`): nothing is rounded to the
"nice" values that locust's own tables show.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gateway.bench.histogram import Histogram

_MOST_ERRORS = 50


class Journal:
    """Counts by second and by name. Names say protocol and model, such as `REST wide_deep`."""

    def __init__(self) -> None:
        self._seconds: dict[int, dict[str, list[float]]] = {}
        self._failures: dict[int, int] = {}
        self._users: dict[int, int] = {}
        self._errors: dict[str, int] = {}
        self.lags_ms: list[float] = []

    def note(self, at: float, name: str, milliseconds: float, error: str | None) -> None:
        """Counts one request that ended `at` seconds into the run; `error` None means that the answer was right."""
        second = int(at)
        if error is None:
            self._seconds.setdefault(second, {}).setdefault(name, []).append(milliseconds)
            return
        self._seconds.setdefault(second, {}).setdefault(name, [])
        self._failures[second] = self._failures.get(second, 0) + 1
        key = f"{name}: {error}"[:300]
        if key in self._errors or len(self._errors) < _MOST_ERRORS:
            self._errors[key] = self._errors.get(key, 0) + 1

    def users(self, at: float, count: int) -> None:
        """Notes how many users there are."""
        self._users[int(at)] = count

    def document(self, plan: list[tuple[str, float, float]]) -> dict[str, Any]:
        """Returns everything as JSON: `series` by second, `names` and `phases` with their latencies in ms."""
        names = sorted({name for second in self._seconds.values() for name in second})
        return {
            "series": [self._second(second) for second in range(max(self._seconds, default=-1) + 1)],
            "names": {name: self._summary(0, float("inf"), name) for name in names},
            "phases": {
                name: {"start": start, "end": end, **self._summary(start, end, None)} for name, start, end in plan
            },
            "errors": dict(sorted(self._errors.items(), key=lambda item: -item[1])),
            "locust_lag_p99_ms": round(float(np.percentile(self.lags_ms, 99)), 2) if self.lags_ms else 0.0,
        }

    def _second(self, second: int) -> dict[str, Any]:
        values = [value for of in self._seconds.get(second, {}).values() for value in of]
        return {
            "second": second,
            "right": len(values),
            "failed": self._failures.get(second, 0),
            "users": self._users.get(second),
            "p50": round(float(np.percentile(values, 50)), 2) if values else None,
            "p99": round(float(np.percentile(values, 99)), 2) if values else None,
        }

    def _summary(self, start: float, end: float, name: str | None) -> dict[str, Any]:
        histogram, failed, seconds = Histogram(), 0, 0
        for second, of in self._seconds.items():
            if not start <= second < end:
                continue
            seconds += 1
            failed += self._failures.get(second, 0) if name is None else 0
            for key, values in of.items():
                if name is None or key == name:
                    histogram.add((np.array(values) * 1e6).astype(np.int64))
        if name is not None:
            failed = sum(count for key, count in self._errors.items() if key.startswith(f"{name}: "))
        found = {key: round(histogram.percentile(p) / 1000, 2) for key, p in _PERCENTILES.items()}
        return {
            "right": histogram.count,
            "failed": failed,
            "per_second": round(histogram.count / max(1, seconds), 1),
            **found,
            "max": round(histogram.highest_us / 1000, 2),
        }


_PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
