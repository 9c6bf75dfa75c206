"""Which executions of a model's versions shared a replica: only like is compared with like."""

from __future__ import annotations

from typing import cast

from gateway.engine.batch import Batch
from gateway.engine.replicas import Replica
from gateway.ports import InferenceBackend, RepositoryControl
from gateway.versions import ModelVersion

STABLE, CANDIDATE, OTHER = ModelVersion("m", 1), ModelVersion("m", 2), ModelVersion("n", 1)


def test_both_know_that_they_ran_side_by_side_and_others_do_not_matter() -> None:
    replica = Replica("r", cast(InferenceBackend, None), cast(RepositoryControl, None))

    def sent(version: ModelVersion) -> Batch:
        batch = Batch([], 1, "full", 0)
        replica.in_flight.setdefault(version, set()).add(batch)
        replica.mark_beside(version, batch)
        return batch

    other, first, second = sent(OTHER), sent(STABLE), sent(STABLE)
    assert not any(batch.beside for batch in (other, first, second))
    replica.in_flight[STABLE].discard(first)
    tried = sent(CANDIDATE)
    assert (tried.beside, second.beside, first.beside, other.beside) == (True, True, False, False)
    replica.in_flight[STABLE].clear()
    assert not sent(CANDIDATE).beside
