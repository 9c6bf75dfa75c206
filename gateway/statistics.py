"""What Triton's statistics extension says of one model version, counted by the gateway itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """How often something happened and how many nanoseconds it took in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatistics:
    """One version since it was first loaded here.

    `inference_count` are rows of answered requests, `execution_count` successful executions (merged requests count
    once). `success` and `fail` are requests, from their arrival to their answer (how long failures took is not kept);
    `queue` the time they waited here; `compute` the executions, the way to Triton and back included.
    `last_inference_ms` is in milliseconds since the epoch, 0 for never.
    """

    model_name: str
    version: str
    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Spent = Spent()
    fail: Spent = Spent()
    queue: Spent = Spent()
    compute: Spent = Spent()
