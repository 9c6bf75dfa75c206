"""Builds the queue of one version from the configuration and from what the version says of itself."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import Config
from gateway.core.batching import Batcher, BatchLimits
from gateway.core.cost_profile import CostProfile
from gateway.core.merging import HeadCache
from gateway.engine.flights import Flights
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.engine.scheduler import VersionScheduler
from gateway.messages import ModelMetadata
from gateway.ports import Clock, Observer
from gateway.versions import ModelVersion

_MILLISECOND = 1_000_000


def scheduler_of(
    version: ModelVersion,
    metadata: ModelMetadata,
    config: Config,
    replicas: ReplicaSet,
    clock: Clock,
    observer: Observer,
    heads: HeadCache,
    on_dead: Callable[[ModelVersion, Replica], None],
) -> VersionScheduler:
    """Returns the scheduler of `version`; `on_dead` hears of a copy of it that no longer answers."""
    batching = config.batching_for(version.model_name)
    batchable = metadata.batchable and metadata.max_batch_size > 0
    rows = metadata.max_batch_size if batchable else 1
    if batching.max_batch_size:
        rows = min(rows, batching.max_batch_size)
    profile = CostProfile()
    instances = max(1, metadata.instance_count)
    limits = BatchLimits(
        max_rows=max(rows, metadata.max_batch_size, 1) if not batchable else rows,
        batchable=batchable,
        max_batch_bytes=batching.max_batch_bytes,
        max_queue_rows=batching.max_queue_rows,
        max_queue_bytes=batching.max_queue_bytes,
        max_queue_delay=batching.max_queue_delay_ms * _MILLISECOND,
        instances=instances * len(replicas.replicas),
        default_priority=batching.default_priority,
        priority_step=batching.priority_step_ms * _MILLISECOND,
        min_gain_percent=batching.min_gain_percent,
    )
    flights = Flights(version, replicas, instances, batching.slots_per_instance)
    return VersionScheduler(version, Batcher(limits, profile), profile, flights, clock, observer, heads, on_dead)
