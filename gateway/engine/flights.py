"""The batches of one version that are on their way: who holds which slot, and how long executions really take."""

from __future__ import annotations

from gateway.core.service_time import ServiceTimer
from gateway.engine.batch import Batch
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.messages import Instant, Nanos
from gateway.versions import ModelVersion

_MOST_SIZES = 64


class Flights:
    """Owns the set of batches in flight. A slot is held exactly while its batch is in the set."""

    def __init__(self, version: ModelVersion, replicas: ReplicaSet, instances: int, slots_per_instance: int) -> None:
        self.version = version
        self.replicas = replicas
        self.batches: set[Batch] = set()
        self.sizes: set[int] = set()
        """Batch sizes (rows) that occurred; what replaces this version is warmed with them."""
        self._instances = instances
        self._slots = instances * slots_per_instance
        self._timers: dict[str, ServiceTimer] = {}

    def free(self) -> int:
        """Returns how many more batches may be sent now."""
        return self.replicas.free_slots(self.version, self._slots)

    def take(self, batch: Batch, now: Instant) -> Replica | None:
        """Gives `batch` a slot on the best replica, or returns None when there is none."""
        replica = self.replicas.acquire(self.version, self._slots, batch)
        if replica is not None:
            self.batches.add(batch)
            batch.sent_at = now
            if len(self.sizes) < _MOST_SIZES:
                self.sizes.add(batch.rows)
            timer = self._timers.get(replica.name)
            if timer is None:
                timer = self._timers[replica.name] = ServiceTimer(self._instances)
            timer.sent(id(batch), now)
        return replica

    def end(self, batch: Batch, now: Instant) -> Nanos | None:
        """Gives the slot of `batch` back; returns how long it executed where that is known. Again is harmless."""
        if batch not in self.batches:
            return None
        self.batches.discard(batch)
        self.replicas.release(self.version, batch)
        return self._timers[batch.replica.name].finished(id(batch), now) if batch.replica is not None else None
