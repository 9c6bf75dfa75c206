"""Triton's statistics extension: one answer for gRPC and for REST, with the same fields."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from gateway._generated import open_inference_pb2 as pb
from gateway.statistics import Spent, VersionStatistics

_NOTHING = Spent()


def statistics_message(versions: Iterable[VersionStatistics]) -> bytes:
    """Returns a ModelStatisticsResponse."""
    response = pb.ModelStatisticsResponse()
    for one in versions:
        found = response.model_stats.add(
            name=one.model_name,
            version=one.version,
            last_inference=one.last_inference_ms,
            inference_count=one.inference_count,
            execution_count=one.execution_count,
        )
        for field, spent in _durations(one).items():
            getattr(found.inference_stats, field).CopyFrom(pb.StatisticDuration(count=spent.count, ns=spent.ns))
    encoded: bytes = response.SerializeToString()
    return encoded


def statistics_json(versions: Iterable[VersionStatistics]) -> bytes:
    """Returns the same as Triton's JSON object."""
    return orjson.dumps(
        {
            "model_stats": [
                {
                    "name": one.model_name,
                    "version": one.version,
                    "last_inference": one.last_inference_ms,
                    "inference_count": one.inference_count,
                    "execution_count": one.execution_count,
                    "inference_stats": {
                        field: {"count": spent.count, "ns": spent.ns} for field, spent in _durations(one).items()
                    },
                    "batch_stats": [],
                    "memory_usage": [],
                }
                for one in versions
            ]
        }
    )


def _durations(one: VersionStatistics) -> dict[str, Spent]:
    """Returns the fields by their names in the protocol.

    What happens inside Triton is all in `compute_infer`; the two beside it have its count and no time, because
    perf_analyzer aborts where these counts differ.
    """
    beside = Spent(one.compute.count)
    return {
        "success": one.success,
        "fail": one.fail,
        "queue": one.queue,
        "compute_input": beside,
        "compute_infer": one.compute,
        "compute_output": beside,
        "cache_hit": _NOTHING,
        "cache_miss": _NOTHING,
    }
