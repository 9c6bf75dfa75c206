"""What one arm of a release got and did."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.log_histogram import LogHistogram


class ArmStats:
    """One arm's requests, failures and latencies (from a request's last byte to its answer)."""

    __slots__ = ("errors", "latency", "requests", "version")

    def __init__(self, version: int, requests: int = 0, errors: int = 0, bins: Mapping[int, int] | None = None) -> None:
        self.version = version
        self.requests = requests
        self.errors = errors
        self.latency = LogHistogram(bins)
