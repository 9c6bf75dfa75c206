"""The replicas (Triton endpoints) of the gateway and the choice between them.

One gateway knows exactly what it has outstanding where, so the least outstanding rows among the replicas that are
connected, have the version ready and have a free slot is the best choice; counts come from sets of batches in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.engine.batch import Batch
from gateway.ports import InferenceBackend, RepositoryControl
from gateway.versions import ModelVersion


class Replica:
    """One Triton endpoint: its data connection, its control connection and what is in flight there."""

    def __init__(self, name: str, backend: InferenceBackend, control: RepositoryControl) -> None:
        self.name = name
        self.backend = backend
        self.control = control
        self.ready_versions: set[ModelVersion] = set()
        self.single_file = asyncio.Lock()
        """Held by whoever loads or unloads there: one at a time."""
        self.losses = 0
        """How often everything that was loaded there was lost; what was begun before a loss does not count."""
        self.in_flight: dict[ModelVersion, set[Batch]] = {}

    def lose(self) -> None:
        """Forgets everything that was loaded there: its process died, or cannot be reached."""
        self.losses += 1
        self.ready_versions.clear()

    def mark_beside(self, version: ModelVersion, batch: Batch) -> None:
        """Notes of `batch` and of what else is in flight of the model here that they run side by side."""
        for other, batches in self.in_flight.items():
            if other.model_name != version.model_name:
                continue
            for running in batches:
                if other != version:
                    batch.beside = running.beside = True
                batch.copies = running.copies = batch.copies or running.copies

    def outstanding_rows(self) -> int:
        """Rows sent to this replica and not answered yet, over all versions."""
        return sum(batch.rows for batches in self.in_flight.values() for batch in batches)


class ReplicaSet:
    """All replicas, and how many batches of a version each may have in flight."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = tuple(replicas)

    def free_slots(self, version: ModelVersion, slots: int) -> int:
        """Returns how many more batches of `version` may be sent, with `slots` allowed per replica."""
        free = 0
        for replica in self.replicas:
            if version in replica.ready_versions and replica.backend.available:
                busy = replica.in_flight.get(version)
                free += slots - len(busy) if busy else slots
        return max(free, 0)

    def starving(self, version: ModelVersion, instances: int) -> bool:
        """Returns whether a replica has fewer batches of `version` than instances that could execute them."""
        return any(
            version in replica.ready_versions
            and replica.backend.available
            and len(replica.in_flight.get(version, ())) < instances
            for replica in self.replicas
        )

    def best(self, version: ModelVersion, slots: int) -> Replica | None:
        """Returns the replica that the next batch of `version` would go to, or None when no slot is free."""
        best: Replica | None = None
        best_rows = 0
        for replica in self.replicas:
            if version not in replica.ready_versions or not replica.backend.available:
                continue
            busy = replica.in_flight.get(version)
            if busy and len(busy) >= slots:
                continue
            rows = replica.outstanding_rows() if len(self.replicas) > 1 else 0
            if best is None or rows < best_rows:
                best, best_rows = replica, rows
        return best

    def acquire(self, version: ModelVersion, slots: int, batch: Batch) -> Replica | None:
        """Takes a slot for `batch` on the best replica, or returns None when no slot is free."""
        best = self.best(version, slots)
        if best is not None:
            best.in_flight.setdefault(version, set()).add(batch)
            batch.replica = best
        return best

    def release(self, version: ModelVersion, batch: Batch) -> None:
        """Gives the slot of `batch` back."""
        if batch.replica is not None:
            busy = batch.replica.in_flight.get(version)
            if busy is not None:
                busy.discard(batch)
                if not busy:
                    del batch.replica.in_flight[version]

    def ready(self, version: ModelVersion) -> int:
        """Returns how many replicas could take `version` now or as soon as a slot is free."""
        return sum(version in replica.ready_versions and replica.backend.available for replica in self.replicas)

    def reachable(self, version: ModelVersion) -> bool:
        """Whether any replica could take `version` now or as soon as a slot is free."""
        return self.ready(version) > 0
