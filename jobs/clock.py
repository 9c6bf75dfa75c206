"""Time of the job runner: the one place of `jobs` that reads a clock."""

from __future__ import annotations

import time


def now() -> float:
    """Returns monotonic seconds."""
    return time.monotonic_ns() / 1e9  # noqa: TID251


def wall() -> float:
    """Returns seconds since the epoch, for records and people."""
    return time.time()
