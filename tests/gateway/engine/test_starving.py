"""Whether one of several replicas has nothing to do: then nothing is held back for a better batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from gateway.engine.batch import Batch
from gateway.engine.flights import Flights
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.ports import InferenceBackend, RepositoryControl
from gateway.versions import ModelVersion

VERSION = ModelVersion("m", 1)


def replica(name: str, batches: int) -> Replica:
    backend: Any = SimpleNamespace(available=True)
    made = Replica(name, cast(InferenceBackend, backend), cast(RepositoryControl, None))
    made.ready_versions.add(VERSION)
    if batches:
        made.in_flight[VERSION] = {Batch([], 1, "full", 0) for _ in range(batches)}
    return made


def starving(*replicas: Replica, instances: int = 1) -> bool:
    return Flights(VERSION, ReplicaSet(replicas), instances, 2).starving()


def test_one_of_several_replicas_has_fewer_batches_than_instances() -> None:
    assert not starving(replica("a", 1), replica("b", 2))
    assert starving(replica("a", 2), replica("b", 0))
    assert starving(replica("a", 2), replica("b", 1), instances=2)


def test_who_cannot_be_sent_anything_does_not_starve() -> None:
    lost, gone = replica("b", 0), replica("c", 0)
    cast(Any, lost.backend).available = False
    gone.ready_versions.clear()
    assert not starving(replica("a", 1), lost, gone)


def test_the_only_replica_is_the_business_of_staging() -> None:
    assert not starving(replica("a", 0))
