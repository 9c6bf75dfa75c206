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


def test_what_ran_with_copies_is_marked_on_both_sides() -> None:
    replica = Replica("r", cast(InferenceBackend, None), cast(RepositoryControl, None))
    batches = [Batch([], 1, "full", 0) for _ in range(3)]
    batches[1].copies = True
    for version, batch in zip((STABLE, CANDIDATE, CANDIDATE), batches, strict=True):
        replica.in_flight.setdefault(version, set()).add(batch)
        replica.mark_beside(version, batch)
    assert [batch.copies for batch in batches] == [True, True, True]
    replica.in_flight = {}
    alone = Batch([], 1, "full", 0)
    replica.mark_beside(STABLE, alone)
    assert not alone.copies
