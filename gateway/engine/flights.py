"""The batches of one version that are on their way: who holds which slot, and how long executions really take."""

from __future__ import annotations

from gateway.core.service_time import ServiceTimer
from gateway.engine.batch import Batch
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.messages import Instant, Nanos
from gateway.versions import ModelVersion

_MOST_SIZES = 64
_UNKNOWN: Nanos = 1_000_000_000
_LONGEST: Nanos = 30_000_000_000


class Flights:
    """Owns the batches in flight. Each holds a slot while it is in the set, and a while longer when it is abandoned."""

    def __init__(self, version: ModelVersion, replicas: ReplicaSet, instances: int, slots_per_instance: int) -> None:
        self.version = version
        self.replicas = replicas
        self.batches: set[Batch] = set()
        self.sizes: set[int] = set()
        """Batch sizes (rows) that occurred; what replaces this version is warmed with them."""
        self._instances = instances
        self._slots = instances * slots_per_instance
        self._timers: dict[str, ServiceTimer] = {}
        self._held: dict[Batch, Instant] = {}
        self._given_up = 0

    def free(self) -> int:
        """Returns how many more batches may be sent now."""
        return self.replicas.free_slots(self.version, self._slots)

    def starving(self) -> bool:
        """Whether one of several replicas has an instance with nothing to do."""
        replicas = self.replicas
        return len(replicas.replicas) > 1 and replicas.starving(self.version, self._instances)

    def usable(self) -> int | None:
        """How many instances can be reached; None: there is one replica, or none to reach."""
        replicas = self.replicas
        if len(replicas.replicas) == 1:
            return None
        return self._instances * replicas.ready(self.version) or None

    def next_replica(self) -> Replica | None:
        """Returns where the next batch would go; None when no slot is free."""
        return self.replicas.best(self.version, self._slots)

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

    def abandon(self, batch: Batch, now: Instant, learned: Nanos | None) -> None:
        """Nobody waits for `batch` any more; its slot is held while the backend is probably still busy with it.

        That is the time it usually takes (`learned`), twice as long for each batch in a row that was given up without
        an answer, at most half a minute: a stalled backend is not fed with work that nobody will wait for.
        """
        self.batches.discard(batch)
        span = min((learned or _UNKNOWN) << min(self._given_up, 16), _LONGEST)
        self._given_up += 1
        self._held[batch] = max(now, batch.sent_at + span)

    def release_due(self, now: Instant) -> Instant | None:
        """Gives back the slots of abandoned batches whose time is over; returns when the next one is due."""
        if not self._held:
            return None
        for batch in [batch for batch, until in self._held.items() if until <= now]:
            del self._held[batch]
            self._give_back(batch, now)
        return min(self._held.values(), default=None)

    def end(self, batch: Batch, now: Instant) -> Nanos | None:
        """Gives the slot of `batch` back; returns how long it executed where that is known. Again is harmless."""
        if batch not in self.batches:
            return None
        self.batches.discard(batch)
        self._given_up = 0
        return self._give_back(batch, now)

    def _give_back(self, batch: Batch, now: Instant) -> Nanos | None:
        self.replicas.release(self.version, batch)
        return self._timers[batch.replica.name].finished(id(batch), now) if batch.replica is not None else None
